"""``POST /control/events``: events as a stream of JSON, one a line.

``AskEvents`` → lines ``{"place": 17, "event": {...}}``. An empty line comes when there is nothing else to say, so
that either side notices when the other is gone. A reader that reads too slowly is told what it has missed
(``isGap``), and slows nobody down.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from agent.controlplane.events.feed import EventFeed
from agent.controlplane.front.line_stream import KEEP_ALIVE_S, LineStreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import web

    from agent.controlplane.events.feed import Batch
    from agent.controlplane.parts import Parts

EVENTS_PATH: Final = "/control/events"
READERS_MOST: Final = 32
READERS_OF_ONE_MOST: Final = 16
"""Of one user, so that others have room."""


class AskEvents(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which events to return."""

    after: int | None = None
    """The place that the reader has; 0 for all that are kept, None for those that come from now on."""
    follow: bool = False
    """Whether to wait for more at the end."""


class EventStream:
    """Serves all readers of one control endpoint; for one event loop."""

    def __init__(self, parts: Parts) -> None:
        """Take the store and the names."""
        self._parts = parts
        self._streams = LineStreams("events", parts.open_calls)

    def close(self) -> None:
        """End all streams; may be called twice."""
        self._streams.close()

    async def answer(self, request: web.Request, asked: AskEvents) -> web.StreamResponse:
        """Send events until the reader is gone, or all are sent if it does not follow.

        Raises:
            TooManyReaders: nothing was sent.
        """
        return await self._streams.answer(
            request, self._told(asked), most=READERS_MOST, most_of_one=READERS_OF_ONE_MOST
        )

    async def _told(self, asked: AskEvents) -> AsyncGenerator[bytes, None]:
        parts = self._parts
        async with EventFeed(parts.store, parts.names, parts.clock, after=asked.after) as feed:
            place = asked.after if asked.after is not None else feed.began_at
            if not asked.follow and place >= feed.began_at:
                return
            async with contextlib.aclosing(self._batches(feed)) as batches:
                async for batch in batches:
                    if lines := _lines(batch):
                        yield lines
                    if batch is not None and not asked.follow and batch.place >= feed.began_at:
                        return

    async def _batches(self, feed: EventFeed) -> AsyncGenerator[Batch | None, None]:
        """Yield what a feed has until the end; None whenever it had nothing for a while."""
        pending = asyncio.ensure_future(feed.next())
        ended = asyncio.ensure_future(self._streams.ended.wait())
        try:
            while not ended.done():
                await asyncio.wait(
                    [pending, ended], timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
                )
                if pending.done():
                    yield pending.result()
                    pending = asyncio.ensure_future(feed.next())
                elif not ended.done():
                    yield None
        finally:
            ended.cancel()
            pending.cancel()
            await asyncio.wait([ended, pending])


def _lines(batch: Batch | None) -> bytes:
    if batch is None:
        return b"\n"
    lines = [{"place": batch.place, "isGap": True}] if batch.is_gap else []
    told = [{"place": place, "event": event} for place, event in batch.events]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in [*lines, *told])
