"""What the hosts and tasks of a cluster use, by the newest figures that their agents told.

Reads records and the metric store; writes nothing. Raises what the store raises.
Tests: ``tests/unit/controlplane/front/test_fleet_usage.py``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from agent.controlplane import access, records
from agent.controlplane.scheduler.fleet import LENT
from agent.model.fleet_views import FleetHostView, FleetTaskView, FleetView
from agent.model.resources import Needs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.metric_store.store import MetricStore
    from agent.controlplane.parts import Parts
    from agent.controlplane.store.contract import Store
    from agent.model.statistics import StatisticSet


class _Task(Struct, frozen=True, rename="camel"):
    """The fields of a ``TaskRecord`` that are shown; others are not decoded."""

    id: str
    arn: str
    family: str = ""
    revision: int = 0
    group: str = ""
    instance_id: str = ""
    last_status: str = "PENDING"
    started_at: float = 0.0
    needs: Needs = field(default_factory=Needs)


class _Resources(Struct, frozen=True, rename="camel"):
    cpu_units: int
    memory_mib: int
    hostname: str = ""


class _Instance(Struct, frozen=True, rename="camel"):
    """The same of an ``InstanceRecord``."""

    id: str
    resources: _Resources
    status: str = "ACTIVE"
    ec2_instance_id: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


async def read(parts: Parts, cluster: str) -> FleetView | None:
    """Return a cluster with the newest figures; None if there is no such cluster."""
    store = parts.store
    if await access.find(store, records.ClusterRecord, records.cluster_key(cluster)) is None:
        return None
    tasks = await _tasks(store, records.tasks_prefix(cluster))
    instances = [
        instance
        async for _, instance in access.scan(store, _Instance, records.instances_prefix(cluster))
        if instance.status != "INACTIVE"
    ]
    alive = await access.find_many(
        store, records.AliveRecord, [records.alive_key(each.id) for each in instances]
    )
    # A host that is lent also has tasks of other clusters.
    is_lent = any(LENT in each.attributes for each in instances)
    placed: defaultdict[str, list[_Task]] = defaultdict(list)
    for task in await _tasks(store, records.TASKS) if is_lent else tasks:
        placed[task.instance_id].append(task)
    return FleetView(
        cluster=cluster,
        at=parts.clock(),
        hosts=[
            _host(
                each, placed[each.id], parts.metrics, is_alive=records.alive_key(each.id) in alive
            )
            for each in instances
        ],
        tasks=[_task(task, parts.metrics) for task in tasks],
    )


async def _tasks(store: Store, prefix: str) -> list[_Task]:
    return [
        task async for _, task in access.scan(store, _Task, prefix) if task.last_status != "STOPPED"
    ]


def _host(
    instance: _Instance,
    placed: Sequence[_Task],
    metrics: MetricStore | None,
    *,
    is_alive: bool,
) -> FleetHostView:
    newest = metrics.newest_host(instance.id) if metrics is not None else None
    usage = newest.usage if newest is not None else None
    return FleetHostView(
        id=instance.id,
        ec2_instance_id=instance.ec2_instance_id,
        hostname=instance.resources.hostname,
        status=instance.status,
        connected=is_alive,
        tasks_running=sum(task.last_status == "RUNNING" for task in placed),
        tasks_pending=sum(task.last_status != "RUNNING" for task in placed),
        cpu_reserved_units=sum(task.needs.cpu_units for task in placed),
        cpu_total_units=instance.resources.cpu_units,
        memory_reserved_mib=sum(task.needs.memory_mib for task in placed),
        memory_offered_mib=instance.resources.memory_mib,
        at=newest.at if newest is not None else None,
        cpu_units=_mean(usage.cpu_units) if usage else None,
        memory_used_bytes=_mean(usage.memory_used_bytes) if usage else None,
        memory_total_bytes=usage.memory_total_bytes if usage else None,
        disk_used_bytes=_mean(usage.disk_used_bytes) if usage else None,
        disk_total_bytes=usage.disk_total_bytes if usage else None,
    )


def _task(task: _Task, metrics: MetricStore | None) -> FleetTaskView:
    newest = metrics.newest(task.instance_id, task.arn) if metrics is not None else None
    usage = newest.usage if newest is not None else None
    return FleetTaskView(
        id=task.id,
        family=task.family,
        revision=task.revision,
        group=task.group,
        instance_id=task.instance_id,
        status=task.last_status,
        started_at=task.started_at,
        at=newest.at if newest is not None else None,
        cpu_units=_mean(usage.cpu_units) if usage else None,
        memory_bytes=_mean(usage.memory_bytes) if usage else None,
        receive_bytes_per_s=_mean(usage.rx_bytes_per_s) if usage else None,
        transmit_bytes_per_s=_mean(usage.tx_bytes_per_s) if usage else None,
    )


def _mean(figures: StatisticSet | None) -> float | None:
    return None if figures is None else round(figures.average, 3)
