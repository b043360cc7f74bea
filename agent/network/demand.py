"""How many sandboxes of a network mode are kept ready: follows the demand, within memory. Pure.

A mode that nobody uses has none. With the first launch comes the configured number; after a burst of
more launches, as many as it had. That halves with each half hour, and a day after the last launch
nothing is kept.

Tests: ``tests/unit/network/test_demand.py``.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct

GAP_S: Final = 10.0
"""Launches that follow each other within this time are one burst."""
HALF_LIFE_S: Final = 1800.0
FORGOTTEN_S: Final = 24 * 3600.0
SANDBOX_BYTES: Final = 8 << 20
"""Memory of one sandbox: its pause program and the engine's process that watches it."""
MEMORY_SHARE: Final = 32
"""Ready sandboxes use at most one part in so many of the memory that is available."""


class Demand(Struct, frozen=True):
    """Launches of one network mode, as seen so far. Times are of one monotonic clock, in seconds."""

    burst: int = 0
    """Launches of the current burst."""
    last: float = 0.0
    """When the last launch was."""
    peak: float = 0.0
    """Launches of the largest burst, less what was forgotten until ``last``."""

    def launched(self, now: float) -> Demand:
        """Return the demand after one more launch."""
        goes_on = self.burst and now - self.last <= GAP_S
        burst = self.burst + 1 if goes_on else 1
        return Demand(burst, now, max(self.level(now), float(burst)))

    def level(self, now: float) -> float:
        """Return the size of the largest burst, less what was forgotten until now."""
        return self.peak * math.exp2(-max(0.0, now - self.last) / HALF_LIFE_S)

    def wanted(self, now: float, *, least: int, most: int) -> int:
        """Return how many sandboxes to keep ready now.

        Args:
            now: the time.
            least: for a mode that is in use; 0 keeps none in any case.
            most: upper limit.
        """
        if not self.burst or least <= 0 or now - self.last >= FORGOTTEN_S:
            return 0
        return max(0, min(max(least, math.ceil(self.level(now))), most))


def most_for(available_bytes: int) -> int:
    """Return how many sandboxes fit the share of the available memory."""
    return max(0, available_bytes) // MEMORY_SHARE // SANDBOX_BYTES
