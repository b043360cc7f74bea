"""Samples of what tasks and the host use; types shared by sampler, control and endpoints.

A figure that the kernel does not have, or that could not be read, is None and never 0. Names of
counters say their unit; counters of containers go on when a container is restarted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class LinkCounters(_Wire, frozen=True):
    """Cumulative counters of one interface, or of all interfaces of a namespace except loopback."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class Stall(_Wire, frozen=True):
    """How much time was lost by waiting for one resource, as the kernel tells it."""

    avg10_percent: float
    """Share of the last 10 s."""
    avg60_percent: float
    avg300_percent: float
    total_us: int
    """Counter."""


class Pressure(_Wire, frozen=True):
    """Pressure stall information (PSI) of one resource."""

    some: Stall
    """At least one process waited."""
    full: Stall | None = None
    """All processes waited; the kernel does not have it for the CPUs of a whole host."""


class GpuUse(_Wire, frozen=True):
    """What the processes of one container use of one GPU."""

    uuid: str
    memory_bytes: int | None = None
    utilization_percent: float | None = None
    """Share of time in which they computed; 100 is the whole GPU."""


class ContainerSample(_Wire, frozen=True):
    """What one container used at one moment."""

    name: str
    runtime_id: str
    cpu_percent: float | None = None
    """100 is one whole core; None for the first sample of a run."""
    cpu_ns: int | None = None
    """Counter, as are the next two."""
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    cpu_periods: int | None = None
    """Counter: scheduling periods in which the container wanted to run; None without a limit."""
    cpu_throttled_periods: int | None = None
    """Counter: those of them in which it had used up its limit."""
    cpu_throttled_ns: int | None = None
    """Counter: how long it was not let run."""
    cpu_pressure: Pressure | None = None

    memory_bytes: int | None = None
    """Usage as Amazon ECS counts it: without the page cache (cgroup v1), or without the part of it
    that can be dropped at once (v2)."""
    memory_usage_bytes: int | None = None
    """All that is charged to the container, with its page cache."""
    memory_working_set_bytes: int | None = None
    """Usage without the inactive part of the page cache, as the kubelet and cAdvisor count it."""
    memory_cache_bytes: int | None = None
    memory_inactive_file_bytes: int | None = None
    memory_rss_bytes: int | None = None
    """Anonymous memory."""
    memory_swap_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """The smallest limit of the container and of the groups around it; None without a limit."""
    memory_max_usage_bytes: int | None = None
    """The largest usage since the container first started."""
    memory_limit_hits: int | None = None
    """Counter: how often usage reached the limit, and memory had to be reclaimed."""
    oom_kills: int | None = None
    """Counter: processes that the kernel killed because the limit was reached."""
    memory_pressure: Pressure | None = None

    pids: int | None = None
    """Processes and threads."""
    pids_limit: int | None = None
    """None without a limit."""

    io_read_bytes: int | None = None
    """Counter, as are the next three: of all block devices."""
    io_write_bytes: int | None = None
    io_reads: int | None = None
    io_writes: int | None = None
    io_pressure: Pressure | None = None

    network: LinkCounters | None = None
    """Set if each container has its own network namespace (``bridge`` mode); None if the task's
    counters cover it. See ``network_of``."""
    links: dict[str, LinkCounters] = field(default_factory=dict)
    """The same by interface name."""
    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None

    restarts: int | None = None
    """By its restart policy; None without one."""
    gpus: tuple[GpuUse, ...] = ()


class TaskSample(_Wire, frozen=True):
    """What one task used at one moment, the ``at`` of its round."""

    task_arn: str
    containers: list[ContainerSample] = field(default_factory=list)
    network: LinkCounters | None = None
    """None in ``host`` and ``none`` mode, where the task has no interface of its own."""
    links: dict[str, LinkCounters] = field(default_factory=dict)
    """The same by interface name; interfaces of several namespaces that share a name are summed."""
    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None


