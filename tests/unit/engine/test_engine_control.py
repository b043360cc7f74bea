"""Control's word on what is to be, and how a task is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from agent.engine.container_body import engine_name
from agent.model.payload import Volume
from tests.support.task_host import CONTROL, INSTANCE, TaskHost, assignment
from tests.support.tasks import ARN, container, payload

OTHER = ARN[:-4] + "beef"


# -- control and its word -------------------------------------------------------------------------


async def test_what_control_no_longer_lists_is_stopped(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.order(container("b"), arn=OTHER)
    await host.until_known("RUNNING")
    await host.until_known("RUNNING", OTHER)
    await host.send(assignment(container("a")), full=True, control_id="control-2")
    await host.send(assignment(container("a")), full=False)
    assert host.record(OTHER).desired == "RUNNING"
    await host.send(assignment(container("a")), full=True)
    await host.until_known("STOPPED", OTHER)
    assert host.runtime.running() == {"a"}
    assert host.record().origin == CONTROL


ANOTHER = "arn:aws:ecs:us-east-1:123456789012:container-instance/default/i2"


@pytest.mark.parametrize("ordered_for", ["", ANOTHER])
async def test_a_full_set_says_nothing_of_tasks_from_before_the_registration(
    host: TaskHost, ordered_for: str
) -> None:
    """A host that is registered anew gets an empty full set: nothing that runs dies of it."""
    await host.send(assignment(container("a")), instance=ordered_for)
    await host.until_known("RUNNING")
    await host.send(full=True)
    await host.send(full=True, control_id="control-2", instance=ordered_for)
    await asyncio.sleep(0.1)
    assert host.runtime.running() == {"a"}
    await host.crash()
    await host.start()
    await host.send(full=True)
    await asyncio.sleep(0.1)
    assert host.runtime.running() == {"a"}
    # Listed, it is of this instance from now on.
    await host.send(assignment(container("a")), full=True)
    await host.until(lambda: host.record().instance == INSTANCE)
    await host.crash()
    await host.start()
    await host.send(full=True)
    await host.until_known("STOPPED")


async def test_an_order_stops_it_all_the_same(host: TaskHost) -> None:
    await host.send(assignment(container("a")), instance=ANOTHER)
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")


async def test_leftovers_go_only_once_control_has_said_what_it_wants(host: TaskHost) -> None:
    """An agent that lost its records must not kill what control may still want."""
    await host.order(container("a"))
    await host.order(container("b"), arn=OTHER)
    await host.until_known("RUNNING")
    await host.until_known("RUNNING", OTHER)
    await host.crash()
    for file in host.path.parent.glob(host.path.name + "*"):
        file.unlink()
    await host.start()
    host.runtime.relist()
    await asyncio.sleep(0.1)
    assert host.runtime.running() == {"a", "b"}
    before = host.runtime.box("a").id
    await host.send(assignment(container("a")), full=True)
    await host.until_known("RUNNING")
    await host.until(lambda: len(host.runtime.boxes) == 1)
    assert host.runtime.box("a").id == before
    assert host.runtime.running() == {"a"}


async def test_containers_of_others_are_left_alone(host: TaskHost) -> None:
    await host.runtime.create_container("theirs", {"Image": "busybox"})
    labels = {
        "com.amazonaws.ecs.task-arn": "x",
        "com.amazonaws.ecs.container-name": "y",
        "ecs-host-agent.owner": "another agent",
    }
    await host.runtime.create_container("other", {"Image": "busybox", "Labels": labels})
    await host.send(full=True)
    host.runtime.relist()
    await asyncio.sleep(0.1)
    assert len(host.runtime.boxes) == 2


async def test_a_name_that_somebody_else_took(host: TaskHost) -> None:
    name = engine_name(payload(container("a")), "a")
    await host.runtime.create_container(name, {"Image": "busybox"})
    await host.order(container("a"))
    await host.until_known("STOPPED")
    reason = host.container("a").reason
    assert reason.startswith("CannotCreateContainerError: the container name ")
    assert reason.endswith("is used by a container of another owner")
    assert [box.name for box in host.runtime.boxes.values()] == [name]


async def test_what_came_in_one_answer_keeps_its_order(host: TaskHost) -> None:
    arns = [f"{ARN[:-2]}{number:02}" for number in (7, 3, 9, 1)]
    await host.send(*(assignment(container("a"), arn=arn) for arn in arns))
    assert [view.arn for view in host.engine.tasks.views()] == arns
    await host.crash()
    await host.start()
    assert [view.arn for view in host.engine.tasks.views()] == arns


# -- the end --------------------------------------------------------------------------------------


async def test_clean_up_waits(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")
    await host.deliver()
    await asyncio.sleep(0.05)
    assert len(host.runtime.boxes) == 1
    (wait,) = host.engine.tasks.views()[0].waits
    assert "until the clean-up" in wait.what


async def test_a_record_is_forgotten_only_when_its_end_is_acknowledged(
    hasty_host: TaskHost,
) -> None:
    host = hasty_host
    await host.order(container("a"), volumes=[Volume(name="v")])
    await host.until_known("RUNNING")
    assert len(host.runtime.volumes) == 1
    await host.stop()
    await host.until(lambda: host.engine._runners[ARN].finished)
    assert host.runtime.boxes == {}
    assert host.runtime.volumes == {}
    await asyncio.sleep(0.05)
    assert host.engine.tasks.known_tasks() == [ARN]
    await host.order(container("a"))
    assert host.runtime.boxes == {}, "an old order started it a second time"
    await host.deliver()
    await host.until(lambda: host.engine.tasks.known_tasks() == [])
    await host.order(container("a"))
    await host.stop()
    await asyncio.sleep(0.05)
    assert host.runtime.boxes == {}
    # Whoever still orders it has not heard of its end, or has forgotten it.
    assert [change.status for change in await host.unsent()] == ["STOPPED", "STOPPED"]
    await host.crash()
    await host.start()
    assert host.engine.tasks.known_tasks() == []


async def test_a_cleaned_task_is_forgotten_after_a_restart_too(hasty_host: TaskHost) -> None:
    host = hasty_host
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.stop()
    await host.until(lambda: host.engine._runners[ARN].finished)
    await host.crash()
    await host.start()
    assert host.engine.tasks.known_tasks() == [ARN]
    await host.deliver()
    await host.until(lambda: host.engine.tasks.known_tasks() == [])


async def test_orders_for_a_finished_task_return(hasty_host: TaskHost) -> None:
    host = hasty_host
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await asyncio.gather(*(host.stop() for _ in range(50)))
    await host.until(lambda: host.engine._runners[ARN].finished)
    await host.stop()
