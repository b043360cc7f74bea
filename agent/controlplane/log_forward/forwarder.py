"""The loop that forwards to one destination: window after window, each until it is delivered."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane.log_forward.chunks import chunks_of
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from agent.controlplane.log_forward.chunks import Chunk, Destination, Refusal
    from agent.controlplane.log_store.reading import Window
    from agent.controlplane.log_store.store import LogStore

WINDOW_EVENTS: Final = 5_000
WINDOW_BYTES: Final = 1024 * 1024
GATHER_S: Final = 1.0
"""How long events are waited for that go along with the first one."""
LAGS_S: Final = 60.0
"""From here on a destination is told to lag."""
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_REMIND_S: Final = 300.0

_log = structlog.get_logger(__name__)


class Forwarder:
    """Forwards all that one store takes to one destination."""

    def __init__(self, store: LogStore, destination: Destination, cursor: int) -> None:
        """``cursor`` is the sequence to begin with."""
        self._store = store
        self._destination = destination
        self._cursor = cursor
        self._trouble = ""
        self._pending_since_ms: int | None = None
        """When the oldest event was taken that is not delivered; None for none."""
        self._told_at = -_REMIND_S
        self._dice = random.Random()  # noqa: S311 - spreads load, guards nothing

    @classmethod
    async def open(cls, store: LogStore, destination: Destination) -> Forwarder:
        """Return what goes on where it was; a destination that is new gets what comes from now on.

        Raises:
            StoreFailure: the cursor cannot be read or written.
        """
        cursor = await store.cursor(destination.name)
        if cursor is None:
            cursor = store.next_sequence
            await store.set_cursor(destination.name, cursor)
        return cls(store, destination, cursor)

    @property
    def name(self) -> str:
        """Of the destination."""
        return self._destination.name

    @property
    def lag_s(self) -> float:
        """How long the oldest event waits that is not delivered."""
        if self._pending_since_ms is None:
            return 0.0
        return max(0.0, self._store.clock() - self._pending_since_ms / 1000)

    @property
    def problem(self) -> str:
        """What is to be told of it, for a person; empty while it keeps up."""
        if self.lag_s <= LAGS_S:
            return ""
        reason = f": {self._trouble}" if self._trouble else ""
        return f"forwarding to {self.name} lags by {self.lag_s:.0f} s{reason}"

    async def run(self) -> None:
        """Forward until cancelled; whatever is wrong with store or destination is tried again."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                while True:
                    self._cursor = await self._forward(self._cursor)
                    wait_s = _FIRST_WAIT_S
            except StoreFailure as error:
                self._say(f"the log store: {error}")
            await asyncio.sleep(self._dice.uniform(0.5, 1.0) * wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def _forward(self, cursor: int) -> int:
        """Deliver the window at a cursor, waiting for events where there are none; return the next."""
        seen = self._store.batches_taken
        window = await self._window(cursor)
        if window.next_sequence == cursor:
            self._pending_since_ms = None
            await self._store.grown(seen)
            await asyncio.sleep(GATHER_S)
            return cursor
        skipped = window.next_sequence - cursor - len(window.events)
        if skipped > 0:
            _log.warning(
                "log events are not forwarded: they were deleted or dropped before",
                to=self.name,
                events=skipped,
            )
        if window.events:
            self._pending_since_ms = min(event.ingested_ms for event in window.events)
            await self._deliver(chunks_of(window))
        await self._store.set_cursor(self.name, window.next_sequence)
        return window.next_sequence

    async def _window(self, cursor: int) -> Window:
        return await self._store.window(cursor, most_events=WINDOW_EVENTS, most_bytes=WINDOW_BYTES)

    async def _deliver(self, chunks: list[Chunk]) -> None:
        """Return when all of it is delivered or refused for good."""
        wait_s = _FIRST_WAIT_S
        while chunks:
            before = len(chunks)
            sent = await self._destination.send(chunks)
            for refusal in sent.refusals:
                self._tell(refusal)
            chunks = sent.again
            if not chunks:
                break
            self._say(sent.trouble)
            if len(chunks) < before:
                wait_s = _FIRST_WAIT_S
            await asyncio.sleep(self._dice.uniform(0.5, 1.0) * wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        if self._trouble:
            _log.info("logs are forwarded again", to=self.name)
            self._trouble = ""

    def _say(self, trouble: str) -> None:
        """Log what is in the way, when it is new and then every few minutes."""
        now = time.monotonic()
        if trouble != self._trouble or now - self._told_at >= _REMIND_S:
            _log.warning(
                "logs cannot be forwarded; tried again",
                to=self.name,
                error=trouble,
                lag_s=round(self.lag_s),
            )
            self._told_at = now
        self._trouble = trouble

    def _tell(self, refusal: Refusal) -> None:
        _log.warning(
            "log events are refused and not forwarded",
            to=self.name,
            group=refusal.chunk.group,
            stream=refusal.chunk.stream,
            events=refusal.events,
            error=refusal.text,
        )
