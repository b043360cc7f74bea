"""Converts rounds of the sampler into the statistic sets of Amazon ECS. Pure.

A series holds the last samples of one container and knows which of them were reported. A set
summarizes the new ones: minimum, maximum, sum, count. Unusable values (no rate yet, an invalid
counter) are left out of their set, and an empty set is left out of the message.

Source: Amazon ECS agent 1.105.1, ``agent/stats`` (``queue.go``, ``engine.go``): which sets there
are, when one is absent, 100 as all cores, whole MiB, counters that continue after a restart by
policy (the sampler's counters go on after any restart).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct, structs

from agent.model import statistics
from agent.model.metrics import LinkCounters, network_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.model.metrics import ContainerSample, MetricsBatch, TaskSample
    from agent.model.telemetry import ContainerFacts, TaskFacts

LONG_MAX: Final = 2**63 - 1
"""Largest integer in a set; the excess goes into its overflow field."""
MIB: Final = 1024 * 1024
LEAST: Final = 2
"""Samples that a series needs before any of it is reported."""

_OWN_NAMESPACE: Final = frozenset({"bridge", "awsvpc"})
_LINK_FIELDS: Final = LinkCounters.__struct_fields__


class DoubleSet(Struct, frozen=True, rename="camel"):
    """CWStatsSet and UDoubleCWStatsSet."""

    min: float
    max: float
    sample_count: int
    sum: float


class LongSet(Struct, frozen=True, rename="camel"):
    """ULongStatsSet."""

    min: int
    max: int
    sample_count: int
    sum: int
    overflow_min: int
    overflow_max: int
    overflow_sum: int


class StorageSet(Struct, frozen=True, rename="camel"):
    """StorageStatsSet."""

    read_size_bytes: LongSet
    write_size_bytes: LongSet


class NetworkSet(Struct, frozen=True, rename="camel", omit_defaults=True):
    """NetworkStatsSet."""

    rx_bytes: LongSet
    rx_dropped: LongSet
    rx_errors: LongSet
    rx_packets: LongSet
    tx_bytes: LongSet
    tx_dropped: LongSet
    tx_errors: LongSet
    tx_packets: LongSet
    rx_bytes_per_second: DoubleSet | None = None
    tx_bytes_per_second: DoubleSet | None = None


class RestartSet(Struct, frozen=True, rename="camel"):
    """RestartStatsSet."""

    restart_count: int


class ContainerMetric(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What one container used since its last report."""

    container_name: str
    cpu_stats_set: DoubleSet
    memory_stats_set: DoubleSet
    """In MiB."""
    storage_stats_set: StorageSet | None = None
    network_stats_set: NetworkSet | None = None
    restart_stats_set: RestartSet | None = None


class TaskMetric(Struct, frozen=True, rename="camel"):
    """The containers of one task."""

    task_arn: str
    task_definition_family: str
    task_definition_version: str
    container_metrics: list[ContainerMetric]


class Point(NamedTuple):
    """One sample of one container in the units of Amazon ECS."""

    cpu: float | None
    """100 is all cores."""
    memory_mib: int | None
    io_read_bytes: int | None
    io_write_bytes: int | None
    links: LinkCounters | None
    rx_bytes_per_s: float | None
    tx_bytes_per_s: float | None
    restarts: int | None


def double_set(values: Iterable[float | None]) -> DoubleSet | None:
    """Return the set of the values that are numbers; None if there are none."""
    found = statistics.of(values)
    return None if found is None else DoubleSet(found.min, found.max, found.count, found.sum)


def long_set(values: Sequence[int]) -> LongSet | None:
    """Return the set of these counters; None if there are none."""
    if not values:
        return None
    least, least_over = _clamped(min(values))
    most, most_over = _clamped(max(values))
    total, total_over = _clamped(sum(values))
    return LongSet(least, most, len(values), total, least_over, most_over, total_over)


def restarts_between(before: int | None, told: Sequence[int | None]) -> RestartSet | None:
    """Return the number of restarts in the unreported samples; None if there is nothing to report.

    ``before`` is the count in the last reported sample; without it, the first unreported sample is
    the base for the others.
    """
    counts = [count for count in told if count is not None]
    if not counts:
        return None
    grown = counts[-1] - (counts[0] if before is None else before)
    return RestartSet(grown) if grown >= 0 else None


