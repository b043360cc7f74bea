"""A sample in the shape of the container engine's own ``GET /containers/{id}/stats``. Pure.

Collectors (Datadog, OpenTelemetry's ``awsecscontainermetrics``, Telegraf) read this shape from the
task metadata endpoint. It is made of a sample, the one before, and the texts of the container's files
(``sampler.raw_texts``): the engine is not asked. Members without a figure are left out, as the engine
does; ``percpu_usage`` is never there, as with cgroup v2.

Counters go on when a container is restarted (Source: Amazon ECS agent 1.105.1, ``agent/stats``).

Tests: ``tests/unit/metrics/test_docker_stats.py``, ``tests/integration/metrics/test_right_figures.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.metrics.cgroup_texts import table
from agent.model.metrics import LinkCounters, network_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.metrics.cgroup import RawTexts
    from agent.model.metrics import ContainerSample, CpuTimes, HostSample, MetricsBatch

_NEVER: Final = "0001-01-01T00:00:00Z"
"""How the engine writes the time of a sample that does not exist."""
_NS: Final = 10**9
_UNIFIED: Final = {
    b"rbytes": ("io_service_bytes_recursive", "read"),
    b"wbytes": ("io_service_bytes_recursive", "write"),
    b"rios": ("io_serviced_recursive", "read"),
    b"wios": ("io_serviced_recursive", "write"),
}


class _Moment(NamedTuple):
    """One container in one round."""

    at: float
    sample: ContainerSample
    networks: dict[str, LinkCounters]
    rates: tuple[float | None, float | None]
    host: HostSample


def stats_of(
    runtime_id: str,
    *,
    latest: MetricsBatch | None,
    before: MetricsBatch | None,
    raw: RawTexts,
    name: str,
    with_rates: bool = False,
) -> dict[str, Any] | None:
    """Return the statistics of a container as the engine writes them; None if it is not sampled.

    Args:
        runtime_id: its id in the engine.
        latest: the newest round of the sampler.
        before: the round before it.
        raw: the container's files as last read.
        name: its name in the engine, without a slash in front.
        with_rates: add ``network_rate_stats``, which version 4 of the metadata endpoint has; only
            once two samples with network figures exist.
    """
    now = _moment(runtime_id, latest)
    if now is None:
        return None
    last = _moment(runtime_id, before)
    stats: dict[str, Any] = {
        "read": _rfc3339(now.at),
        "preread": _NEVER if last is None else _rfc3339(last.at),
        "pids_stats": _known({"current": now.sample.pids, "limit": now.sample.pids_limit}),
        "blkio_stats": _blkio(now.sample, raw),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(now),
        "precpu_stats": _no_cpu() if last is None else _cpu(last),
        "memory_stats": _memory(now.sample, raw, now.host),
        "name": f"/{name}",
        "id": runtime_id,
    }
    if now.networks:
        stats["networks"] = {link: _link(counters) for link, counters in now.networks.items()}
    received, sent = now.rates
    if with_rates and received is not None and sent is not None:
        stats["network_rate_stats"] = {"rx_bytes_per_sec": received, "tx_bytes_per_sec": sent}
    return stats


def _moment(runtime_id: str, batch: MetricsBatch | None) -> _Moment | None:
    if batch is None:
        return None
    for task, sample in batch.pairs():
        if sample.runtime_id == runtime_id:
            network = network_of(task, sample)
            return _Moment(
                at=batch.at,
                sample=sample,
                networks=network.links if network else {},
                rates=(
                    (network.rx_bytes_per_s, network.tx_bytes_per_s) if network else (None, None)
                ),
                host=batch.host,
            )
    return None


def _cpu(moment: _Moment) -> dict[str, Any]:
    sample, host = moment.sample, moment.host
    return {
        "cpu_usage": {
            "total_usage": sample.cpu_ns or 0,
            "usage_in_kernelmode": sample.cpu_system_ns or 0,
            "usage_in_usermode": sample.cpu_user_ns or 0,
        },
        **_known({"system_cpu_usage": _system_ns(host.cpu_times), "online_cpus": host.cpus}),
        "throttling_data": {
            "periods": sample.cpu_periods or 0,
            "throttled_periods": sample.cpu_throttled_periods or 0,
            "throttled_time": sample.cpu_throttled_ns or 0,
        },
    }


def _no_cpu() -> dict[str, Any]:
    """Return what the engine writes where there is no sample before."""
    usage = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    throttling = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    return {"cpu_usage": usage, "throttling_data": throttling}


def _system_ns(times: CpuTimes | None) -> int | None:
    """Return what all cores of the host did, idling included, without what was stolen."""
    if times is None:
        return None
    spent = (
        *(times.user_s, times.nice_s, times.system_s, times.idle_s),
        *(times.iowait_s, times.irq_s, times.softirq_s),
    )
    return round(sum(spent) * 100) * (_NS // 100)


def _memory(sample: ContainerSample, raw: RawTexts, host: HostSample) -> dict[str, Any]:
    """Return memory; without a limit, the engine tells the memory of the host as the limit."""
    if sample.memory_usage_bytes is None:
        return {}
    return _known(
        {
            "usage": sample.memory_usage_bytes,
            "max_usage": sample.memory_max_usage_bytes,
            "failcnt": sample.memory_limit_hits,
            "stats": {
                name.decode(errors="replace"): int(value)
                for name, value in table(raw.memory_stat).items()
                if value.isdigit()
            },
            "limit": sample.memory_limit_bytes or host.memory_total_bytes,
        }
    )


def _blkio(sample: ContainerSample, raw: RawTexts) -> dict[str, Any]:
    """Return block I/O by device; sums go on after a restart, as they do in the sample."""
    rows: dict[str, list[dict[str, Any]]] = {
        "io_service_bytes_recursive": [],
        "io_serviced_recursive": [],
    }
    if raw.io_operations:
        rows["io_service_bytes_recursive"] += _rows_v1(raw.io_bytes)
        rows["io_serviced_recursive"] += _rows_v1(raw.io_operations)
    else:
        for line in raw.io_bytes.splitlines():
            device, *figures = line.split() or (b"",)
            for figure in figures:
                key, _, value = figure.partition(b"=")
                if key in _UNIFIED and value.isdigit():
                    kind, operation = _UNIFIED[key]
                    rows[kind] += _row(device, operation, value)
    for kind, operation, counted in (
        ("io_service_bytes_recursive", "read", sample.io_read_bytes),
        ("io_service_bytes_recursive", "write", sample.io_write_bytes),
        ("io_serviced_recursive", "read", sample.io_reads),
        ("io_serviced_recursive", "write", sample.io_writes),
    ):
        _carry_on(rows[kind], operation, counted or 0)
    return {kind: found or None for kind, found in rows.items()} | dict.fromkeys(
        (
            *("io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive"),
            *("io_merged_recursive", "io_time_recursive", "sectors_recursive"),
        )
    )


def _rows_v1(text: bytes) -> Iterable[dict[str, Any]]:
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            yield from _row(words[0], words[1].decode(errors="replace"), words[2])


def _row(device: bytes, operation: str, value: bytes) -> list[dict[str, Any]]:
    major, _, minor = device.partition(b":")
    if not (major.isdigit() and minor.isdigit()):
        return []
    return [{"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}]


def _carry_on(rows: list[dict[str, Any]], operation: str, counted: int) -> None:
    """Add what the runs before have counted to the first device."""
    own = [row for row in rows if row["op"].lower() == operation]
    missing = counted - sum(row["value"] for row in own)
    if missing <= 0:
        return
    if own:
        own[0]["value"] += missing
    else:
        rows.append({"major": 0, "minor": 0, "op": operation, "value": missing})


def _link(counters: LinkCounters) -> dict[str, int]:
    return {name: getattr(counters, name) for name in LinkCounters.__struct_fields__}


def _known(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _rfc3339(at: float) -> str:
    """Return a Unix time with nanoseconds, as the engine writes it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"
