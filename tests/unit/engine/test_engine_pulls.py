"""What is seen of pulls that fail and are tried again, and of those that a stop cuts off."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent.engine import failures
from agent.errors import EngineUnavailable, NoSuchImage
from agent.images import Progress
from tests.support.memory_engine import Fault
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    import pytest

    from agent.model.changes import TaskChange
    from agent.model.resources import Wait
    from tests.support.task_host import TaskHost

REFUSED = "CannotPullContainerError: Error response from daemon: connection refused"
AGAIN = Progress("waiting to pull busybox again", REFUSED)


async def newest(host: TaskHost) -> TaskChange:
    """The newest report, as soon as there is one."""
    async with asyncio.timeout(5):
        while not (changes := await host.deliver()):  # noqa: ASYNC110 - the outbox is looked into
            await asyncio.sleep(0.01)
    return changes[-1]


def waits(host: TaskHost) -> list[Wait]:
    return host.engine.tasks.views()[0].waits


async def test_a_pull_that_is_tried_again_says_so(host: TaskHost) -> None:
    host.pull_script = [(0.0, Progress("pulling")), (0.6, AGAIN), (0.3, Progress("pulling"))]
    began = time.time()
    await host.order(container("a"), container("b", image="absent"))
    change = await newest(host)
    assert [(c.status, c.reason) for c in change.containers] == [("PENDING", REFUSED)] * 2
    assert change.status == "PENDING"
    (wait, _) = waits(host)
    assert wait.what == (
        "the pull of busybox: waiting to pull busybox again; the last try failed: " + REFUSED
    )
    assert began + 0.5 < wait.next_try < time.time() + 0.6
    await host.until(lambda: not waits(host)[0].next_try)
    assert waits(host)[0].what.endswith("pulling; the last try failed: " + REFUSED)


async def test_what_has_passed_is_no_reason(host: TaskHost) -> None:
    host.pull_script = [(0.1, AGAIN)]
    await host.order(container("a"))
    assert (await newest(host)).containers[0].reason == REFUSED
    await host.until_known("RUNNING")
    change = (await host.deliver())[-1]
    assert (change.status, change.containers[0].reason) == ("RUNNING", "")
    assert host.container("a").reason == ""
    assert 0 < change.pull_started_at < change.pull_stopped_at


async def test_the_last_failure_is_the_one_that_stays(host: TaskHost) -> None:
    host.pull_script = [(0.1, AGAIN)]
    await host.order(container("a", image="absent"))
    await host.until_known("STOPPED")
    change = (await host.deliver())[-1]
    assert "manifest for absent not found" in change.containers[0].reason
    assert 0 < change.pull_started_at < change.pull_stopped_at


async def test_a_stop_before_a_registry_was_asked(host: TaskHost) -> None:
    host.runtime.fault("pull", Fault(EngineUnavailable("never told"), delay_s=60.0))
    await host.order(container("a"))
    await host.until(lambda: host.runtime.count("pull"))
    await host.stop()
    await host.until_known("STOPPED")
    reason = host.container("a").reason
    assert reason.startswith("TaskStoppedBeforePullBeginError: Task stopped before image pull")
    assert host.record().pull_started_at == 0


async def test_a_stop_during_a_pull_does_not_say_that_the_pull_could_not_begin(
    host: TaskHost,
) -> None:
    host.pull_script = [(60.0, Progress("pulling"))]
    await host.order(container("a"))
    await host.until(lambda: host.engine._runners[ARN].live.progress)
    await host.stop()
    await host.until_known("STOPPED")
    assert host.container("a").reason == ""
    assert 0 < host.record().pull_started_at < host.record().pull_stopped_at


async def test_a_stop_between_two_tries_says_why_the_image_is_not_there(host: TaskHost) -> None:
    host.pull_script = [(60.0, AGAIN)]
    await host.order(container("a"))
    await newest(host)
    await host.stop()
    await host.until_known("STOPPED")
    assert host.container("a").reason == REFUSED


async def test_an_image_that_is_removed_between_pull_and_create_is_pulled_again(
    host: TaskHost,
) -> None:
    """A prune from cron, while the container waits for another one or for its network."""
    host.runtime.fault("create", Fault(NoSuchImage("No such image: busybox", operation="created")))
    await host.order(container("a"))
    await host.until_known("RUNNING")
    assert host.runtime.count("pull") == 2
    assert host.container("a").reason == ""


async def test_an_image_that_is_gone_for_good_says_so(host: TaskHost) -> None:
    host.runtime.fault("create", Fault(NoSuchImage("No such image: busybox", operation="created")))
    host.runtime.fault("pull", Fault())
    host.runtime.fault("pull", Fault(NoSuchImage("manifest unknown", operation="pulled")))
    await host.order(container("a"))
    await host.until_known("STOPPED")
    assert host.container("a").reason == "CannotPullContainerError: manifest unknown"


async def test_an_engine_that_is_away_is_seen_too(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "FIRST_RETRY_S", 0.3)
    host.runtime.fault("create", Fault(EngineUnavailable("cannot reach the engine")))
    await host.order(container("a"))
    change = await newest(host)
    (told,) = change.containers
    assert (told.status, told.reason) == (
        "PENDING",
        "CannotCreateContainerError: cannot reach the engine",
    )
    await host.until_known("RUNNING")
    assert (await host.deliver())[-1].containers[0].reason == ""


async def test_a_network_that_is_tried_again_is_seen_too(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "FIRST_RETRY_S", 0.3)
    host.networks.failures = 1
    await host.order(container("a"), network_mode="awsvpc")
    change = await newest(host)
    assert change.containers[0].reason == "ContainerNetworkingError: no address is free"
    await host.until_known("RUNNING")
    assert (await host.deliver())[-1].containers[0].reason == ""