class NetworkSample(Struct, frozen=True, kw_only=True):
    """The network figures that are those of one container."""

    counters: LinkCounters
    links: dict[str, LinkCounters]
    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None


def network_of(task: TaskSample, container: ContainerSample) -> NetworkSample | None:
    """Return the network figures of a container: its own if it has a namespace, else its task's.

    None where it has no network, or that of the host.
    """
    alone = not any(one.network for one in task.containers)
    source: TaskSample | ContainerSample = task if alone else container
    if source.network is None:
        return None
    return NetworkSample(
        counters=source.network,
        links=source.links,
        rx_bytes_per_s=source.rx_bytes_per_s,
        tx_bytes_per_s=source.tx_bytes_per_s,
    )


class CpuTimes(_Wire, frozen=True):
    """What all cores of the host did since it started, in seconds: counters.

    Time of virtual machines that run on the host is part of ``user_s`` and ``nice_s``.
    """

    user_s: float
    nice_s: float
    system_s: float
    idle_s: float
    iowait_s: float
    irq_s: float
    softirq_s: float
    steal_s: float
    """What the hypervisor gave to others."""


class FilesystemSample(_Wire, frozen=True):
    """One file system of the host."""

    name: str
    """``data`` is the one that holds the container engine's data, ``root`` is ``/``; both are listed
    even if they are the same."""
    path: str
    total_bytes: int
    used_bytes: int
    available_bytes: int
    """To processes without privileges."""
    inodes_total: int | None = None
    """None on file systems that do not count them."""
    inodes_used: int | None = None


class GpuSample(_Wire, frozen=True):
    """One NVIDIA GPU, or one MIG device of it."""

    uuid: str
    name: str = ""
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


class HostSample(_Wire, frozen=True):
    """What the whole host used at one moment."""

    at: float
    """Unix time."""
    cpus: int | None = None
    """Cores that are online."""
    cpu_percent: float | None = None
    """100 is one whole core, as in the next four; None for the first sample. Waiting for disks and
    steal do not count."""
    cpu_user_percent: float | None = None
    cpu_system_percent: float | None = None
    cpu_iowait_percent: float | None = None
    cpu_steal_percent: float | None = None
    cpu_times: CpuTimes | None = None
    cpu_pressure: Pressure | None = None

    memory_used_bytes: int | None = None
    """Total without what is available."""
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_cached_bytes: int | None = None
    """Page cache and buffers."""
    memory_pressure: Pressure | None = None
    swap_used_bytes: int | None = None
    swap_total_bytes: int | None = None

    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None

    disk_used_bytes: int | None = None
    """Of the file system ``data``, as is the next."""
    disk_total_bytes: int | None = None
    filesystems: tuple[FilesystemSample, ...] = ()
    io_pressure: Pressure | None = None

    links: dict[str, LinkCounters] = field(default_factory=dict)
    """Physical network links by name: no bridges, veths, VLANs or bonds."""
    gpus: tuple[GpuSample, ...] = ()


class RoundCost(_Wire, frozen=True):
    """What one round of the sampler cost."""

    duration_s: float
    cpu_s: float
    """CPU time of the sampler's thread."""
    cpu_total_s: float
    """The same of all rounds since the agent started."""
    rounds: int
    """All rounds since the agent started."""
    open_files: int
    """Files that the sampler holds open."""


class MetricsBatch(_Wire, frozen=True):
    """One round of the sampler."""

    host: HostSample
    tasks: list[TaskSample] = field(default_factory=list)
    """A sample that says the same as the one before of its task is the same object."""
    cost: RoundCost | None = None

    @property
    def at(self) -> float:
        """When the round began, in Unix time."""
        return self.host.at

    def pairs(self) -> Iterator[tuple[TaskSample, ContainerSample]]:
        """Yield every container with its task."""
        for task in self.tasks:
            for container in task.containers:
                yield task, container
