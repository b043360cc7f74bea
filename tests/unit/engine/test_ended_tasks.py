"""What is left of ended tasks: they are told of again, and never started a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.engine import ended_tasks as module
from agent.engine.ended_tasks import EndedTask, EndedTasks
from agent.model import payload as payloads
from agent.model.changes import TaskChange
from agent.model.status import DesiredStatus
from agent.model.wire import Assignment
from agent.state import Batch, StateStore
from tests.support.task_host import CONTROL, TaskHost, assignment
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TaskHost]:
    made = TaskHost(tmp_path / "agent.db", cleanup_wait_s=0.0)
    await made.start()
    yield made
    await made.close()


async def end_and_forget(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")
    await host.until(lambda: not host.runtime.boxes)
    while ARN in host.engine.tasks.known_tasks():
        await host.deliver()
        await host.store.beat()


async def test_an_old_order_of_a_forgotten_task_is_answered_by_its_end(host: TaskHost) -> None:
    """Control's store went back to a copy in which the task is still to run."""
    await end_and_forget(host)
    for _ in range(2):
        await host.send(assignment(container("a")), full=True)
        assert host.engine.tasks.known_tasks() == []
        (change,) = await host.deliver()
        assert (change.task_arn, change.status) == (ARN, "STOPPED")
        assert change.containers[0].exit_code is not None
        await host.crash()
        await host.start()
    assert host.runtime.count("create") == 1
    assert len({change.id for change in host.reported}) == len(host.reported)


async def test_what_has_ended_or_was_refused_is_over(host: TaskHost) -> None:
    """So that nobody waits for it before leftovers are removed."""
    assert not host.engine.is_over(ARN)
    await end_and_forget(host)
    assert host.engine.is_over(ARN)
    unknown = ARN + "x"
    assert not host.engine.is_over(unknown)
    await host.send(Assignment(task_arn=unknown, desired_status=DesiredStatus.STOPPED))
    assert host.engine.is_over(unknown)


async def test_it_is_told_of_again_to_its_own_control(host: TaskHost) -> None:
    await end_and_forget(host)
    assert [change.status for change in host.engine.holdings.ended(CONTROL)] == ["STOPPED"]
    assert host.engine.holdings.ended("another") == []


async def test_what_is_held_is_told_with_its_order(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    (held,) = host.engine.holdings.held(CONTROL)
    assert held.change.status == "RUNNING"
    assert payloads.decode(held.payload).arn == ARN
    await host.stop()
    await host.until_known("STOPPED")
    (held,) = host.engine.holdings.held(CONTROL)
    assert held.change.status == "STOPPED"
    assert payloads.decode(held.payload).desired_status is DesiredStatus.STOPPED
    assert host.engine.holdings.held("another") == []


def an_end(number: int, at: float) -> EndedTask:
    change = TaskChange(id="c", task_arn=f"t{number}", status="STOPPED", at=at)
    return EndedTask(origin="c", at=at, change=change)


async def test_they_are_kept_for_a_day_and_not_without_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    store = await StateStore.open(tmp_path / "agent.db")
    kept = EndedTasks()
    for number in range(5):
        batch = Batch()
        kept.keep(batch, an_end(number, 1000.0 + number))
        await store.commit(batch)
    rows = await store.load(module.KIND, msgspec.json.decode)
    assert list(rows) == ["t2", "t3", "t4"]
    again = await EndedTasks.open(store)
    batch = Batch()
    again.keep(batch, an_end(5, 1004.0 + module.KEPT_S))
    await store.commit(batch)
    assert list(await store.load(module.KIND, msgspec.json.decode)) == ["t4", "t5"]
    assert "t5" in again
    assert "t2" not in again
    await store.close()
