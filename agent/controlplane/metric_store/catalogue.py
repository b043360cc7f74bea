"""The metrics that control keeps: names, units and meaning as Amazon ECS has them. Pure.

Numbers are stored: they are never used for another metric.

Source: Amazon ECS developer guide, "CloudWatch metrics", "cluster" and "service utilization metrics", "cluster auto scaling";
CloudWatch user guide, "Amazon ECS Container Insights metrics".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.controlplane.metric_store.scopes import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

ECS: Final = "AWS/ECS"
INSIGHTS: Final = "ECS/ContainerInsights"
MANAGED_SCALING: Final = "AWS/ECS/ManagedScaling"

_C, _S, _F, _T, _I = Kind.CLUSTER, Kind.SERVICE, Kind.FAMILY, Kind.TASK, Kind.INSTANCE
_TASKS: Final = frozenset({_C, _S, _F, _T})
_HOSTS: Final = frozenset({_C, _I})
_WHOLE: Final = frozenset({_C})
_GROUPS: Final = frozenset({_C, _S})


class Metric(NamedTuple):
    """One metric."""

    number: int
    namespace: str
    name: str
    unit: str
    """A ``StandardUnit`` of CloudWatch."""
    kinds: frozenset[Kind]
    """The scopes that have it."""


CPU_UTILIZATION: Final = Metric(1, ECS, "CPUUtilization", "Percent", _GROUPS)
MEMORY_UTILIZATION: Final = Metric(2, ECS, "MemoryUtilization", "Percent", _GROUPS)
CPU_RESERVATION: Final = Metric(3, ECS, "CPUReservation", "Percent", _WHOLE)
MEMORY_RESERVATION: Final = Metric(4, ECS, "MemoryReservation", "Percent", _WHOLE)
CPU_UTILIZED: Final = Metric(5, INSIGHTS, "CpuUtilized", "None", _TASKS)
"""CPU units."""
CPU_RESERVED: Final = Metric(6, INSIGHTS, "CpuReserved", "None", _TASKS)
MEMORY_UTILIZED: Final = Metric(7, INSIGHTS, "MemoryUtilized", "Megabytes", _TASKS)
"""MiB, as on Amazon ECS."""
MEMORY_RESERVED: Final = Metric(8, INSIGHTS, "MemoryReserved", "Megabytes", _TASKS)
NETWORK_RX: Final = Metric(9, INSIGHTS, "NetworkRxBytes", "Bytes/Second", _TASKS)
NETWORK_TX: Final = Metric(10, INSIGHTS, "NetworkTxBytes", "Bytes/Second", _TASKS)
STORAGE_READ: Final = Metric(11, INSIGHTS, "StorageReadBytes", "Bytes", _TASKS)
"""In the minute; Amazon ECS counts from the task's start, which says nothing after a restart."""
STORAGE_WRITE: Final = Metric(12, INSIGHTS, "StorageWriteBytes", "Bytes", _TASKS)
RUNNING_TASKS: Final = Metric(13, INSIGHTS, "RunningTaskCount", "Count", _GROUPS)
PENDING_TASKS: Final = Metric(14, INSIGHTS, "PendingTaskCount", "Count", _GROUPS)
TASKS: Final = Metric(15, INSIGHTS, "TaskCount", "Count", _WHOLE)
INSTANCES: Final = Metric(16, INSIGHTS, "ContainerInstanceCount", "Count", _WHOLE)
INSTANCE_CPU_UTILIZATION: Final = Metric(
    17, INSIGHTS, "instance_cpu_utilization", "Percent", _HOSTS
)
INSTANCE_CPU_RESERVED: Final = Metric(
    18, INSIGHTS, "instance_cpu_reserved_capacity", "Percent", _HOSTS
)
INSTANCE_MEMORY_UTILIZATION: Final = Metric(
    19, INSIGHTS, "instance_memory_utilization", "Percent", _HOSTS
)
INSTANCE_MEMORY_RESERVED: Final = Metric(
    20, INSIGHTS, "instance_memory_reserved_capacity", "Percent", _HOSTS
)
INSTANCE_FILESYSTEM: Final = Metric(
    21, INSIGHTS, "instance_filesystem_utilization", "Percent", _HOSTS
)
INSTANCE_TASKS: Final = Metric(22, INSIGHTS, "instance_number_of_running_tasks", "Count", _HOSTS)
CAPACITY_RESERVATION: Final = Metric(
    23, MANAGED_SCALING, "CapacityProviderReservation", "Percent", frozenset({Kind.PROVIDER})
)

ALL: Final[tuple[Metric, ...]] = (
    *(CPU_UTILIZATION, MEMORY_UTILIZATION, CPU_RESERVATION, MEMORY_RESERVATION),
    *(CPU_UTILIZED, CPU_RESERVED, MEMORY_UTILIZED, MEMORY_RESERVED),
    *(NETWORK_RX, NETWORK_TX, STORAGE_READ, STORAGE_WRITE),
    *(RUNNING_TASKS, PENDING_TASKS, TASKS, INSTANCES),
    *(INSTANCE_CPU_UTILIZATION, INSTANCE_CPU_RESERVED),
    *(INSTANCE_MEMORY_UTILIZATION, INSTANCE_MEMORY_RESERVED),
    *(INSTANCE_FILESYSTEM, INSTANCE_TASKS, CAPACITY_RESERVATION),
)
_BY_NAME: Final = {(metric.namespace, metric.name): metric for metric in ALL}


def named(namespace: str, name: str) -> Metric | None:
    """Return the metric of a name; None if there is none."""
    return _BY_NAME.get((namespace, name))


def mask(metrics: Iterable[int]) -> int:
    """Return a set of metric numbers as bits."""
    bits = 0
    for number in metrics:
        bits |= 1 << number
    return bits
