"""Gathers samples into statistic sets, until they are told to control. Pure.

A task's sample counts for a figure only if all of its containers have that figure: a sum without one
of them would be too small. Counters that go back, as after a restart, add nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.model import statistics
from agent.model.usage import HostUsage, TaskUsage, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.model.metrics import ContainerSample, HostSample, MetricsBatch, TaskSample
    from agent.model.statistics import StatisticSet

UNITS_PER_PERCENT: Final = 10.24
"""CPU units of one percent of a core."""


class UsageSeries:
    """The samples of a host since they were last told; as many tasks as run, and no queue."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskUsage] = {}
        self._host: HostUsage | None = None
        self._counters: dict[tuple[str, str], tuple[int | None, int | None]] = {}
        """Bytes read and written of each container of the last round, by task and engine's id."""

    def take(self, batch: MetricsBatch) -> None:
        """Add one round of the sampler."""
        counters: dict[tuple[str, str], tuple[int | None, int | None]] = {}
        for sample in batch.tasks:
            read = written = None
            for container in sample.containers:
                key = (sample.task_arn, container.runtime_id)
                now = counters[key] = (container.io_read_bytes, container.io_write_bytes)
                before = self._counters.get(key, (None, None))
                read = _more(read, before[0], now[0])
                written = _more(written, before[1], now[1])
            usage = _of_task(sample, read, written)
            known = self._tasks.get(sample.task_arn)
            self._tasks[sample.task_arn] = usage if known is None else known.plus(usage)
        self._counters = counters
        host = _of_host(batch.host)
        self._host = host if self._host is None else self._host.plus(host)

    def tell(self) -> Usage:
        """Return what was gathered, and begin anew."""
        told = Usage(host=self._host, tasks=list(self._tasks.values()))
        self._host, self._tasks = None, {}
        return told


def _of_task(sample: TaskSample, read: int | None, written: int | None) -> TaskUsage:
    cpu_percent = _total(sample.containers, lambda c: c.cpu_percent)
    return TaskUsage(
        task_arn=sample.task_arn,
        cpu_units=_units(cpu_percent),
        memory_bytes=_set(_total(sample.containers, lambda c: c.memory_bytes)),
        rx_bytes_per_s=_set(sample.rx_bytes_per_s),
        tx_bytes_per_s=_set(sample.tx_bytes_per_s),
        read_bytes=read,
        written_bytes=written,
    )


def _of_host(sample: HostSample) -> HostUsage:
    return HostUsage(
        cpu_units=_units(sample.cpu_percent),
        memory_used_bytes=_set(sample.memory_used_bytes),
        memory_total_bytes=sample.memory_total_bytes,
        disk_used_bytes=_set(sample.disk_used_bytes),
        disk_total_bytes=sample.disk_total_bytes,
    )


def _total(
    containers: Iterable[ContainerSample], figure: Callable[[ContainerSample], float | None]
) -> float | None:
    total = None
    for container in containers:
        value = figure(container)
        if value is None:
            return None
        total = value if total is None else total + value
    return total


def _more(total: int | None, before: int | None, now: int | None) -> int | None:
    """Add what a counter grew by; the total stays None until one is known."""
    if before is None or now is None or now < before:
        return total
    return (total or 0) + now - before


def _units(percent: float | None) -> StatisticSet | None:
    return None if percent is None else statistics.of((percent * UNITS_PER_PERCENT,))


def _set(value: float | None) -> StatisticSet | None:
    return statistics.of((value,))
