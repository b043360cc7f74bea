"""The containers that hold namespaces of tasks: made, found again, watched, removed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.engine.labels import LABEL_CONTAINER, LABEL_NAMESPACES
from agent.engine.namespace_holders import LOST
from agent.errors import EngineRefused, EngineUnavailable, StartForgotten
from agent.model import ids
from tests.support.memory_engine import Fault
from tests.support.tasks import ARN, container, payload

if TYPE_CHECKING:
    from tests.support.memory_engine import Box, MemoryEngine
    from tests.support.task_host import TaskHost

SHARED = {"pid_mode": "task", "ipc_mode": "task"}
NAME = ids.holder_engine_name(ARN, "web", "1")


def holders_of(engine: MemoryEngine) -> list[Box]:
    return [box for box in engine.boxes.values() if LABEL_NAMESPACES in box.labels]


def holder_of(engine: MemoryEngine) -> Box:
    (found,) = holders_of(engine)
    return found


async def test_containers_share_what_a_holder_of_their_own_holds(host: TaskHost) -> None:
    await host.order(container("a"), container("b"), **SHARED)
    await host.until_known("RUNNING")
    holder = holder_of(host.runtime)
    assert (holder.name, holder.status) == (NAME, "running")
    assert LABEL_CONTAINER not in holder.labels
    assert set(host.record().containers) == {"a", "b"}
    for name in ("a", "b"):
        joined = host.runtime.box(name).host_config
        assert joined["PidMode"] == joined["IpcMode"] == f"container:{holder.id}"


async def test_a_task_that_shares_nothing_has_no_holder(host: TaskHost) -> None:
    await host.order(container("a"), pid_mode="host", ipc_mode="none")
    await host.until_known("RUNNING")
    assert not holders_of(host.runtime)


async def test_the_holder_goes_last_and_before_the_clean_up(host: TaskHost) -> None:
    await host.order(container("a"), **SHARED)
    await host.until_known("RUNNING")
    holder = holder_of(host.runtime)
    await host.stop()
    await host.until_known("STOPPED")
    await host.until(lambda: not holders_of(host.runtime))
    operations = [operation for operation, what in host.runtime.calls if what in ("a", holder.name)]
    assert operations.index("stop") < operations.index("remove")
    assert not host.record().cleaned_at


async def test_a_holder_that_dies_ends_its_task_with_the_reason(host: TaskHost) -> None:
    await host.order(container("a", essential=False), container("b"), **SHARED)
    await host.until_known("RUNNING")
    host.runtime._end(holder_of(host.runtime), 137)
    await host.until_known("STOPPED")
    assert host.record().reason == LOST
    await host.until(lambda: not holders_of(host.runtime))


async def test_a_holder_that_dies_before_anything_has_run_is_started_again(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(EngineUnavailable("away"), container="a"))
    await host.order(container("a"), **SHARED)
    await host.until(lambda: host.runtime.count("start", "a") == 1)
    holder = holder_of(host.runtime)
    host.runtime._end(holder, 137)
    await host.until_known("RUNNING")
    assert (holder_of(host.runtime).id, holder.status) == (holder.id, "running")
    assert host.record().reason == ""


async def test_a_holder_is_found_again_after_a_crash(host: TaskHost) -> None:
    await host.order(container("a"), **SHARED)
    await host.until_known("RUNNING")
    holder = holder_of(host.runtime)
    await host.crash()
    await host.start()
    await host.until(lambda: not host.engine._runners[ARN].live.recheck)
    assert host.container("a").known.name == "RUNNING"
    host.runtime._end(holder, 137)
    await host.until_known("STOPPED")
    assert host.record().reason == LOST


@pytest.mark.parametrize("removed", [False, True])
async def test_a_holder_that_died_while_the_agent_was_away_ends_its_task(
    host: TaskHost, *, removed: bool
) -> None:
    await host.order(container("a"), **SHARED)
    await host.until_known("RUNNING")
    await host.crash()
    holder = holder_of(host.runtime)
    host.runtime._end(holder, 137)
    if removed:
        del host.runtime.boxes[holder.id]
    await host.start()
    await host.until_known("STOPPED")
    assert host.record().reason == LOST


async def test_a_crash_between_the_end_of_a_task_and_its_holders_leaves_nothing(
    host: TaskHost,
) -> None:
    await host.order(container("a"), **SHARED)
    await host.until_known("RUNNING")
    host.runtime.fault("remove", Fault(EngineUnavailable("away"), times=100))
    await host.stop()
    await host.until_known("STOPPED")
    await host.crash()
    host.runtime.clear_faults()
    assert holders_of(host.runtime)
    await host.start()
    await host.until(lambda: not holders_of(host.runtime))


async def test_what_another_made_under_its_name_is_left_alone(host: TaskHost) -> None:
    stranger = {"Image": "busybox", "Labels": {}}
    await host.runtime.create_container(NAME, stranger)
    with pytest.raises(EngineRefused, match="not this agent's"):
        await host.namespaces.ensure(payload(container("a"), **SHARED))
    assert [box.name for box in host.runtime.boxes.values()] == [NAME]


async def test_holders_of_tasks_that_nobody_knows_are_removed(host: TaskHost) -> None:
    gone = payload(container("a"), arn=f"{ARN}x", **SHARED)
    await host.namespaces.ensure(gone)
    await host.crash()
    await host.start()
    kept = payload(container("a"), **SHARED)
    fresh = payload(container("a"), arn=f"{ARN}y", **SHARED)
    for each in (kept, fresh):
        await host.namespaces.ensure(each)
    await host.namespaces.reconcile([ARN])
    arns = {box.labels["com.amazonaws.ecs.task-arn"] for box in holders_of(host.runtime)}
    assert arns == {ARN, f"{ARN}y"}, "one that came since the list was made stays, too"


async def test_many_ask_for_one_holder_and_get_the_same(host: TaskHost) -> None:
    task = payload(container("a"), **SHARED)
    got = await asyncio.gather(*(host.namespaces.ensure(task) for _ in range(5)))
    assert len(set(got)) == len(holders_of(host.runtime)) == 1
    await host.namespaces.remove(task)
    await host.namespaces.remove(task)
    assert not host.runtime.boxes


async def test_a_holder_whose_start_the_engine_has_forgotten_is_made_anew(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(StartForgotten("already exists"), container=NAME))
    await host.order(container("a"), **SHARED)
    await host.until_known("RUNNING")
    assert holder_of(host.runtime).status == "running"
    assert host.runtime.count("create", NAME) == 2