class Series:
    """The last samples of one container. Above ``limit``, the oldest are dropped."""

    def __init__(self, runtime_id: str, limit: int) -> None:
        self.runtime_id = runtime_id
        self._points: deque[Point] = deque(maxlen=limit)
        self._untold = 0

    def add(
        self, sample: ContainerSample, task: TaskSample, restarts: int | None, cpus: int
    ) -> None:
        """Add one sample; ``restarts`` is None for a container without a restart policy."""
        percent, memory = sample.cpu_percent, sample.memory_bytes
        network = network_of(task, sample)
        self._points.append(
            Point(
                cpu=None if percent is None or percent < 0 else percent / cpus,
                memory_mib=None if memory is None else memory // MIB,
                io_read_bytes=sample.io_read_bytes,
                io_write_bytes=sample.io_write_bytes,
                links=network.counters if network else None,
                rx_bytes_per_s=network.rx_bytes_per_s if network else None,
                tx_bytes_per_s=network.tx_bytes_per_s if network else None,
                restarts=restarts,
            )
        )
        self._untold = min(self._untold + 1, len(self._points))

    def tell(self, name: str, *, with_network: bool) -> ContainerMetric | None:
        """Return the unreported samples and mark them as reported; None if there are too few."""
        untold = list(self._points)[len(self._points) - self._untold :]
        if len(self._points) < LEAST or not untold:
            return None
        cpu = double_set(p.cpu for p in untold)
        memory = double_set(p.memory_mib for p in untold)
        if cpu is None or memory is None:
            return None
        before = None
        if len(self._points) > self._untold:
            before = self._points[-self._untold - 1].restarts
        self._untold = 0
        return ContainerMetric(
            container_name=name,
            cpu_stats_set=cpu,
            memory_stats_set=memory,
            storage_stats_set=_storage(untold),
            network_stats_set=_network(untold) if with_network else None,
            restart_stats_set=restarts_between(before, [p.restarts for p in untold]),
        )


class HostSeries:
    """The series of every container on this host.

    ``samples`` is the number kept per container; ``cpus`` is the number of cores that 100 % stands
    for.
    """

    def __init__(self, *, samples: int, cpus: int) -> None:
        self._samples = max(LEAST, samples)
        self._cpus = max(1, cpus)
        self._series: dict[tuple[str, str], Series] = {}

    def take(self, batch: MetricsBatch, facts: Iterable[TaskFacts]) -> None:
        """Take one round; samples of unknown tasks are left out."""
        known = {task.arn: task for task in facts}
        for sample in batch.tasks:
            task = known.get(sample.task_arn)
            if task is None:
                continue
            containers = {c.name: c for c in task.containers}
            for used in sample.containers:
                if used.name in containers:
                    self._take_one(sample, used, containers[used.name])

    def _take_one(self, task: TaskSample, used: ContainerSample, facts: ContainerFacts) -> None:
        key = (task.task_arn, used.name)
        series = self._series.get(key)
        if series is None or series.runtime_id != used.runtime_id:
            series = self._series[key] = Series(used.runtime_id, self._samples)
        series.add(used, task, facts.restart_count, self._cpus)

    def tell(self, facts: Iterable[TaskFacts]) -> list[TaskMetric]:
        """Return the unreported samples of these tasks; forget the series of all others."""
        told: list[TaskMetric] = []
        kept: dict[tuple[str, str], Series] = {}
        for task in facts:
            with_network = task.network_mode in _OWN_NAMESPACE
            metrics: list[ContainerMetric] = []
            for container in task.containers:
                key = (task.arn, container.name)
                series = self._series.get(key)
                if series is None:
                    continue
                kept[key] = series
                metric = series.tell(container.name, with_network=with_network)
                if metric is not None:
                    metrics.append(metric)
            if metrics:
                told.append(TaskMetric(task.arn, task.family, task.revision, metrics))
        self._series = kept
        return told


def _storage(points: Sequence[Point]) -> StorageSet | None:
    read = long_set([p.io_read_bytes for p in points if p.io_read_bytes is not None])
    written = long_set([p.io_write_bytes for p in points if p.io_write_bytes is not None])
    return None if read is None or written is None else StorageSet(read, written)


def _network(points: Sequence[Point]) -> NetworkSet | None:
    links = [p.links for p in points if p.links is not None]
    if not links:
        return None
    columns = zip(*(structs.astuple(one) for one in links), strict=True)
    counters: dict[str, Any] = {
        name: long_set(column) for name, column in zip(_LINK_FIELDS, columns, strict=True)
    }
    return NetworkSet(
        **counters,
        rx_bytes_per_second=double_set(p.rx_bytes_per_s for p in points),
        tx_bytes_per_second=double_set(p.tx_bytes_per_s for p in points),
    )


def _clamped(value: int) -> tuple[int, int]:
    """Return the part of a counter that fits, and the excess."""
    value = max(0, value)
    return min(value, LONG_MAX), min(max(0, value - LONG_MAX), LONG_MAX)
