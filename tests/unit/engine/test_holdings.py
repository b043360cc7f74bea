"""What is here that was not ordered of this instance, and what control's answers do to it."""

from __future__ import annotations

import asyncio

from agent.engine.labels import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.errors import EngineUnavailable
from tests.support.memory_engine import Fault
from tests.support.task_host import CONTROL, INSTANCE, OWNER, TaskHost, assignment
from tests.support.tasks import ARN, container

BEFORE = INSTANCE.replace("/i1", "/i0")
OTHER = ARN[:-4] + "ffff"


async def brought(host: TaskHost) -> dict[str, bytes]:
    found = await host.engine.holdings.brought(CONTROL, INSTANCE)
    return {task.change.task_arn: bytes(task.payload) for task in found}


async def a_leftover(host: TaskHost) -> None:
    labels = {LABEL_OWNER: OWNER, LABEL_TASK: OTHER, LABEL_CONTAINER: "a"}
    made = await host.runtime.create_container("left", {"Image": "busybox", "Labels": labels})
    await host.runtime.start_container(made)


async def test_tasks_of_another_instance_and_mere_containers_are_told(host: TaskHost) -> None:
    await host.send(assignment(container("a")), instance=BEFORE)
    await host.until_known("RUNNING")
    await a_leftover(host)
    found = await brought(host)
    assert set(found) == {ARN, OTHER}
    assert found[OTHER] == b"{}"
    assert ARN.encode() in found[ARN]
    elsewhere = await host.engine.holdings.brought("another control", INSTANCE)
    assert [task.change.task_arn for task in elsewhere] == [OTHER]
    host.engine.holdings.belongs_to(ARN, INSTANCE)
    await host.until(lambda: host.record().instance == INSTANCE)
    assert set(await brought(host)) == {OTHER}


async def test_what_control_does_not_want_is_stopped_with_its_word(host: TaskHost) -> None:
    await host.send(assignment(container("a")), instance=BEFORE)
    await host.until_known("RUNNING")
    assert set(await brought(host)) == {ARN}
    host.engine.holdings.not_wanted(ARN, "control knows no such task")
    host.engine.holdings.not_wanted(OTHER, "nor this one")
    await host.until_known("STOPPED")
    assert host.record().reason == "Control does not want this task: control knows no such task"


async def test_a_container_that_is_left_as_it_is_stays(host: TaskHost) -> None:
    await a_leftover(host)
    await brought(host)
    host.engine.holdings.keep(frozenset({OTHER}))
    await host.send(full=True)
    host.runtime.relist()
    await asyncio.sleep(0.1)
    assert len(host.runtime.boxes) == 1
    host.engine.holdings.keep(frozenset())
    await host.until(lambda: not host.runtime.boxes)


async def test_while_the_engine_does_not_say_nothing_is_removed(host: TaskHost) -> None:
    await a_leftover(host)
    await host.until(lambda: host.runtime.count("list"))
    host.runtime.fault("list", Fault(EngineUnavailable("the engine is away")))
    await brought(host)
    host.engine.holdings.keep(frozenset())
    await host.send(full=True)
    host.runtime.relist()
    await asyncio.sleep(0.1)
    assert len(host.runtime.boxes) == 1
    await brought(host)
    host.engine.holdings.keep(frozenset())
    await host.until(lambda: not host.runtime.boxes)
