"""Sends metrics while control is connected, and drops them otherwise. Never blocks its callers.

Tests: ``tests/unit/upstream/longpoll/test_client.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from agent.errors import ControlFailure

if TYPE_CHECKING:
    from agent.model.metrics import MetricsBatch
    from agent.upstream.backoff import Backoff
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.longpoll.registration import LongPollRegistration

_KEEP: Final = 2
"""Rounds that may wait for a slow endpoint; above this, the oldest is dropped."""


class MetricsSender:
    """A short queue of metrics for one control endpoint."""

    def __init__(
        self,
        client: HttpClient,
        registration: LongPollRegistration,
        link: ConnectionStatus,
        backoff: Backoff,
    ) -> None:
        self._client = client
        self._registration = registration
        self._link = link
        self._backoff = backoff
        self._waiting: deque[MetricsBatch] = deque(maxlen=_KEEP)
        self._filled = asyncio.Event()

    def offer(self, batch: MetricsBatch) -> None:
        """Queue one round; drops the oldest if there are too many. Returns at once."""
        if self._link.connected:
            self._waiting.append(batch)
            self._filled.set()

    async def run(self) -> None:
        """Send until cancelled. A failure drops what waits; the poll reports the problem."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting and self._link.connected:
                batch = self._waiting.popleft()
                identity = await self._registration.identity()
                try:
                    await self._client.metrics(identity, batch)
                except ControlFailure:
                    await self._link.pause(self._backoff.next_s())
                    break
                self._backoff.reset()
            self._waiting.clear()
