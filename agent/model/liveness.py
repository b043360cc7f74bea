"""Promises of progress: the latest time by which a loop will make progress again.

A waiting loop looks like a hanging one unless it announced how long it would wait. It announces
that here, and the watchdog (``agent.supervision``) compares the promise with the clock. Pure, except
that it reads that clock.

Tests: ``tests/unit/supervision/test_watchdog.py``,
``tests/unit/upstream/longpoll/test_liveness.py``.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORK_S: Final = 60.0
"""How long a loop may take between two announced waits."""


class Liveness:
    """The current promise of one loop. Belongs to the event loop's thread.

    A promise holds until the next one is made. So a wait that was not announced must end within
    ``WORK_S``.
    """

    __slots__ = ("_clock", "doing", "due", "part", "since")

    def __init__(self, part: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.part = part
        """The part that promises, in words for an operator."""
        self.doing = ""
        """What it is doing or waiting for."""
        self.since = clock()
        """Monotonic time of the last progress, in seconds."""
        self.due = math.inf
        """Monotonic time by which it will progress again; infinite while nothing is promised."""
        self._clock = clock

    @contextlib.contextmanager
    def within(self, seconds: float, doing: str) -> Iterator[None]:
        """Announce a wait of at most this long."""
        self.liveness(seconds, doing)
        try:
            yield
        finally:
            self.liveness(WORK_S, f"going on after {doing}")

    @contextlib.contextmanager
    def resting(self, doing: str) -> Iterator[None]:
        """Announce a wait of any length: there is no work, or another part has its own promise."""
        self.rest(doing)
        try:
            yield
        finally:
            self.liveness(WORK_S, f"going on after {doing}")

    def rest(self, doing: str = "") -> None:
        """Promise nothing for now: the loop has ended or has no work."""
        self.liveness(math.inf, doing)

    def liveness(self, seconds: float, doing: str) -> None:
        """Promise to make progress within this time; holds until the next promise."""
        self.doing = doing
        self.since = self._clock()
        self.due = self.since + seconds
