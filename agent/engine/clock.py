"""Time as the task engine uses it: one clock to record by, one to wait by. Reads clocks, no more.

What is reported or shown is wall time. Wall clocks are set: by hand, by NTP after a boot with an
empty battery. Waiting by them would hold a retry back for hours or end a wait at once, so that
whatever is waited for in this process is measured, or corrected, by the steady clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SET_S = 0.5
"""A wall clock that moves this much against the steady one was set; less is drift and slewing."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Both clocks, in seconds."""

    wall: Callable[[], float] = time.time
    """Unix time."""
    steady: Callable[[], float] = time.monotonic
    """From an arbitrary moment on; never set."""


class ClockWatch:
    """Notices when the wall clock was set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.wall() - clock.steady()

    def was_set_by(self) -> float:
        """Return how far the wall clock was set since the last call, forward being positive."""
        offset = self._clock.wall() - self._clock.steady()
        by_s = offset - self._offset
        if abs(by_s) < SET_S:
            return 0.0
        self._offset = offset
        return by_s
