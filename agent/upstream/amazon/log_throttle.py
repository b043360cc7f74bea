"""Trouble that repeats, told once in a while: what a hostile back end does must not fill the log.

Touches the log alone. Belongs to the event loop's thread.
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
"""How long the same kind of trouble stays untold after it was told of."""


class LogThrottle:
    """One kind of trouble: its first case is logged at once, later ones together with their number."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._told_at = -math.inf
        self._untold = 0

    def tell(self, **about: object) -> bool:
        """Log this case unless one was logged lately; True when it was.

        ``untold`` in the line is how many cases went by since the last one.
        """
        now = self._clock()
        if now - self._told_at < TELL_EVERY_S:
            self._untold += 1
            return False
        _log.warning(self._event, untold=self._untold, **about)
        self._told_at, self._untold = now, 0
        return True
