"""AWS's time: the host's clock, corrected by its known offset.

Uses only the host's clock and the log. AWS refuses signatures that differ by more than a few
minutes from its own time, and every answer contains that time. So a host with a wrong clock can
still make calls after the first refusal. One event loop; never fails.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger()

LEAST_S: Final = 4.0
"""Smaller differences are explained by the time that the answer took."""
MOST_S: Final = 25 * 3600.0
"""Larger differences are ignored: a clock that is off by more than a time zone breaks TLS as well,
and a server must not get signatures that become valid next year."""

REMIND_S: Final = 300.0
"""Clock warnings are logged at most this often."""


class AwsClock:
    """A clock that answers of AWS can correct."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives Unix time in seconds."""
        self._clock = clock
        self._told_at = -math.inf
        self.skew_s = 0.0
        """Seconds to add to the host's clock."""

    def time(self) -> float:
        """Return AWS's Unix time in seconds, as far as known."""
        return self._clock() + self.skew_s

    def now(self) -> datetime:
        """Return AWS's time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def learn(self, date_header: str) -> bool:
        """Adopt the time of an answer whose request was refused because of its time.

        ``date_header`` is the ``Date`` of that answer. Returns whether the clock changed; if so,
        signing again may help. An invalid or absurdly distant date changes nothing.
        """
        told = _unix(date_header)
        if told is None:
            return False
        off_s = told - self._clock()
        if abs(off_s) > MOST_S:
            self._tell("clock differs too much from Amazon's to be corrected; set it", off_s)
            return False
        skew_s = off_s if abs(off_s) > LEAST_S else 0.0
        if abs(skew_s - self.skew_s) <= LEAST_S:
            return False
        self.skew_s = skew_s
        self._tell("clock differs from Amazon's; signing with Amazon's time", skew_s)
        return True

    def _tell(self, what: str, off_s: float) -> None:
        now = time.monotonic()
        if now - self._told_at >= REMIND_S:
            self._told_at = now
            _log.warning(what, off_s=round(off_s))


def _unix(date_header: str) -> float | None:
    try:
        told = parsedate_to_datetime(date_header)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
