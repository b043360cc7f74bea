"""Resource usage of the agent itself: CPU time, memory, open files.

Reads ``/proc/self``. Blocks briefly, so call it in a thread. A value that cannot be read is 0.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from agent.metrics.prometheus import ProcessFigures


def read_process(*, loop_lag_s: float = 0.0, round_s: float = 0.0) -> ProcessFigures:
    """Return the metrics of this process, together with the given ones from the sampler."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return ProcessFigures(
        cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
        resident_bytes=_resident_bytes(),
        open_files=_open_files(),
        loop_lag_s=loop_lag_s,
        round_s=round_s,
    )


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, never walked
    except OSError:
        return 0
