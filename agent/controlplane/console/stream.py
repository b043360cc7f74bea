"""``POST /control/changes``: what of a cluster has changed, and new figures, as lines of JSON.

``AskChanges`` → lines as ``changes.Line`` has them. The first comes at once, with the place from which the reader
knows all changes: what it reads after that line is complete. Changes that come together are told together. An
empty line comes when there is nothing else to say, so that either side notices when the other is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from agent.controlplane import access, records
from agent.controlplane.console.changes import Changes
from agent.controlplane.front.line_stream import KEEP_ALIVE_S, LineStreams
from agent.controlplane.store.contract import Compacted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import web

    from agent.controlplane.parts import Parts
    from agent.model.usage import Usage

CHANGES_PATH: Final = "/control/changes"
READERS_MOST: Final = 64
READERS_OF_ONE_MOST: Final = 32
"""Of one user, so that others have room."""
TOGETHER_S: Final = 0.2
"""How long changes are collected before they are told: a deployment changes much at once."""


class AskChanges(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Of what to tell changes."""

    cluster: str | None = None
    """Its name; None for the names of all clusters in which anything changes."""
    after: int | None = None
    """The place that the reader has; None for changes from now on."""


class ChangeStream:
    """Serves all readers of one control endpoint; for one event loop."""

    def __init__(self, parts: Parts) -> None:
        """Take the store and the figures."""
        self._parts = parts
        self._streams = LineStreams("changes", parts.open_calls)

    def close(self) -> None:
        """End all streams; may be called twice."""
        self._streams.close()

    async def answer(self, request: web.Request, asked: AskChanges) -> web.StreamResponse:
        """Send changes until the reader is gone.

        Raises:
            TooManyReaders: nothing was sent.
        """
        return await self._streams.answer(
            request, self._lines(asked), most=READERS_MOST, most_of_one=READERS_OF_ONE_MOST
        )

    async def _lines(self, asked: AskChanges) -> AsyncGenerator[bytes, None]:
        follower = await _Follower.open(self._parts, asked)
        pump = asyncio.create_task(follower.run(), name="changes for a reader")
        ended = asyncio.create_task(self._streams.ended.wait())
        try:
            yield follower.line()
            while not ended.done() and not pump.done():
                woken = asyncio.create_task(follower.woken.wait())
                await asyncio.wait(
                    [woken, ended, pump], timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
                )
                woken.cancel()
                if follower.woken.is_set():
                    await asyncio.wait([ended], timeout=TOGETHER_S)
                    yield follower.line()
                elif not ended.done() and not pump.done():
                    yield b"\n"
            if pump.done():
                pump.result()  # Raises what the store has failed with.
        finally:
            ended.cancel()
            pump.cancel()
            await asyncio.wait([ended, pump])
            if not pump.cancelled():
                pump.exception()  # It was told, or the reader is gone.
            await follower.close()


class _Follower:
    """Follows the store and the figures for one reader."""

    def __init__(self, parts: Parts, asked: AskChanges, place: int, changes: Changes) -> None:
        self._parts = parts
        self._cluster = asked.cluster
        self._place = place
        self._changes = changes
        self._watch = parts.store.watch("/", after_revision=place)
        self._heard = contextlib.ExitStack()
        self.woken = asyncio.Event()
        if parts.metrics is not None and asked.cluster is not None:
            self._heard.enter_context(parts.metrics.heard_by(self._take_usage))

    @classmethod
    async def open(cls, parts: Parts, asked: AskChanges) -> _Follower:
        """Begin to follow; ``close`` ends it."""
        newest = parts.store.revision
        # A place that this store has not reached is of another one, which it has replaced.
        is_known = asked.after is not None and 0 < asked.after <= newest
        place = asked.after if is_known and asked.after is not None else newest
        instances = await _instances(parts, asked.cluster)
        changes = Changes(asked.cluster, instances)
        if asked.after is not None and not is_known:
            changes.take_gap(instances)
        return cls(parts, asked, place, changes)

    def line(self) -> bytes:
        """Return what has changed since the last line."""
        self.woken.clear()
        return msgspec.json.encode(self._changes.line(self._place)) + b"\n"

    async def run(self) -> None:
        """Collect changes until cancelled; raises ``StoreFailure``."""
        while True:
            try:
                batch = await anext(self._watch)
            except Compacted as error:
                await self._watch.aclose()
                self._place = error.compact_revision
                self._watch = self._parts.store.watch("/", after_revision=self._place)
                self._changes.take_gap(await _instances(self._parts, self._cluster))
                self.woken.set()
                continue
            for event in batch.events:
                self._changes.take(event)
            self._place = batch.revision
            if self._changes:
                self.woken.set()

    async def close(self) -> None:
        """End it; may be called twice."""
        self._heard.close()
        await self._watch.aclose()

    def _take_usage(self, instance_id: str, usage: Usage) -> None:
        self._changes.take_usage(instance_id, usage)
        if self._changes:
            self.woken.set()


async def _instances(parts: Parts, cluster: str | None) -> list[str]:
    if cluster is None:
        return []
    pages = access.pages(parts.store, records.instances_prefix(cluster))
    return [records.last_element(kv.key) async for page in pages for kv in page]
