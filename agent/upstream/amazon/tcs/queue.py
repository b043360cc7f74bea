"""Messages that wait for the telemetry session: a bounded number of rounds. Pure.

A round is removed only when the socket has accepted all of it, so that rounds collected in a short
outage still arrive, in order. Above the limit, the oldest round is dropped: new metrics are worth
more.

Tests: ``tests/unit/upstream/amazon/tcs/test_requests.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS: Final = 15
"""Waiting rounds per kind: five minutes. Source: Amazon ECS agent 1.105.1, ``ecs-agent/tcs``."""
WAITING_BYTES: Final = 8 * 1024 * 1024
"""Maximum bytes of waiting rounds per kind; a single round may be larger."""


class RoundQueue:
    """The waiting rounds of one kind of message."""

    def __init__(self, limit: int = ROUNDS, limit_bytes: int = WAITING_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._rounds: deque[deque[bytes]] = deque()
        self._bytes = 0
        self._begun = False
        """Whether part of the oldest round was sent: then it is finished, and never dropped."""

    def __len__(self) -> int:
        """Return the number of waiting rounds, including one that was sent in part."""
        return len(self._rounds)

    def put(self, messages: Sequence[bytes]) -> int:
        """Add one round; return the number of old rounds dropped for it."""
        if not messages:
            return 0
        self._rounds.append(deque(messages))
        self._bytes += sum(map(len, messages))
        dropped = 0
        while len(self._rounds) - self._begun > 1 and (
            len(self._rounds) > self._limit or self._bytes > self._limit_bytes
        ):
            oldest = 1 if self._begun else 0
            self._bytes -= sum(map(len, self._rounds[oldest]))
            del self._rounds[oldest]
            dropped += 1
        return dropped

    def first(self) -> bytes | None:
        """Return the oldest message; None if there is none."""
        return self._rounds[0][0] if self._rounds else None

    def sent(self, message: bytes) -> None:
        """Remove a message that ``first`` returned; it may already have been dropped."""
        if not self._rounds or self._rounds[0][0] is not message:
            return
        self._rounds[0].popleft()
        self._bytes -= len(message)
        self._begun = bool(self._rounds[0])
        if not self._begun:
            self._rounds.popleft()


class TelemetryQueue:
    """Everything that waits to be sent: metrics, health, and the newest status of the instance."""

    def __init__(self) -> None:
        self.metrics = RoundQueue()
        self.health = RoundQueue()
        self.status = RoundQueue(limit=1)
        self._filled = asyncio.Event()

    def put(self, rounds: RoundQueue, messages: Sequence[bytes]) -> int:
        """Add a round to one of the queues; return the number of old rounds dropped for it."""
        dropped = rounds.put(messages)
        if messages:
            self._filled.set()
        return dropped

    async def next(self) -> tuple[RoundQueue, bytes]:
        """Return the next message, and the queue whose ``sent`` to call once it was sent."""
        while True:
            for rounds in (self.status, self.health, self.metrics):
                message = rounds.first()
                if message is not None:
                    return rounds, message
            self._filled.clear()
            await self._filled.wait()
