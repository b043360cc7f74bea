"""Tasks that cannot run, and tasks that wait for room."""

from __future__ import annotations

import time

import msgspec
import pytest

from agent.engine import order_batch
from agent.errors import EngineRefused
from agent.model.payload import PortMapping
from agent.model.wire import Assignment
from tests.support.memory_engine import Fault
from tests.support.task_host import TaskHost, assignment
from tests.support.tasks import ARN, container

OTHER = ARN[:-4] + "beef"
QUESTIONS = {"list", "inspect", "ping"}
"""What may be asked of the engine while nothing is to change."""


# -- what cannot be run ---------------------------------------------------------------------------


async def test_an_unknown_image(host: TaskHost) -> None:
    await host.order(container("a", image="ghost"), container("b"))
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert last.containers[0].reason == ("CannotPullContainerError: manifest for ghost not found")
    assert host.runtime.running() == set()


async def test_a_start_that_is_refused(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(EngineRefused("exec: not found"), container="a"))
    await host.order(container("a"), container("b"))
    await host.until_known("STOPPED")
    reasons = {c.container_name: c.reason for c in (await host.deliver())[-1].containers}
    assert reasons["a"] == "CannotStartContainerError: exec: not found"
    assert host.runtime.running() == set()


async def test_a_task_that_can_never_run_is_stopped_untouched(host: TaskHost) -> None:
    await host.order(container("a", cpu=99_999))
    await host.until_known("STOPPED")
    await host.order(container("a", ("b", "START")), arn=OTHER)
    await host.until_known("STOPPED", OTHER)
    big, broken = (c for c in await host.deliver() if c.status == "STOPPED")
    assert "99999 CPU units" in big.reason
    assert broken.reason == f"Task dependencies cannot be resolved, taskArn: {OTHER}"
    assert {big.stop_code, broken.stop_code} == {"TaskFailedToStart"}
    assert {o for o, _ in host.runtime.calls} <= QUESTIONS


async def test_a_payload_that_cannot_be_read_is_reported_and_harms_no_other(
    host: TaskHost,
) -> None:
    bad = Assignment(task_arn=OTHER, desired_status="RUNNING", payload=msgspec.Raw(b'{"arn": 1}'))
    await host.send(bad, assignment(container("a")))
    await host.send(bad)
    await host.until_known("RUNNING")
    (refused,) = (c for c in await host.deliver() if c.task_arn == OTHER)
    assert refused.status == "STOPPED"
    assert refused.reason.startswith("UnrecogniedTaskError: Error loading task - ")
    assert host.engine.tasks.known_tasks() == [ARN]


async def test_a_host_holds_only_so_many_tasks(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_batch, "TASKS_MOST", 1)
    await host.send(assignment(container("a")), assignment(container("a"), arn=OTHER))
    await host.until_known("RUNNING")
    (refused,) = (c for c in await host.deliver() if c.task_arn == OTHER)
    assert (refused.status, refused.reason) == ("STOPPED", "the host holds 1 tasks already")
    assert host.engine.tasks.known_tasks() == [ARN]


async def test_a_reason_is_never_longer_than_the_wire_allows(host: TaskHost) -> None:
    ports = [PortMapping(container_port_range="9" * 5000)]
    await host.order(container("a", port_mappings=ports), container("b" * 3000, links=["x" * 3000]))
    await host.until_known("STOPPED")
    assert len((await host.deliver())[-1].reason) <= 1024


# -- waiting --------------------------------------------------------------------------------------


async def test_a_task_waits_for_room_and_says_so(host: TaskHost) -> None:
    await host.order(container("a", cpu=4000))
    await host.until_known("RUNNING")
    await host.order(container("a2", cpu=4000), arn=OTHER)
    view = next(v for v in host.engine.tasks.views() if v.arn == OTHER)
    assert "4000 CPU units; 96 of 4096 are free" in view.waits[0].what
    assert view.waits[0].since == pytest.approx(time.time(), abs=5)
    await host.stop()
    await host.until_known("RUNNING", OTHER)
    assert next(v for v in host.engine.tasks.views() if v.arn == OTHER).waits == []


async def test_what_a_queued_task_waits_for_is_told_as_it_is_now(host: TaskHost) -> None:
    small = OTHER + "2"
    await host.order(container("a", cpu=3000))
    await host.order(container("small", cpu=500), arn=small)
    await host.order(container("big", cpu=4000), arn=OTHER)
    await host.until_known("RUNNING", small)
    (wait,) = next(v for v in host.engine.tasks.views() if v.arn == OTHER).waits
    assert "596 of 4096 are free" in wait.what
    await host.stop(small)
    await host.until_known("STOPPED", small)
    (wait,) = next(v for v in host.engine.tasks.views() if v.arn == OTHER).waits
    assert "1096 of 4096 are free" in wait.what


async def test_a_waiting_task_can_be_stopped(host: TaskHost) -> None:
    await host.order(container("a", cpu=4000))
    await host.until_known("RUNNING")
    await host.order(container("a2", cpu=4000), arn=OTHER)
    await host.stop(OTHER)
    await host.until_known("STOPPED", OTHER)
    await host.order(container("a3", cpu=90), arn=OTHER + "2")
    await host.until_known("RUNNING", OTHER + "2")
