"""Whether anything of an idle task may have changed since its last sample.

Most containers do nothing most of the time, and a reading costs what it touches: after a second, nothing of
it is in a cache. So of an idle task a round reads only the files that would tell of a change, and
compares them with what they said. What else could change a sample is looked at for all tasks together,
such as traffic (``host_ends``), and handed in as ``active``.

Tests: ``tests/unit/metrics/test_idle_watch.py``, ``tests/unit/metrics/test_collector.py``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from agent.metrics.cgroup import READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from agent.metrics.cgroup import WatchedFile

ActivitySource = int | str
"""Where a change of a task shows: a link of the host, by its number; a container that uses GPUs, by the engine's id."""


class IdleWatch:
    """What to compare of one task; not thread-safe."""

    __slots__ = ("_due_s", "_files", "_sources", "still_ns")

    def __init__(
        self,
        files: Iterable[WatchedFile],
        *,
        sources: Iterable[ActivitySource],
        due_s: float,
        now_ns: int,
    ) -> None:
        """Begin after a reading.

        Args:
            files: open files of its containers, each with what it said.
            sources: the task is read if one of them is active.
            due_s: monotonic time at which it is read in any case.
            now_ns: monotonic time of the reading.
        """
        self._files = tuple(files)
        self._sources = frozenset(sources)
        self._due_s = due_s
        self.still_ns = now_ns
        """When nothing had changed yet."""

    def is_still(self, now_s: float, active: Set[ActivitySource]) -> bool:
        """Tell whether the last sample still holds."""
        if now_s >= self._due_s or (active and not self._sources.isdisjoint(active)):
            return False
        try:
            for descriptor, said in self._files:
                if os.pread(descriptor, READ_BYTES, 0) != said:
                    return False
        except OSError:  # a container is gone
            return False
        self.still_ns = time.monotonic_ns()
        return True
