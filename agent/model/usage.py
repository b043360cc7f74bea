"""What tasks and their host used since the last message: what an agent tells control of its samples.

Pure data. None means that there is no figure: the kernel does not have it, or nothing was measured.
"""

from __future__ import annotations

from msgspec import Struct, field

from agent.model import statistics
from agent.model.statistics import StatisticSet


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class TaskUsage(_Wire, frozen=True):
    """One task; each set has one value for each sample of the whole task."""

    task_arn: str
    cpu_units: StatisticSet | None = None
    """1024 are a core."""
    memory_bytes: StatisticSet | None = None
    rx_bytes_per_s: StatisticSet | None = None
    """Of the task's own network interfaces, as the next one."""
    tx_bytes_per_s: StatisticSet | None = None
    read_bytes: int | None = None
    """From block devices, since the last message; as the next one."""
    written_bytes: int | None = None

    def plus(self, later: TaskUsage) -> TaskUsage:
        """Return the usage in both periods."""
        return TaskUsage(
            task_arn=self.task_arn,
            cpu_units=_merged(self.cpu_units, later.cpu_units),
            memory_bytes=_merged(self.memory_bytes, later.memory_bytes),
            rx_bytes_per_s=_merged(self.rx_bytes_per_s, later.rx_bytes_per_s),
            tx_bytes_per_s=_merged(self.tx_bytes_per_s, later.tx_bytes_per_s),
            read_bytes=_added(self.read_bytes, later.read_bytes),
            written_bytes=_added(self.written_bytes, later.written_bytes),
        )

    def times(self, count: int) -> TaskUsage:
        """Return the usage in so many periods like this one."""
        return TaskUsage(
            task_arn=self.task_arn,
            cpu_units=_repeated(self.cpu_units, count),
            memory_bytes=_repeated(self.memory_bytes, count),
            rx_bytes_per_s=_repeated(self.rx_bytes_per_s, count),
            tx_bytes_per_s=_repeated(self.tx_bytes_per_s, count),
            read_bytes=None if self.read_bytes is None else self.read_bytes * count,
            written_bytes=None if self.written_bytes is None else self.written_bytes * count,
        )


class HostUsage(_Wire, frozen=True):
    """The host itself, with everything that runs on it."""

    cpu_units: StatisticSet | None = None
    """1024 are a core."""
    memory_used_bytes: StatisticSet | None = None
    memory_total_bytes: int | None = None
    disk_used_bytes: StatisticSet | None = None
    """Of the file system with the data of the container engine, or of the root, as the next one."""
    disk_total_bytes: int | None = None

    def plus(self, later: HostUsage) -> HostUsage:
        """Return the usage in both periods."""
        return HostUsage(
            cpu_units=_merged(self.cpu_units, later.cpu_units),
            memory_used_bytes=_merged(self.memory_used_bytes, later.memory_used_bytes),
            memory_total_bytes=later.memory_total_bytes or self.memory_total_bytes,
            disk_used_bytes=_merged(self.disk_used_bytes, later.disk_used_bytes),
            disk_total_bytes=later.disk_total_bytes or self.disk_total_bytes,
        )


class Usage(_Wire, frozen=True):
    """One message."""

    host: HostUsage | None = None
    tasks: list[TaskUsage] = field(default_factory=list)
    """Those that run, and those that ran at the beginning of the period."""


def _merged(one: StatisticSet | None, other: StatisticSet | None) -> StatisticSet | None:
    return statistics.merged((one, other))


def _repeated(one: StatisticSet | None, count: int) -> StatisticSet | None:
    return None if one is None else one.repeated(count)


def _added(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
