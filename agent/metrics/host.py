"""Resource usage of the whole host, through psutil.

Blocks (a hanging file system makes ``disk_usage`` hang), so call it in a thread. Reads nothing
before the first call.

Tests: ``tests/unit/metrics/test_collector.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from agent.model.metrics import HostSample

if TYPE_CHECKING:
    from pathlib import Path


class HostReader:
    """Reads the host's metrics; CPU is the mean since the previous call."""

    def __init__(self, disk_path: Path) -> None:
        """Prepare; nothing is read yet.

        Args:
            disk_path: any path on the file system whose usage is reported.
        """
        self._disk_path = str(disk_path)
        self._busy_s: float | None = None
        self._at_s = 0.0

    def read(self, at: float, monotonic_s: float) -> HostSample:
        """Read all metrics now.

        Args:
            at: Unix time of the sample.
            monotonic_s: monotonic time, for the rate.

        Raises:
            OSError: the disk path is gone.
        """
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(self._disk_path)
        return HostSample(
            at=at,
            cpu_percent=self._cpu_percent(monotonic_s),
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            load_1m=round(os.getloadavg()[0], 2),
            disk_used_bytes=disk.used,
            disk_total_bytes=disk.total,
        )

    def _cpu_percent(self, monotonic_s: float) -> float:
        """Return the busy share. User time includes guests; idle, I/O wait and steal do not count."""
        times = psutil.cpu_times()
        busy_s = times.user + times.nice + times.system + times.irq + times.softirq
        before_s, self._busy_s = self._busy_s, busy_s
        elapsed_s, self._at_s = monotonic_s - self._at_s, monotonic_s
        if before_s is None or elapsed_s <= 0:
            return 0.0
        return round(max(0.0, 100 * (busy_s - before_s) / elapsed_s), 2)
