"""The audit log's file, written by a thread of its own: a slow disk delays no answer.

Lines wait in order, at most ``WAITING_MOST`` of them; beyond that, new ones are dropped and the agent's log says
so. Every line is in the agent's log as well.

Tests: ``tests/unit/task_endpoint/test_audit_file.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.throttle import RepeatedWarning
from agent.write_lane import WriteLane

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
        self._dropped = RepeatedWarning("the audit file is too slow, lines are missing in it")
        self._lane: WriteLane[str] = WriteLane(
            self._write_all, most=WAITING_MOST, name="audit-file"
        )

    @property
    def waiting(self) -> int:
        """How many lines wait."""
        return self._lane.waiting

    def write(self, line: str) -> None:
        """Have a line written. Returns at once."""
        if not self._lane.put(line):
            self._dropped.tell(waiting=WAITING_MOST)

    def close(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Wait until all lines are written, but not for long; may be repeated."""
        self._lane.close(limit_s)

    def _write_all(self, lines: list[str]) -> None:
        for line in lines:
            self._write(line)
