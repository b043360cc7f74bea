"""Names, units and attributes of metrics by OpenTelemetry's semantic conventions. Pure tables.

Source: OpenTelemetry semantic conventions 1.36, "Container", "System" and "AWS ECS". What has no name there keeps
the name that it has for Prometheus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.model.metrics import ContainerSample, HostSample, LinkCounters

Number = int | float


class Point(NamedTuple):
    """One value of a metric."""

    value: Number | None
    """None is left out."""
    attributes: Mapping[str, str] = {}


class Definition(NamedTuple):
    """One metric."""

    name: str
    unit: str
    """UCUM, as OpenTelemetry wants it."""
    text: str
    is_counter: bool
    points_of: Callable[[Any], Iterator[Point]]


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def _container_cpu(sample: ContainerSample) -> Iterator[Point]:
    if sample.cpu_user_ns is None or sample.cpu_system_ns is None:
        yield Point(_seconds(sample.cpu_ns))
        return
    yield Point(_seconds(sample.cpu_user_ns), {"cpu.mode": "user"})
    yield Point(_seconds(sample.cpu_system_ns), {"cpu.mode": "system"})


def _container_disk(sample: ContainerSample) -> Iterator[Point]:
    yield Point(sample.io_read_bytes, {"disk.io.direction": "read"})
    yield Point(sample.io_write_bytes, {"disk.io.direction": "write"})


def _container_memory(sample: ContainerSample) -> Iterator[Point]:
    yield Point(sample.memory_usage_bytes)


def _container_working_set(sample: ContainerSample) -> Iterator[Point]:
    yield Point(sample.memory_working_set_bytes)


def _container_limit(sample: ContainerSample) -> Iterator[Point]:
    yield Point(sample.memory_limit_bytes)


def _container_oom(sample: ContainerSample) -> Iterator[Point]:
    yield Point(sample.oom_kills)


def _container_throttled(sample: ContainerSample) -> Iterator[Point]:
    yield Point(_seconds(sample.cpu_throttled_ns))


def _container_threads(sample: ContainerSample) -> Iterator[Point]:
    yield Point(sample.pids)


CONTAINER: tuple[Definition, ...] = (
    Definition("container.cpu.time", "s", "CPU time of a container.", True, _container_cpu),
    Definition(
        "container.cpu.throttled.time",
        "s",
        "How long a container was not let run because of its CPU limit.",
        True,
        _container_throttled,
    ),
    Definition(
        "container.memory.usage",
        "By",
        "Memory charged to a container, with its page cache.",
        False,
        _container_memory,
    ),
    Definition(
        "container.memory.working_set",
        "By",
        "Memory of a container without the page cache that is not in use.",
        False,
        _container_working_set,
    ),
    Definition("container.memory.limit", "By", "Its limit.", False, _container_limit),
    Definition(
        "container.memory.oom_kills",
        "{process}",
        "Processes that the kernel killed for lack of memory.",
        True,
        _container_oom,
    ),
    Definition(
        "container.disk.io", "By", "Bytes read and written on disks.", True, _container_disk
    ),
    Definition("container.threads", "{thread}", "Threads.", False, _container_threads),
)


def _traffic(links: Mapping[str, LinkCounters], kind: str) -> Iterator[Point]:
    for name, counters in links.items():
        for direction, prefix in (("receive", "rx"), ("transmit", "tx")):
            attributes = {"network.io.direction": direction, "network.interface.name": name}
            yield Point(getattr(counters, f"{prefix}_{kind}"), attributes)


def _network(prefix: str) -> tuple[Definition, ...]:
    return (
        Definition(
            f"{prefix}.network.io",
            "By",
            "Bytes received and sent.",
            True,
            lambda links: _traffic(links, "bytes"),
        ),
        Definition(
            f"{prefix}.network.packet.count",
            "{packet}",
            "Packets received and sent.",
            True,
            lambda links: _traffic(links, "packets"),
        ),
        Definition(
            f"{prefix}.network.errors",
            "{error}",
            "Errors of reception and of sending.",
            True,
            lambda links: _traffic(links, "errors"),
        ),
        Definition(
            f"{prefix}.network.packet.dropped",
            "{packet}",
            "Packets that were dropped.",
            True,
            lambda links: _traffic(links, "dropped"),
        ),
    )


CONTAINER_LINKS = _network("container")
"""Their source is a mapping of interfaces to counters, as of the next."""
HOST_LINKS = _network("system")


def _host_cpu(host: HostSample) -> Iterator[Point]:
    times = host.cpu_times
    if times is not None:
        for mode in ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"):
            yield Point(getattr(times, f"{mode}_s"), {"cpu.mode": mode})


def _host_cores(host: HostSample) -> Iterator[Point]:
    yield Point(host.cpus)


def _host_memory(host: HostSample) -> Iterator[Point]:
    for state, value in (
        ("used", host.memory_used_bytes),
        ("free", host.memory_free_bytes),
        ("cached", host.memory_cached_bytes),
    ):
        yield Point(value, {"system.memory.state": state})


def _host_memory_limit(host: HostSample) -> Iterator[Point]:
    yield Point(host.memory_total_bytes)


def _host_load(host: HostSample) -> Iterator[Point]:
    yield Point(host.load_1m)


def _host_filesystems(host: HostSample) -> Iterator[Point]:
    for one in host.filesystems:
        place = {"system.filesystem.mountpoint": one.path, "filesystem": one.name}
        yield Point(one.used_bytes, place | {"system.filesystem.state": "used"})
        yield Point(one.available_bytes, place | {"system.filesystem.state": "free"})


def _host_gpus(host: HostSample) -> Iterator[Point]:
    for gpu in host.gpus:
        percent = gpu.utilization_percent
        ratio = None if percent is None else percent / 100
        yield Point(ratio, {"hw.id": gpu.uuid, "hw.name": gpu.name})


def _host_gpu_memory(host: HostSample) -> Iterator[Point]:
    for gpu in host.gpus:
        yield Point(gpu.memory_used_bytes, {"hw.id": gpu.uuid, "hw.name": gpu.name})


HOST: tuple[Definition, ...] = (
    Definition("system.cpu.time", "s", "What the cores of the host did.", True, _host_cpu),
    Definition("system.cpu.logical.count", "{cpu}", "Cores.", False, _host_cores),
    Definition("system.memory.usage", "By", "Memory of the host, by state.", False, _host_memory),
    Definition("system.memory.limit", "By", "Memory of the host.", False, _host_memory_limit),
    Definition("system.linux.cpu.load_1m", "{thread}", "Load average.", False, _host_load),
    Definition(
        "system.filesystem.usage",
        "By",
        "Space of file systems, by state.",
        False,
        _host_filesystems,
    ),
    Definition("hw.gpu.utilization", "1", "Share of time in which it computed.", False, _host_gpus),
    Definition("hw.gpu.memory.usage", "By", "Used memory of GPUs.", False, _host_gpu_memory),
)
