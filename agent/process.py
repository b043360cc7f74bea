"""What this process itself uses, and the metrics of it that every Prometheus client has.

Reads ``/proc/self``. Blocks briefly, so call it in a thread. A value that cannot be read is missing.
Source of the names: the Prometheus guide for writing client libraries, "Process metrics".

Tests: ``tests/unit/test_process.py``.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from msgspec import Struct

from agent.exposition import Family, one


class ProcessUse(Struct, frozen=True, kw_only=True):
    """Usage of one process."""

    cpu_s: float
    resident_bytes: int | None = None
    open_files: int | None = None
    open_files_limit: int | None = None
    """The soft limit."""


def read() -> ProcessUse:
    """Return what this process uses now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return ProcessUse(
        cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
        resident_bytes=_resident_bytes(),
        open_files=_open_files(),
        open_files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def families(use: ProcessUse, started_at: float) -> list[Family]:
    """Return the metrics of a process that started at a Unix time."""
    return [
        one(
            "process_cpu_seconds_total",
            "counter",
            "CPU time of the process, user and system.",
            use.cpu_s,
        ),
        one(
            "process_resident_memory_bytes",
            "gauge",
            "Memory of the process that is resident.",
            use.resident_bytes,
        ),
        one("process_open_fds", "gauge", "Open files of the process.", use.open_files),
        one(
            "process_max_fds",
            "gauge",
            "How many files the process may open.",
            use.open_files_limit,
        ),
        one(
            "process_start_time_seconds",
            "gauge",
            "When the process started, in Unix seconds.",
            started_at,
        ),
    ]


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, never walked
    except OSError:
        return None
