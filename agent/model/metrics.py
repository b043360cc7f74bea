"""Samples of what tasks and the host use; types shared by sampler, control and endpoints."""

from __future__ import annotations

from msgspec import Struct, field


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class LinkCounters(_Wire, frozen=True):
    """Cumulative counters of all interfaces of a namespace except loopback."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class ContainerSample(_Wire, frozen=True):
    """What one container used at one moment."""

    name: str
    runtime_id: str
    cpu_percent: float | None = None
    """100 is one whole core; None for the first sample."""
    cpu_ns: int = 0
    memory_bytes: int = 0
    """Excludes page cache that can be dropped at once."""
    memory_limit_bytes: int = 0
    pids: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    network: LinkCounters | None = None
    """Set if each container has its own network namespace (``bridge`` mode); None if the task's
    counters cover it."""


class TaskSample(_Wire, frozen=True):
    """What one task used at one moment."""

    task_arn: str
    at: float
    containers: list[ContainerSample] = field(default_factory=list)
    network: LinkCounters | None = None
    """None in ``host`` and ``none`` mode, where the task has no interface of its own."""
    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None


class HostSample(_Wire, frozen=True):
    """What the whole host used at one moment."""

    at: float
    cpu_percent: float = 0.0
    """100 is one whole core."""
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0
    load_1m: float = 0.0
    disk_used_bytes: int = 0
    disk_total_bytes: int = 0


class MetricsBatch(_Wire, frozen=True):
    """One round of the sampler."""

    host: HostSample
    tasks: list[TaskSample] = field(default_factory=list)
