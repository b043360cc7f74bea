"""The engine's clocks: wall time for records, monotonic time for waits. Only reads clocks.

Reports and displays use wall time. A wall clock can be set, by hand or by NTP after a boot with an
empty battery. A wait by that clock could delay a retry for hours or end at once. So all waits in
this process use the monotonic clock, or are corrected by it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SET_S = 0.5
"""If wall and monotonic clock differ by this much, the wall clock was set; less is drift and
slewing."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Both clocks, in seconds."""

    wall: Callable[[], float] = time.time
    """Unix time."""
    steady: Callable[[], float] = time.monotonic
    """Monotonic seconds from an arbitrary start; never set."""


class ClockWatch:
    """Notices that the wall clock was set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.wall() - clock.steady()

    def was_set_by(self) -> float:
        """Return by how much the wall clock was set since the last call; positive is forward."""
        offset = self._clock.wall() - self._clock.steady()
        by_s = offset - self._offset
        if abs(by_s) < SET_S:
            return 0.0
        self._offset = offset
        return by_s
