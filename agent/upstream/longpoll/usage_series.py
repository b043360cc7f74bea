"""Gathers samples into statistic sets, until they are told to control. Pure.

A task's sample counts for a figure only if all of its containers have that figure: a sum without one
of them would be too small. Counters that go back, as after a restart, add nothing.

Samples of a task that say the same as the one before, which are the same object, are only counted, and
added all at once when the next differs: a task that is idle costs next to nothing.
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


_Counters = dict[str, tuple["int | None", "int | None"]]
"""Bytes read and written of each container, by the engine's id."""


class _TaskSeries:
    """The samples of one task."""

    __slots__ = ("_counters", "_gathered", "_still", "repeats", "round", "sample")

    def __init__(self) -> None:
        self.round = 0
        """Number of the last round in which there was a sample."""
        self.sample: TaskSample | None = None
        """The last one."""
        self.repeats = 0
        """How often it was there again, which is not yet added."""
        self._still: TaskUsage | None = None
        """What each of the repeats adds; None until it is needed."""
        self._gathered: TaskUsage | None = None
        self._counters: _Counters = {}

    def take(self, sample: TaskSample) -> None:
        """Add one sample, which is another one than the last."""
        self._add_repeats()
        self.sample, self._still = sample, None
        read = written = None
        before, self._counters = self._counters, {}
        for container in sample.containers:
            now = (container.io_read_bytes, container.io_write_bytes)
            self._counters[container.runtime_id] = now
            known = before.get(container.runtime_id, (None, None))
            read = _more(read, known[0], now[0])
            written = _more(written, known[1], now[1])
        self._add(_of_task(sample, read, written))

    def forget(self) -> None:
        """Begin anew after a round without a sample: its counters are those of nobody."""
        self._add_repeats()
        self.sample, self._counters = None, {}

    def tell(self) -> TaskUsage | None:
        """Return what was gathered, and begin anew; None if there was no sample."""
        self._add_repeats()
        told, self._gathered = self._gathered, None
        return told

    def _add(self, usage: TaskUsage) -> None:
        self._gathered = usage if self._gathered is None else self._gathered.plus(usage)

    def _add_repeats(self) -> None:
        repeats, self.repeats = self.repeats, 0
        if not repeats or self.sample is None:
            return
        if self._still is None:
            self._still = _of_task(self.sample, *_stood_still(self.sample.containers))
        self._add(self._still.times(repeats))


class UsageSeries:
    """The samples of a host since they were last told; as many tasks as run, and no queue."""

    def __init__(self) -> None:
        self._tasks: dict[str, _TaskSeries] = {}
        self._host: HostUsage | None = None
        self._round = 0

    def take(self, batch: MetricsBatch) -> None:
        """Add one round of the sampler."""
        self._round += 1
        for sample in batch.tasks:
            series = self._tasks.get(sample.task_arn)
            if series is None:
                series = self._tasks[sample.task_arn] = _TaskSeries()
            elif series.round != self._round - 1:
                series.forget()
            series.round = self._round
            if series.sample is sample:
                series.repeats += 1
            else:
                series.take(sample)
        host = _of_host(batch.host)
        self._host = host if self._host is None else self._host.plus(host)

    def tell(self) -> Usage:
        """Return what was gathered, and begin anew."""
        tasks = [usage for series in self._tasks.values() if (usage := series.tell()) is not None]
        told = Usage(host=self._host, tasks=tasks)
        self._host = None
        self._tasks = {
            arn: series for arn, series in self._tasks.items() if series.round == self._round
        }
        return told


def _stood_still(containers: Iterable[ContainerSample]) -> tuple[int | None, int | None]:
    """Return the bytes read and written since a sample that said the same: 0, if they are known."""
    read = written = None
    for container in containers:
        read = _more(read, container.io_read_bytes, container.io_read_bytes)
        written = _more(written, container.io_write_bytes, container.io_write_bytes)
    return read, written


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
