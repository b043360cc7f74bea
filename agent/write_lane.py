"""A thread that writes what others hand it, in order: a slow disk delays nobody.

What waits is bounded; beyond that, things are refused, and whoever hands them over counts them.

Tests: ``tests/unit/test_write_lane.py``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Item = TypeVar("_Item")


class WriteLane(Generic[_Item]):
    """Takes things from any thread and writes them in one of its own. ``close`` it."""

    def __init__(self, write: Callable[[list[_Item]], object], *, most: int, name: str) -> None:
        """Start the thread.

        Args:
            write: gets everything that waits, oldest first; may block, and must not raise.
            most: of the weights that may wait together.
            name: of the thread.
        """
        self._write = write
        self._most = most
        self._waiting: list[_Item] = []
        self._weight = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many things wait; those that are being written do not count."""
        return len(self._waiting)

    def put(self, item: _Item, weight: int = 1) -> bool:
        """Have something written. Returns at once, with False if too much waits or it is closed.

        One thing alone is always taken, whatever its weight.
        """
        with self._changed:
            is_full = self._waiting and self._weight + weight > self._most
            if is_full or self._is_closed:
                return False
            self._waiting.append(item)
            self._weight += weight
            self._changed.notify()
        return True

    def close(self, limit_s: float) -> None:
        """Wait until everything is written, but not for long; may be repeated."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(limit_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                taken, self._waiting = self._waiting, []
                self._weight = 0
            self._write(taken)
