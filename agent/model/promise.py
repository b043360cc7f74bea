"""Promises of movement: by when a loop will have done something again, at the latest.

A loop that waits is no different from a loop that hangs, unless it said beforehand how long it would
wait. It says so here; the watchdog (``agent.service``) compares the promise with the clock. Pure but
for reading that clock.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORK_S: Final = 60.0
"""How long a loop may take between two waits that it announced."""


class Promise:
    """What one loop has promised. Belongs to the event loop's thread.

    A promise holds until the next one is made, so that no wait can be forgotten: one that was not
    announced has to end within ``WORK_S``.
    """

    __slots__ = ("_clock", "doing", "due", "part", "since")

    def __init__(self, part: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.part = part
        """Whose promise it is, in words for an operator."""
        self.doing = ""
        """What it is doing or waiting for."""
        self.since = clock()
        """Steady time at which it moved last, in seconds."""
        self.due = math.inf
        """Steady time by which it will have moved again; infinite while nothing is promised."""
        self._clock = clock

    @contextlib.contextmanager
    def within(self, seconds: float, doing: str) -> Iterator[None]:
        """Announce a wait that ends after this long at the latest."""
        self.promise(seconds, doing)
        try:
            yield
        finally:
            self.promise(WORK_S, f"going on after {doing}")

    @contextlib.contextmanager
    def resting(self, doing: str) -> Iterator[None]:
        """Announce a wait of any length: for nothing to do, or for a part with its own promise."""
        self.rest(doing)
        try:
            yield
        finally:
            self.promise(WORK_S, f"going on after {doing}")

    def rest(self, doing: str = "") -> None:
        """Promise nothing until further notice: the loop has ended or has nothing to do."""
        self.promise(math.inf, doing)

    def promise(self, seconds: float, doing: str) -> None:
        """Promise to move within this time; holds until the next promise."""
        self.doing = doing
        self.since = self._clock()
        self.due = self.since + seconds
