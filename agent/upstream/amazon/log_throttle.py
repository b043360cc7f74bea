"""Logs repeated problems only now and then, so that a hostile server cannot flood the log.

Writes only to the log. Belongs to the event loop's thread.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger()

TELL_EVERY_S: Final = 60.0
"""Minimum time between two log lines about the same kind of problem."""


class LogThrottle:
    """One kind of problem: the first case is logged at once, later ones with their number."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._told_at = -math.inf
        self._untold = 0

    def tell(self, **about: object) -> bool:
        """Log this case unless one was logged recently; return whether it was logged.

        ``untold`` in the log line is the number of cases since the previous line.
        """
        now = self._clock()
        if now - self._told_at < TELL_EVERY_S:
            self._untold += 1
            return False
        _log.warning(self._event, untold=self._untold, **about)
        self._told_at, self._untold = now, 0
        return True
