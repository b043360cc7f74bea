"""Limits how often something is done. Pure except for the clock."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ADDRESSES: Final = 4096
"""Addresses whose rate is tracked; the one unused for longest is dropped first."""
_ALL: Final = ""
_IN_ALL: Final = 4
"""The limit of all addresses together, as a multiple of the limit of one."""


class RateLimits:
    """A token bucket for each address and one for all of them."""

    def __init__(
        self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Return whether the address may have one more now; if so, count it."""
        now = self._clock()
        own = self._left(address, now, 1)
        all_left = self._left(_ALL, now, _IN_ALL)
        is_free = own >= 1 and all_left >= 1
        cost = 1 if is_free else 0
        self._put(address, own - cost, now)
        self._put(_ALL, all_left - cost, now)
        return is_free

    def __len__(self) -> int:
        return len(self._buckets)

    def _left(self, address: str, now: float, factor: int) -> float:
        left, at = self._buckets.get(address, (float(self._burst * factor), now))
        return min(self._burst * factor, left + (now - at) * self._per_s * factor)

    def _put(self, address: str, left: float, now: float) -> None:
        self._buckets[address] = (left, now)
        self._buckets.move_to_end(address)
        if len(self._buckets) > _ADDRESSES:
            self._buckets.popitem(last=False)
