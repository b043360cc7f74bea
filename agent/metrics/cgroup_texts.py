"""What the files of a control group say: texts in, figures out. Pure.

Any text is accepted: a number that is missing or not one is None. Names of the files are in
``V1_FILES``, ``V2_FILES`` and ``PRESSURE_FILES``; the parsers return what one file says, and
``usage_v1`` and ``usage_v2`` put together what all of them say.

Source of the formulas: Amazon ECS agent 1.105.1, ``agent/stats`` (``memory_bytes``), and cAdvisor
(``memory_working_set_bytes``).

Tests: ``tests/unit/metrics/test_cgroup_texts.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from agent.model.metrics import Pressure, Stall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_UNLIMITED: Final = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of the page size."""
_TICK_NS: Final = 10_000_000
"""The kernel tells user space of 100 ticks a second, whatever its own clock does."""
_STALL: Final = re.compile(
    rb"(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) avg300=(\d+\.\d+) total=(\d+)"
)

Table = dict[bytes, bytes]
"""Lines of ``name number``."""


class Io(NamedTuple):
    """Sums over all block devices."""

    read: int = 0
    written: int = 0


class UnifiedIo(NamedTuple):
    """Sums over all block devices."""

    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class Usage(NamedTuple):
    """Counters and gauges of one container at one moment; see ``ContainerSample``."""

    cpu_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    cpu_periods: int | None = None
    cpu_throttled_periods: int | None = None
    cpu_throttled_ns: int | None = None
    memory_limit_hits: int | None = None
    oom_kills: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_reads: int | None = None
    io_writes: int | None = None
    memory_max_usage_bytes: int | None = None
    memory_bytes: int | None = None
    memory_usage_bytes: int | None = None
    memory_working_set_bytes: int | None = None
    memory_cache_bytes: int | None = None
    memory_inactive_file_bytes: int | None = None
    memory_rss_bytes: int | None = None
    memory_swap_bytes: int | None = None
    memory_limit_bytes: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


COUNTERS: Final = Usage._fields.index("memory_max_usage_bytes")
"""The fields of ``Usage`` before this one are counters, which begin anew with the group."""


def counters_of(usage: Usage) -> tuple[int | None, ...]:
    """Return the counters of a reading."""
    return cast("tuple[int | None, ...]", usage[:COUNTERS])


def number(text: bytes) -> int | None:
    """Return a number; None for ``max`` (no limit) and for an empty or invalid text."""
    text = text.strip()
    return int(text) if text.isdigit() else None


def table(text: bytes) -> Table:
    """Return lines of ``name number`` by name."""
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=False))


def pressure(text: bytes) -> Pressure | None:
    """Return what a file of pressure stall information says; None without its line ``some``."""
    lines = {
        kind: Stall(
            avg10_percent=float(avg10),
            avg60_percent=float(avg60),
            avg300_percent=float(avg300),
            total_us=int(total),
        )
        for kind, avg10, avg60, avg300, total in _STALL.findall(text)
    }
    some = lines.get(b"some")
    return None if some is None else Pressure(some=some, full=lines.get(b"full"))


def io_v1(text: bytes) -> Io:
    """Sum the lines ``major:minor Read|Write number`` of every device."""
    read = written = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            operation = words[1].lower()
            if operation == b"read":
                read += int(words[2])
            elif operation == b"write":
                written += int(words[2])
    return Io(read, written)


def io_v2(text: bytes) -> UnifiedIo:
    """Sum the lines ``major:minor rbytes=... wbytes=... rios=... wios=...`` of every device."""
    sums = dict.fromkeys((b"rbytes", b"wbytes", b"rios", b"wios"), 0)
    for word in text.split():
        key, _, value = word.partition(b"=")
        if key in sums and value.isdigit():
            sums[key] += int(value)
    return UnifiedIo(*sums.values())


V1_FILES: Final[tuple[tuple[str, str, Callable[[bytes], Any]], ...]] = (
    ("cpuacct", "cpuacct.usage", number),
    ("cpuacct", "cpuacct.stat", table),
    ("cpu", "cpu.stat", table),
    ("memory", "memory.usage_in_bytes", number),
    ("memory", "memory.stat", table),
    ("memory", "memory.max_usage_in_bytes", number),
    ("memory", "memory.failcnt", number),
    ("memory", "memory.oom_control", table),
    ("pids", "pids.current", number),
    ("pids", "pids.max", number),
    ("blkio", "blkio.throttle.io_service_bytes_recursive", io_v1),
    ("blkio", "blkio.throttle.io_serviced_recursive", io_v1),
)
"""Controller, file and parser, in the order of ``usage_v1``."""
V2_FILES: Final[tuple[tuple[str, Callable[[bytes], Any]], ...]] = (
    ("cpu.stat", table),
    ("memory.current", number),
    ("memory.stat", table),
    ("memory.peak", number),
    ("memory.events", table),
    ("memory.max", number),
    ("../memory.max", number),
    ("memory.swap.current", number),
    ("pids.current", number),
    ("pids.max", number),
    ("io.stat", io_v2),
)
"""File and parser, in the order of ``usage_v2``."""
PRESSURE_FILES: Final = ("cpu.pressure", "memory.pressure", "io.pressure")
"""Of the unified hierarchy, which may be mounted beside the controllers of version 1."""


