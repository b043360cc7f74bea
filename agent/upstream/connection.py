"""The state of the connection to control: up or down, since when, why; wakes waiting loops.

Shared by the loops of one client, on one event loop; the poll loop sets the state. Logs each change
once, and reminds of a lasting outage now and then.

Tests: ``tests/unit/upstream/amazon/test_registration.py``,
``tests/unit/upstream/amazon/submit/test_sender.py``.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger()

REMIND_S: Final = 300.0
"""Interval of reminders about a lasting outage in the log."""
WARN_EVERY_S: Final = 60.0
"""Minimum time between two log lines about the same kind of problem with control."""
FLAP_S: Final = 5.0
"""A new outage is not logged if the last log line is more recent than this."""


class ConnectionStatus:
    """The state of the connection to one endpoint."""

    def __init__(self, endpoint: str, clock: Callable[[], float] = time.time) -> None:
        self.endpoint = endpoint
        self.connected = False
        self.connects = 0
        """How often the connection was made."""
        self.since = clock()
        self.error = ""
        self.next_try = 0.0
        """Unix time of the next try if one is planned, else 0."""
        self._clock = clock
        self._logged_at = -math.inf
        self._told = True
        self._woken = asyncio.Event()

    def up(self) -> None:
        """Record that control answered."""
        if not self.connected:
            if self._told:
                _log.info("control connected", endpoint=self.endpoint)
            self.connects += 1
            self._turn(connected=True)
            self.wake()
        self.error = ""
        self.next_try = 0.0

    def down(self, error: Exception) -> None:
        """Record that control did not answer, or answered with an error."""
        lost = self.connected or not self.error
        if self.connected:
            self._turn(connected=False)
        self.error = str(error)
        waited_s = self._clock() - self._logged_at
        if lost:
            # A server that comes and goes many times a second must not flood the log.
            self._told = waited_s > FLAP_S
        if (lost and self._told) or waited_s > REMIND_S:
            _log.warning("control unavailable", endpoint=self.endpoint, error=self.error)
            self._logged_at = self._clock()

    def try_in(self, seconds: float) -> None:
        """Record when the next try to connect is planned, for display."""
        self.next_try = self._clock() + seconds

    def wake(self) -> None:
        """End all pauses, because control seems to be back."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait before the next try, or until control seems to be back."""
        woken = self._woken
        try:
            async with asyncio.timeout(seconds):
                await woken.wait()
        except TimeoutError:
            return

    def _turn(self, *, connected: bool) -> None:
        self.connected = connected
        self.since = self._clock()
