"""The metrics of the host. Pure.

Names begin with ``ecs_host_``; ``machine_cpu_cores`` and ``machine_memory_bytes`` are what dashboards made for
cAdvisor divide by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.exposition import Family, Labels, one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.exposition import Kind
    from agent.model.metrics import GpuSample, HostSample, LinkCounters
    from agent.model.views import ResourceView


def of_host(host: HostSample) -> Iterator[Family]:
    """Yield the metrics of a sample of the host."""
    for name, kind, text, value_of in _PLAIN:
        yield one(name, kind, text, value_of(host))
    yield from _cpu_times(host)
    yield from _filesystems(host)
    yield from _pressure(host)
    links = [(Labels({"interface": name}), counters) for name, counters in host.links.items()]
    for name, text, count_of in _COUNTED:
        series = [(labels, count_of(counters)) for labels, counters in links]
        yield Family(name, "counter", text, series)
    gpus = [(Labels({"gpu": gpu.uuid, "name": gpu.name}), gpu) for gpu in host.gpus]
    for name, text, figure_of in _GPUS:
        found = [(labels, value) for labels, gpu in gpus if (value := figure_of(gpu)) is not None]
        yield Family(name, "gauge", text, found)


def of_resources(resources: list[ResourceView]) -> Iterator[Family]:
    """Yield what the host offers to tasks, and what they have reserved."""
    labelled = [(Labels({"resource": view.name}), view) for view in resources]
    yield Family(
        "ecs_host_resource_capacity",
        "gauge",
        "What the host offers to tasks: CPU units, MiB, ports, GPUs.",
        [(labels, view.total) for labels, view in labelled],
    )
    yield Family(
        "ecs_host_resource_used",
        "gauge",
        "What tasks have reserved of it.",
        [(labels, view.used) for labels, view in labelled],
    )


def _cpu_times(host: HostSample) -> Iterator[Family]:
    times = host.cpu_times
    if times is None:
        return
    modes = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    yield Family(
        "ecs_host_cpu_seconds_total",
        "counter",
        "What the cores of the host did.",
        [(Labels({"mode": mode}), getattr(times, f"{mode}_s")) for mode in modes],
    )


def _filesystems(host: HostSample) -> Iterator[Family]:
    labelled = [(Labels({"filesystem": f.name, "path": f.path}), f) for f in host.filesystems]
    for name, text, field in (
        ("size_bytes", "Size of a file system.", "total_bytes"),
        ("used_bytes", "Used space of a file system.", "used_bytes"),
        ("available_bytes", "Space that is left to ordinary processes.", "available_bytes"),
        ("inodes", "Inodes of a file system.", "inodes_total"),
        ("inodes_used", "Inodes in use.", "inodes_used"),
    ):
        series = [(labels, getattr(f, field)) for labels, f in labelled]
        found = [(labels, value) for labels, value in series if value is not None]
        yield Family(f"ecs_host_filesystem_{name}", "gauge", text, found)


def _pressure(host: HostSample) -> Iterator[Family]:
    for resource, pressure in (
        ("cpu", host.cpu_pressure),
        ("memory", host.memory_pressure),
        ("io", host.io_pressure),
    ):
        if pressure is None:
            continue
        yield one(
            f"ecs_host_pressure_{resource}_waiting_seconds_total",
            "counter",
            f"Time in which some process waited for {resource}.",
            pressure.some.total_us / 1e6,
        )
        yield one(
            f"ecs_host_pressure_{resource}_stalled_seconds_total",
            "counter",
            f"Time in which all processes waited for {resource}.",
            None if pressure.full is None else pressure.full.total_us / 1e6,
        )


def _cores_used(host: HostSample) -> float | None:
    return None if host.cpu_percent is None else round(host.cpu_percent / 100, 6)


_PLAIN: list[tuple[str, Kind, str, Callable[[HostSample], float | None]]] = [
    ("machine_cpu_cores", "gauge", "Cores of the host that are online.", lambda h: h.cpus),
    ("machine_memory_bytes", "gauge", "Memory of the host.", lambda h: h.memory_total_bytes),
    ("ecs_host_cpu_cores_used", "gauge", "Busy cores of the host.", _cores_used),
    (
        "ecs_host_memory_total_bytes",
        "gauge",
        "Memory of the host.",
        lambda h: h.memory_total_bytes,
    ),
    (
        "ecs_host_memory_used_bytes",
        "gauge",
        "Memory of the host in use.",
        lambda h: h.memory_used_bytes,
    ),
    (
        "ecs_host_memory_available_bytes",
        "gauge",
        "Memory that processes can get without swapping.",
        lambda h: h.memory_available_bytes,
    ),
    (
        "ecs_host_memory_free_bytes",
        "gauge",
        "Memory that nothing uses.",
        lambda h: h.memory_free_bytes,
    ),
    (
        "ecs_host_memory_cached_bytes",
        "gauge",
        "Page cache and buffers.",
        lambda h: h.memory_cached_bytes,
    ),
    ("ecs_host_swap_total_bytes", "gauge", "Size of the swap.", lambda h: h.swap_total_bytes),
    ("ecs_host_swap_used_bytes", "gauge", "Used swap.", lambda h: h.swap_used_bytes),
    ("ecs_host_load1", "gauge", "Load average of one minute.", lambda h: h.load_1m),
    ("ecs_host_load5", "gauge", "Load average of five minutes.", lambda h: h.load_5m),
    ("ecs_host_load15", "gauge", "Load average of 15 minutes.", lambda h: h.load_15m),
    (
        "ecs_host_disk_total_bytes",
        "gauge",
        "Size of the file system with the container engine's data.",
        lambda h: h.disk_total_bytes,
    ),
    (
        "ecs_host_disk_used_bytes",
        "gauge",
        "Used space of the file system with the container engine's data.",
        lambda h: h.disk_used_bytes,
    ),
]

_COUNTED: list[tuple[str, str, Callable[[LinkCounters], int]]] = [
    ("ecs_host_network_receive_bytes_total", "Bytes received.", lambda c: c.rx_bytes),
    ("ecs_host_network_receive_packets_total", "Packets received.", lambda c: c.rx_packets),
    ("ecs_host_network_receive_errors_total", "Errors of reception.", lambda c: c.rx_errors),
    ("ecs_host_network_receive_dropped_total", "Incoming packets dropped.", lambda c: c.rx_dropped),
    ("ecs_host_network_transmit_bytes_total", "Bytes sent.", lambda c: c.tx_bytes),
    ("ecs_host_network_transmit_packets_total", "Packets sent.", lambda c: c.tx_packets),
    ("ecs_host_network_transmit_errors_total", "Errors of sending.", lambda c: c.tx_errors),
    (
        "ecs_host_network_transmit_dropped_total",
        "Outgoing packets dropped.",
        lambda c: c.tx_dropped,
    ),
]


def _utilization(gpu: GpuSample) -> float | None:
    percent = gpu.utilization_percent
    return None if percent is None else round(percent / 100, 4)


_GPUS: list[tuple[str, str, Callable[[GpuSample], float | None]]] = [
    ("ecs_host_gpu_utilization_ratio", "Share of time in which a GPU computed.", _utilization),
    ("ecs_host_gpu_memory_used_bytes", "Used memory of a GPU.", lambda g: g.memory_used_bytes),
    ("ecs_host_gpu_memory_total_bytes", "Memory of a GPU.", lambda g: g.memory_total_bytes),
    ("ecs_host_gpu_temperature_celsius", "Temperature of a GPU.", lambda g: g.temperature_celsius),
    ("ecs_host_gpu_power_watts", "Power that a GPU draws.", lambda g: g.power_watts),
]
