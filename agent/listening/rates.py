"""Limits how often something is done or logged. Pure except for clock and log."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_EVERY_S: Final = 10.0
_ADDRESSES: Final = 4096
"""Addresses whose rate is tracked; the one unused for longest is dropped first."""
_ALL: Final = ""
_IN_ALL: Final = 4
"""The limit of all addresses together, as a multiple of the limit of one."""

_log = structlog.get_logger(__name__)


class LogThrottle:
    """Logs each kind of event at most once in ten seconds, and counts the rest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def note(self, event: str, **values: object) -> None:
        """Log a warning, or count it if one was logged recently.

        Args:
            event: one of a few fixed texts, with nothing from outside in it.
            values: the details of this occurrence.
        """
        now = self._clock()
        logged_at, unlogged = self._seen.get(event, (float("-inf"), 0))
        if now - logged_at < LOG_EVERY_S:
            self._seen[event] = (logged_at, unlogged + 1)
            return
        self._seen[event] = (now, 0)
        _log.warning(event, more_before=unlogged, **values)


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
