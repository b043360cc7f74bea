"""The ``detail`` of tasks and container instances: as the API describes them, with times as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.ecs import instance_shapes, task_shapes
from agent.controlplane.events.envelope import INSTANCE, TASK, Draft, iso
from agent.controlplane.tasks.changes import ENI

if TYPE_CHECKING:
    from agent.controlplane.api.ecs.instance_shapes import InstanceLoad
    from agent.controlplane.names import Names
    from agent.controlplane.records import ContainerRecord, InstanceRecord, TaskRecord

_TIMES: Final = frozenset(
    {
        "createdAt",
        "connectivityAt",
        "pullStartedAt",
        "pullStoppedAt",
        "startedAt",
        "stoppingAt",
        "executionStoppedAt",
        "stoppedAt",
        "registeredAt",
    }
)


def task(record: TaskRecord, names: Names, *, at: float) -> Draft:
    """Return the event of a task that has changed; ``at`` is when, in Unix seconds."""
    shown = _told(task_shapes.task(record, names, connected=True, with_tags=True))
    shown["containers"] = [
        _container(c, each) for c, each in zip(record.containers, shown["containers"], strict=True)
    ]
    for attachment in shown.get("attachments", ()):
        if attachment["type"] == ENI:
            attachment["type"] = "eni"
    if not any(c.health_check for c in record.containers):
        shown.pop("healthStatus", None)
    return Draft(TASK, record.arn, at, shown | {"updatedAt": iso(at)})


def instance(
    record: InstanceRecord, load: InstanceLoad, names: Names, *, at: float, version: int
) -> Draft:
    """Return the event of a container instance.

    ``version`` grows with every event of the instance. That of the API only counts what
    DescribeContainerInstances is compared with: tasks and connections do not change it.
    """
    shown = _told(instance_shapes.show_instance(record, load, with_tags=True))
    more = {
        "clusterArn": names.cluster(record.cluster),
        "version": version,
        "updatedAt": iso(at),
    }
    return Draft(INSTANCE, record.arn, at, shown | more)


def newest_time(record: TaskRecord) -> float:
    """Return the latest moment that a task's record has."""
    return max(
        record.created_at,
        record.connectivity_at,
        record.pull_started_at,
        record.pull_stopped_at,
        record.started_at,
        record.stopping_at,
        record.execution_stopped_at,
        record.stopped_at,
        record.settled_at,
    )


def _container(record: ContainerRecord, shown: dict[str, Any]) -> dict[str, Any]:
    left_out = () if record.health_check else ("healthStatus",)
    return {name: value for name, value in shown.items() if name not in left_out}


def _told(shape: dict[str, Any]) -> dict[str, Any]:
    """Return a shape without members that have no value, and with times as text."""
    return {name: _value(name, value) for name, value in shape.items() if value is not None}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _told(value)
    if isinstance(value, list):
        return [_told(each) if isinstance(each, dict) else each for each in value]
    return iso(value) if name in _TIMES else value
