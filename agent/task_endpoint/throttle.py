"""How often one client may ask for one path. Pure except for the clock.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/tmds`` (a token bucket per client address and path).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_BUCKETS: Final = 4096
"""The one unused for longest is dropped first."""


class RequestRate(NamedTuple):
    """``ECS_TASK_METADATA_RPS_LIMIT``."""

    per_s: float = 40
    burst: int = 60


class Throttle:
    """The token buckets of one server."""

    def __init__(self, rate: RequestRate, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the rate; ``clock`` returns seconds that never go back."""
        self.rate = rate
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, int], tuple[float, float]] = OrderedDict()
        """By address and hash of the path: a client may ask for ever new paths of many kilobytes."""

    def take(self, address: str, path: str) -> bool:
        """Return whether a client may ask for a path now; if so, count it."""
        key, now = (address, hash(path)), self._clock()
        left, at = self._buckets.get(key, (float(self.rate.burst), now))
        left = min(float(self.rate.burst), left + (now - at) * self.rate.per_s)
        is_free = left >= 1
        self._buckets[key] = (left - 1 if is_free else left, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return is_free

    def __len__(self) -> int:
        return len(self._buckets)
