"""What of a cluster a change of the store concerns. Pure.

The page reads anew what is named here. Names that come again before they are told are told once, so what waits
for a slow reader is no more than what there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.controlplane import records
from agent.controlplane.services.record import group
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.store.contract import Event
    from agent.model.statistics import StatisticSet
    from agent.model.usage import Usage

_OF_SERVICES: Final = frozenset(
    {records.SERVICES, records.SERVICE_EVENTS, records.SERVICE_ROLLOUTS}
)
_WITH_CLUSTER: Final = _OF_SERVICES | {records.TASKS, records.INSTANCES, records.CLUSTERS}
_SERVICE_GROUP: Final = group("")


class _Task(Struct, frozen=True):
    """The field of a ``TaskRecord`` that is needed."""

    group: str = ""


_read_task = msgspec.json.Decoder(_Task).decode


class Line(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a reader is told at once; a list is left out if it is empty."""

    place: int
    """From which a reader resumes that has this line."""
    is_gap: bool = False
    """Whether changes are lost to this reader, which must read everything anew."""
    clusters: list[str] = []
    """Names of clusters of which anything has changed; only for a reader of all clusters."""
    tasks: list[str] = []
    """Ids."""
    services: list[str] = []
    """Names; those, too, whose tasks have changed."""
    hosts: list[str] = []
    """Ids of container instances; those, too, whose tasks or connection have changed."""
    host_figures: dict[str, dict[str, Any]] = {}
    """New figures by the id of the container instance, named as in ``FleetHostView``."""
    task_figures: dict[str, dict[str, Any]] = {}
    """The same by the id of the task, as in ``FleetTaskView``."""


class Changes:
    """Collects what one reader is to be told next."""

    def __init__(self, cluster: str | None, instances: Iterable[str] = ()) -> None:
        """Take the cluster, None for the names of all, and the ids of its container instances."""
        self._cluster = cluster
        self._instances = set(instances)
        self._told: dict[str, dict[str, None]] = {}
        self._host_figures: dict[str, dict[str, Any]] = {}
        self._task_figures: dict[str, dict[str, Any]] = {}
        self._is_gap = False

    def __bool__(self) -> bool:
        """Tell whether there is anything to be told."""
        return bool(self._told or self._host_figures or self._task_figures or self._is_gap)

    def take(self, event: Event) -> None:
        """Take a change of the store."""
        key = event.kv.key
        kind = key[: key.find("/", 1) + 1]
        name, _, rest = key[len(kind) :].partition("/")
        if kind in _WITH_CLUSTER:
            if self._cluster is None:
                self._tell("clusters", name)
            elif name == self._cluster and rest:
                self._of_cluster(kind, rest, event)
        elif (
            kind in (records.ALIVE, records.ASSIGNMENTS)
            and name in self._instances
            and (event.type == "delete" or event.kv.version == 1)
        ):
            # What is only put again, as a lease that is renewed, is no change.
            self._tell("hosts", name)

    def take_usage(self, instance_id: str, usage: Usage) -> None:
        """Take figures as an agent told them."""
        if usage.host is not None and instance_id in self._instances:
            self._host_figures[instance_id] = {
                "cpuUnits": _mean(usage.host.cpu_units),
                "memoryUsedBytes": _mean(usage.host.memory_used_bytes),
                "memoryTotalBytes": usage.host.memory_total_bytes,
                "diskUsedBytes": _mean(usage.host.disk_used_bytes),
                "diskTotalBytes": usage.host.disk_total_bytes,
            }
        for task in usage.tasks:
            *_, cluster, task_id = task.task_arn.rsplit("/", 2)
            if cluster == self._cluster:
                self._task_figures[task_id] = {
                    "cpuUnits": _mean(task.cpu_units),
                    "memoryBytes": _mean(task.memory_bytes),
                    "receiveBytesPerS": _mean(task.rx_bytes_per_s),
                    "transmitBytesPerS": _mean(task.tx_bytes_per_s),
                }

    def take_gap(self, instances: Iterable[str]) -> None:
        """Take note that changes are lost; the instances are those that there are now."""
        self._instances = set(instances)
        self._is_gap = True

    def line(self, place: int) -> Line:
        """Return what is to be told, and forget it."""
        line = Line(
            place=place,
            is_gap=self._is_gap,
            host_figures=self._host_figures,
            task_figures=self._task_figures,
            **{kind: list(names) for kind, names in self._told.items()},
        )
        self._told, self._host_figures, self._task_figures = {}, {}, {}
        self._is_gap = False
        return line

    def _of_cluster(self, kind: str, name: str, event: Event) -> None:
        if kind == records.TASKS:
            self._tell("tasks", name)
            service = _service_of(event)
            if service:
                self._tell("services", service)
        elif kind in _OF_SERVICES:
            self._tell("services", name)
        else:
            self._tell("hosts", name)
            if event.type == "delete":
                self._instances.discard(name)
            else:
                self._instances.add(name)

    def _tell(self, kind: str, name: str) -> None:
        self._told.setdefault(kind, {})[name] = None


def _service_of(event: Event) -> str:
    """Return the service of a task; empty if it has none, or is gone."""
    try:
        of_task = _read_task(event.kv.value).group if event.type == "put" else ""
    except BAD_JSON:
        return ""
    return of_task.removeprefix(_SERVICE_GROUP) if of_task.startswith(_SERVICE_GROUP) else ""


def _mean(figures: StatisticSet | None) -> float | None:
    return None if figures is None else round(figures.average, 3)