def usage_v1(said: Sequence[Any], pressures: Sequence[Pressure | None]) -> Usage:
    """Combine what the files of split controllers say; None stands for a missing file.

    The limit is the smallest of the container and its parent groups. ``memory.stat`` contains it,
    so ``memory.limit_in_bytes`` need not be read.
    """
    cpu, ticks, throttling, used, memory, most, fails, oom, pids, pids_limit, moved, done = said
    stat = memory or {}
    throttled = throttling or {}
    limit = number(stat.get(b"hierarchical_memory_limit", b""))
    cache = number(stat.get(b"total_cache", b""))
    inactive = number(stat.get(b"total_inactive_file", b""))
    return Usage(
        cpu_ns=cpu,
        cpu_user_ns=_scaled(ticks, b"user", _TICK_NS),
        cpu_system_ns=_scaled(ticks, b"system", _TICK_NS),
        cpu_periods=number(throttled.get(b"nr_periods", b"")),
        cpu_throttled_periods=number(throttled.get(b"nr_throttled", b"")),
        cpu_throttled_ns=number(throttled.get(b"throttled_time", b"")),
        memory_limit_hits=fails,
        oom_kills=_scaled(oom, b"oom_kill", 1),
        io_read_bytes=None if moved is None else moved.read,
        io_write_bytes=None if moved is None else moved.written,
        io_reads=None if done is None else done.read,
        io_writes=None if done is None else done.written,
        memory_max_usage_bytes=most,
        memory_bytes=_without(used, cache),
        memory_usage_bytes=used,
        memory_working_set_bytes=_without(used, inactive),
        memory_cache_bytes=cache,
        memory_inactive_file_bytes=inactive,
        memory_rss_bytes=number(stat.get(b"total_rss", b"")),
        memory_swap_bytes=number(stat.get(b"total_swap", b"")),
        memory_limit_bytes=limit if limit is not None and limit < _UNLIMITED else None,
        pids=pids,
        pids_limit=pids_limit,
        cpu_pressure=pressures[0],
        memory_pressure=pressures[1],
        io_pressure=pressures[2],
    )


def usage_v2(said: Sequence[Any], pressures: Sequence[Pressure | None]) -> Usage:
    """Combine what the files of the unified hierarchy say; None stands for a missing file.

    The limit is the smaller one of the container and of the group above it, the task's.
    """
    cpu, used, memory, most, events, limit, task_limit, swap, pids, pids_limit, io = said
    stat = memory or {}
    inactive = number(stat.get(b"inactive_file", b""))
    return Usage(
        cpu_ns=_scaled(cpu, b"usage_usec", 1000),
        cpu_user_ns=_scaled(cpu, b"user_usec", 1000),
        cpu_system_ns=_scaled(cpu, b"system_usec", 1000),
        cpu_periods=_scaled(cpu, b"nr_periods", 1),
        cpu_throttled_periods=_scaled(cpu, b"nr_throttled", 1),
        cpu_throttled_ns=_scaled(cpu, b"throttled_usec", 1000),
        memory_limit_hits=_scaled(events, b"max", 1),
        oom_kills=_scaled(events, b"oom_kill", 1),
        io_read_bytes=None if io is None else io.read_bytes,
        io_write_bytes=None if io is None else io.write_bytes,
        io_reads=None if io is None else io.reads,
        io_writes=None if io is None else io.writes,
        memory_max_usage_bytes=most,
        memory_bytes=_without(used, inactive),
        memory_usage_bytes=used,
        memory_working_set_bytes=_without(used, inactive),
        memory_cache_bytes=number(stat.get(b"file", b"")),
        memory_inactive_file_bytes=inactive,
        memory_rss_bytes=number(stat.get(b"anon", b"")),
        memory_swap_bytes=swap,
        memory_limit_bytes=min((one for one in (limit, task_limit) if one), default=None),
        pids=pids,
        pids_limit=pids_limit,
        cpu_pressure=pressures[0],
        memory_pressure=pressures[1],
        io_pressure=pressures[2],
    )


def _scaled(said: Mapping[bytes, bytes] | None, name: bytes, factor: int) -> int | None:
    found = number(said.get(name, b"")) if said else None
    return None if found is None else found * factor


def _without(used: int | None, cache: int | None) -> int | None:
    """Return memory without a cache that is smaller; all of it if the cache is not known."""
    if used is None or cache is None or cache >= used:
        return used
    return used - cache
