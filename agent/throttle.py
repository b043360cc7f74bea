"""Warnings that may repeat without end, logged only now and then with their number.

Whoever is on the other end of a connection must not be able to flood the log. Writes only to the log.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_EVERY_S: Final = 10.0
"""Minimum time between two log lines of the same kind, unless the owner wants another one."""

_log = structlog.get_logger(__name__)


class RepeatedWarning:
    """One kind of warning: the first is logged at once, later ones with their number."""

    def __init__(
        self,
        event: str,
        *,
        every_s: float = LOG_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event = event
        self._every_s = every_s
        self._clock = clock
        self._logged_at = -math.inf
        self._unlogged = 0

    def tell(self, **values: object) -> bool:
        """Log it unless it was logged recently; return whether it was logged.

        ``more_before`` in the log line is the number of cases since the previous line.

        Args:
            values: the details of this case.
        """
        now = self._clock()
        if now - self._logged_at < self._every_s:
            self._unlogged += 1
            return False
        _log.warning(self._event, more_before=self._unlogged, **values)
        self._logged_at, self._unlogged = now, 0
        return True


class LogThrottle:
    """Warnings of a few kinds, each logged at most once in ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[str, RepeatedWarning] = {}

    def note(self, event: str, **values: object) -> None:
        """Log a warning, or count it if one was logged recently.

        Args:
            event: one of a few fixed texts, with nothing from outside in it.
            values: the details of this occurrence.
        """
        kind = self._kinds.get(event)
        if kind is None:
            kind = self._kinds[event] = RepeatedWarning(event, clock=self._clock)
        kind.tell(**values)
