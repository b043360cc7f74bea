"""Containers that run again after they have ended, because somebody else started them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.engine import watcher
from agent.engine.labels import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.errors import EngineRefused, EngineUnavailable, NetworkFailure
from tests.support.memory_engine import Fault
from tests.support.task_host import OWNER, assignment
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    import pytest

    from tests.support.task_host import TaskHost


async def by_hand(host: TaskHost, name: str) -> None:
    """Start a container behind the agent's back."""
    await host.runtime.start_container(host.runtime.box(name).id)


async def settled(host: TaskHost) -> None:
    """Give the agent the time in which it would do something wrong."""
    await asyncio.sleep(0.2)
    await host.engine._runners[ARN].saved()


async def stopped_task(host: TaskHost) -> None:
    await host.order(container("a", stop_timeout=7))
    await host.until_known("RUNNING")
    host.runtime.exit("a", 3)
    await host.until_known("STOPPED")
    await host.deliver()


async def test_a_container_of_a_stopped_task_that_is_started_again_is_stopped_again(
    host: TaskHost,
) -> None:
    await stopped_task(host)
    with structlog.testing.capture_logs() as logs:
        await by_hand(host, "a")
        await host.until(lambda: not host.runtime.running())
        await settled(host)
    assert host.runtime.count("stop", "a") == 1
    assert host.runtime.stop_timeouts == {"a": 7}
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "a container that had ended was started again; stopping it"
    ]
    ended = host.container("a")
    assert (ended.known.name, ended.exit_code, ended.reason) == ("STOPPED", 3, "")
    assert host.record().known.wire() == "STOPPED"
    assert await host.unsent() == [], "control has heard of its end"
    assert len(host.engine.tasks.views()[0].waits) == 1, "the clean-up alone is left"
    assert host.engine.tasks.problems == []


async def test_it_is_stopped_once_and_then_left_to_whoever_insists(host: TaskHost) -> None:
    await stopped_task(host)
    await by_hand(host, "a")
    await host.until(lambda: not host.runtime.running())
    await settled(host)
    with structlog.testing.capture_logs() as logs:
        await by_hand(host, "a")
        await settled(host)
    assert host.runtime.running() == {"a"}
    assert host.runtime.count("stop", "a") == 1
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "a container that had ended was started again repeatedly; it is now left to whoever starts it"
    ]
    (problem,) = host.engine.tasks.problems
    assert "container a" in problem
    waits = host.engine.tasks.views()[0].waits
    assert [w.container for w in waits] == ["a", ""]
    assert waits[0].what.startswith("its end: somebody started it again")
    host.runtime.exit("a", 0)
    await host.until(lambda: not host.engine.tasks.problems)
    assert len(host.engine.tasks.views()[0].waits) == 1


async def test_an_agent_that_was_away_finds_it(host: TaskHost) -> None:
    await stopped_task(host)
    await host.leave()
    await by_hand(host, "a")
    await host.start()
    await host.until(lambda: not host.runtime.running())
    await settled(host)
    await host.crash()
    await by_hand(host, "a")
    await host.start()
    await settled(host)
    assert host.runtime.running() == {"a"}, "once is once, whatever the agent has been through"
    assert host.engine.tasks.problems


async def test_the_rest_of_a_running_task_is_no_excuse(host: TaskHost) -> None:
    await host.order(container("a"), container("side", essential=False))
    await host.until_known("RUNNING")
    host.runtime.exit("side", 0)
    await host.until(lambda: host.container("side").known.name == "STOPPED")
    await by_hand(host, "side")
    await host.until(lambda: host.runtime.running() == {"a"})
    await settled(host)
    assert host.record().known.wire() == "RUNNING"
    assert host.runtime.count("stop") == 1


async def test_what_is_left_running_goes_with_the_clean_up(hasty_host: TaskHost) -> None:
    host = hasty_host
    host.runtime.fault("remove", Fault(EngineUnavailable("not now"), times=3))
    await host.order(container("a"))
    await host.until_known("RUNNING")
    host.runtime.exit("a", 0)
    await host.until(lambda: host.record().is_done)
    await by_hand(host, "a")
    await host.until(lambda: not host.runtime.boxes)


async def test_a_stop_that_stops_nothing_is_given_up(host: TaskHost) -> None:
    await stopped_task(host)
    host.runtime.fault("stop", Fault(EngineRefused("cannot"), times=100))
    await by_hand(host, "a")
    await host.until(lambda: host.engine.tasks.problems)
    assert host.runtime.running() == {"a"}
    assert host.runtime.count("stop") == 5
    assert host.container("a").reason == ""


async def test_an_engine_that_is_away_is_asked_again(host: TaskHost) -> None:
    await stopped_task(host)
    host.runtime.fault("stop", Fault(EngineUnavailable("away"), times=9))
    await by_hand(host, "a")
    await host.until(lambda: not host.runtime.running())
    assert not host.engine.tasks.problems


async def test_one_that_is_gone_before_it_could_be_stopped(host: TaskHost) -> None:
    await stopped_task(host)
    host.runtime.fault("inspect", Fault(EngineUnavailable("away"), times=3))
    await by_hand(host, "a")
    host.runtime.vanish("a")
    await settled(host)
    await settled(host)
    assert host.runtime.count("stop") == 0
    assert host.container("a").reason == ""


async def test_a_container_of_no_task_that_is_started_is_removed_at_once(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task was forgotten; without its start, the next comparison would come minutes later."""
    monkeypatch.setattr(watcher, "RELIST_S", 3600.0)
    await host.send(full=True)
    await host.until(lambda: host.runtime.count("list"))
    await settled_without_tasks()
    labels = {LABEL_OWNER: OWNER, LABEL_TASK: ARN, LABEL_CONTAINER: "a"}
    made = await host.runtime.create_container("left", {"Image": "busybox", "Labels": labels})
    await settled_without_tasks()
    assert host.runtime.boxes
    await host.runtime.start_container(made)
    await host.until(lambda: not host.runtime.boxes)


async def test_what_belongs_to_no_task_goes_with_the_first_full_set_and_not_before(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "COMPARE_RETRY_S", 0.02)
    told: list[list[str]] = []

    async def listed(arns: list[str]) -> None:
        told.append(arns)
        assert not any(box.name == "left" for box in host.runtime.boxes.values())
        if len(told) == 1:
            raise NetworkFailure("the kernel is busy")

    host.on_listed = listed
    labels = {LABEL_OWNER: OWNER, LABEL_TASK: "lost", LABEL_CONTAINER: "a"}
    await host.runtime.create_container("left", {"Image": "busybox", "Labels": labels})
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await settled(host)
    assert told == []
    assert len(host.runtime.boxes) == 2
    await host.send(assignment(container("a")), full=True)
    await host.until(lambda: len(told) == 2)
    await host.send(assignment(container("a")), full=True)
    await settled(host)
    assert told == [[ARN], [ARN]], "again where it failed, and then no more"


async def settled_without_tasks() -> None:
    await asyncio.sleep(0.1)
