"""What Amazon ECS asks about the tasks of a host, answered by the real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.labels import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.engine.views import task_facts
from agent.model.payload import RestartPolicy
from agent.model.status import ContainerStatus, Health
from tests.support.task_host import CONTROL, OWNER, assignment
from tests.support.tasks import ARN, container, new_record, put

if TYPE_CHECKING:
    from agent.upstream import protocol
    from tests.support.task_host import TaskHost

OTHER = ARN[:-1] + "0"


def as_contract(host: TaskHost) -> protocol.TaskHost:
    """The engine as control sees it; the type checker holds it to the contract."""
    return host.engine


async def test_wants_what_this_control_ordered_until_it_is_to_stop(host: TaskHost) -> None:
    asked = as_contract(host)
    await host.order(container("a"))
    await host.send(assignment(container("a"), arn=OTHER), control_id="control-2")
    assert asked.wanted(CONTROL) == [ARN]
    assert asked.wanted("control-2") == [OTHER]
    assert asked.wanted("control-3") == []
    await host.stop()
    assert asked.wanted(CONTROL) == []
    await host.until_known("STOPPED")
    assert asked.knows(ARN)
    assert not asked.knows(ARN + "x")


async def test_a_task_that_ended_by_itself_is_not_wanted(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    host.runtime.exit("a")
    await host.until_known("STOPPED")
    assert as_contract(host).wanted(CONTROL) == []


async def test_leftovers_go_once_control_has_named_everything(host: TaskHost) -> None:
    await host.order(container("kept"))
    await host.until_known("RUNNING")
    labels = {LABEL_OWNER: OWNER, LABEL_TASK: OTHER, LABEL_CONTAINER: "left"}
    left = await host.runtime.create_container("left", {"Image": "busybox", "Labels": labels})
    host.runtime.relist()
    await host.until(lambda: host.runtime.count("list") > 1)
    assert left in host.runtime.boxes
    as_contract(host).listed()
    await host.until(lambda: left not in host.runtime.boxes)
    assert host.runtime.running() == {"kept"}


async def test_tells_the_engine_is_up(host: TaskHost) -> None:
    await host.until(lambda: as_contract(host).engine_up)


async def test_facts_are_of_tasks_that_have_not_stopped(host: TaskHost) -> None:
    asked = as_contract(host)
    assert asked.facts() == []
    await host.order(container("a"), network_mode="host")
    await host.until_known("RUNNING")
    (facts,) = asked.facts()
    assert (facts.arn, facts.family, facts.revision) == (ARN, "web", "1")
    assert facts.network_mode == "host"
    assert [c.name for c in facts.containers] == ["a"]
    await host.stop()
    await host.until_known("STOPPED")
    assert asked.facts() == []


def test_facts_of_containers() -> None:
    record = new_record(
        container("plain"),
        container("judged", health_check_type="docker"),
        container("again", restart_policy=RestartPolicy(enabled=True)),
        container("once", restart_policy=RestartPolicy(enabled=False)),
        network_mode="",
    )
    put(record, "judged", ContainerStatus.RUNNING, health=Health.HEALTHY, health_since=7.0)
    put(record, "again", ContainerStatus.STOPPED, restart_count=3)
    facts = task_facts(record)
    plain, judged, again, once = facts.containers
    assert facts.network_mode == "bridge"
    assert facts.origin == record.origin
    assert (plain.running, plain.reports_health, plain.restart_count) == (False, False, None)
    assert (judged.running, judged.reports_health) == (True, True)
    assert (judged.health, judged.health_since) == (Health.HEALTHY, 7.0)
    assert judged.runtime_id == "id-judged"
    assert (again.running, again.restart_count) == (False, 3)
    assert once.restart_count is None
