"""The tasks and container instances that figures are of, read from control's store.

One scan of tasks and instances, of which only a few fields are decoded: as often as the janitor's. Raises what the
store raises.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from agent.controlplane import access, records
from agent.controlplane.metric_store.roll_up import Facts, HostFacts, TaskFacts
from agent.model.resources import Needs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.store.contract import Store

SERVICE_GROUP: Final = "service:"


class _Task(Struct, frozen=True, rename="camel"):
    """The fields of a ``TaskRecord`` that are needed here; others are not decoded."""

    id: str
    arn: str
    cluster: str
    family: str = ""
    group: str = ""
    instance_id: str = ""
    last_status: str = "PENDING"
    needs: Needs = field(default_factory=Needs)


class _Resources(Struct, frozen=True, rename="camel"):
    cpu_units: int
    memory_mib: int


class _Instance(Struct, frozen=True, rename="camel"):
    """The same of an ``InstanceRecord``."""

    id: str
    cluster: str
    resources: _Resources
    status: str = "ACTIVE"
    ec2_instance_id: str = ""


async def read(store: Store) -> Facts:
    """Return the facts of this moment."""
    tasks = [_task(task) async for _, task in access.scan(store, _Task, records.TASKS)]
    placed: defaultdict[str, list[TaskFacts]] = defaultdict(list)
    for task in tasks:
        if task.last_status != "STOPPED":
            placed[task.instance_id].append(task)
    hosts = [
        _host(instance, placed[instance.id])
        async for _, instance in access.scan(store, _Instance, records.INSTANCES)
        if instance.status != "INACTIVE"
    ]
    return Facts(tasks=tasks, hosts=hosts)


def _task(record: _Task) -> TaskFacts:
    return TaskFacts(
        arn=record.arn,
        id=record.id,
        cluster=record.cluster,
        family=record.family,
        service=service_of(record.group),
        instance_id=record.instance_id,
        last_status=record.last_status,
        cpu_units=record.needs.cpu_units,
        memory_mib=record.needs.memory_mib,
    )


def _host(record: _Instance, placed: Iterable[TaskFacts]) -> HostFacts:
    return HostFacts(
        id=record.id,
        cluster=record.cluster,
        ec2_instance_id=record.ec2_instance_id,
        cpu_units=record.resources.cpu_units,
        memory_mib=record.resources.memory_mib,
        cpu_reserved=sum(task.cpu_units for task in placed),
        memory_reserved=sum(task.memory_mib for task in placed),
        running_tasks=sum(task.last_status == "RUNNING" for task in placed),
    )


def service_of(group: str) -> str:
    """Return the service of a task's group; empty if the group is not that of a service. Pure."""
    return group.removeprefix(SERVICE_GROUP) if group.startswith(SERVICE_GROUP) else ""
