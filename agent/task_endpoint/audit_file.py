"""The audit log's file, written by a thread of its own: a slow disk delays no answer.

Lines wait in order, at most ``WAITING_MOST`` of them; beyond that, new ones are dropped and the agent's log says
so. Every line is in the agent's log as well.

Tests: ``tests/unit/task_endpoint/test_audit_file.py``.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

from agent.throttle import RepeatedWarning

if TYPE_CHECKING:
    from collections.abc import Callable

WAITING_MOST: Final = 10_000
CLOSE_LIMIT_S: Final = 2.0


class AuditFile:
    """Takes lines on the event loop, and writes them in a thread. ``close`` it."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Start the thread.

        Args:
            write: writes one line; may block, and may fail, which is the end of that line alone.
        """
        self._write = write
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_MOST)
        self._dropped = RepeatedWarning("the audit file is too slow, lines are missing in it")
        self._thread = threading.Thread(target=self._work, name="audit-file", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Have a line written. Returns at once."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped.tell(waiting=WAITING_MOST)

    def close(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Wait until all lines are written, but not for long; may be repeated."""
        try:
            self._lines.put(None, timeout=limit_s)
        except queue.Full:
            return
        self._thread.join(limit_s)

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
