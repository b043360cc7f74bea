"""What changes in a store in etcd, told to its watches: new changes from etcd's watch, older ones from its history.

::

    hub ◄── new changes   ◄── one watch of etcd (``etcd_feed``)
        ◄── older changes ◄── history of etcd, for watches that begin late

``revision`` is the newest one that any answer had. If that of another fleet in the same etcd is newer than what
the watch will tell, a key is put, so that whoever waits for that revision does not wait for ever.

Tests: ``tests/unit/controlplane/store``, ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.controlplane.store import etcd_feed, etcd_own
from agent.controlplane.store.contract import Compacted, Event, StoreFailure, StoreUnavailable
from agent.controlplane.store.etcd_words import RawEvent, TxnAnswer, Words
from agent.controlplane.store.watching import Hub, PrefixWatch

if TYPE_CHECKING:
    from agent.controlplane.store.etcd_calls import Calls

SETTLE_S: Final = 0.02
"""How long a revision may be unseen by the watch before a key is put."""
BEHIND_S: Final = 3.0
"""How far the watch may be behind before it goes on at another endpoint."""
HISTORY_EVENTS: Final = 1024
HISTORY_S: Final = 60.0


class Changes:
    """Follows one store; ``run`` must run. For one event loop."""

    def __init__(self, calls: Calls, words: Words, raw_revision: int) -> None:
        """Begin after a revision of etcd."""
        self._calls = calls
        self.words = words
        """Its revisions are those that etcd told last."""
        self.raw_revision = raw_revision
        """The newest one of etcd that any answer had."""
        self.leader_gone = asyncio.Event()
        """Set whenever nobody leads any more."""
        self._hub = Hub(self._history)
        self.feed = etcd_feed.Feed(
            calls.client, words.everything, raw_revision, deliver=self._deliver, lost=self._lost
        )
        self._delivered = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        await self.feed.run()

    def watch(self, prefix: str, after_revision: int) -> PrefixWatch:
        """Follow every change under a prefix later than a revision of the store."""
        return self._hub.watch(prefix, after_revision)

    async def close(self) -> None:
        """End all watches; the calls must be closed before."""
        self._hub.close()
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)

    def note(self, raw_revision: int) -> None:
        """Take note of a revision; make sure that the watch will reach it."""
        self.raw_revision = max(self.raw_revision, raw_revision)
        is_settling = self._settling is not None and not self._settling.done()
        if self.raw_revision > self.feed.position and not is_settling and not self._calls.is_closed:
            self._settling = asyncio.create_task(self._settle(), name="etcd settling")

    async def _put_progress(self) -> int:
        """Put a key, so that etcd's watch tells something; returns its revision."""
        put = {"request_put": {"key": self.words.own("progress"), "value": b""}}
        body = {"success": [put]}
        answer = await self._calls.change("/v3/kv/txn", body, TxnAnswer, urgent=True)
        self.note(answer.header.revision)
        return answer.header.revision

    async def _settle(self) -> None:
        if await self._reaches(self.raw_revision, SETTLE_S):
            return
        if not self.feed.is_prompt:
            await self._reaches(self.raw_revision, 2 * etcd_feed.BEGINS_S)
        while self.raw_revision > self.feed.position:
            try:
                # Of an own failure the callers know; what waits is ended by the feed.
                target = await self._put_progress()
            except StoreFailure:
                target = self.raw_revision
            if not await self._reaches(target, BEHIND_S):
                self.feed.move()
                await asyncio.sleep(1.0)

    async def _reaches(self, raw_revision: int, limit_s: float) -> bool:
        """Wait until the watch has told a revision; False if it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self.feed.position < raw_revision:
                    self._delivered.clear()
                    await self._delivered.wait()
        return self.feed.position >= raw_revision

    def _deliver(self, raw_revision: int, raw_events: list[RawEvent]) -> None:
        self.raw_revision = max(self.raw_revision, raw_revision)
        words = self.words
        for raw in raw_events:
            if raw.kv.key == words.own("leader") and raw.type == "DELETE":
                self.leader_gone.set()
            elif raw.kv.key == words.own("revisions"):
                words = self.words = replace(words, revisions=etcd_own.revisions(raw.kv))
        events = self._told(raw_events, "")
        revision = words.revisions.told(raw_revision)
        if events:
            self._hub.publish(revision, events)
        else:
            self._hub.progress(revision)
        self._delivered.set()

    def _told(self, raw_events: list[RawEvent], prefix: str) -> list[Event]:
        wanted = self.words.key(prefix)
        return [self.words.event(raw) for raw in raw_events if raw.kv.key.startswith(wanted)]

    def _lost(self, failure: StoreFailure) -> None:
        if isinstance(failure, Compacted):
            self._hub.begin_again()
        else:
            self._hub.end_all()
        self._delivered.set()

    async def _history(self, prefix: str, after_revision: int) -> tuple[list[Event], int, bool]:
        self._calls.check_open()
        if self.feed.is_down:
            raise StoreUnavailable("etcd does not answer")
        told, after = self.words.revisions.told, self.words.revisions.raw(after_revision)
        kept = self.feed.kept.after(after)
        if kept is not None:
            return self._told(kept, prefix), told(self.feed.position), False
        try:
            async with asyncio.timeout(HISTORY_S):
                return await self._old_history(prefix, after)
        except Compacted as compacted:
            raise Compacted(told(compacted.compact_revision)) from None
        except TimeoutError:
            raise StoreUnavailable("etcd tells its history too slowly") from None

    async def _old_history(self, prefix: str, after: int) -> tuple[list[Event], int, bool]:
        """Read history from etcd up to now; it does not say where it ends, so a key is put there."""
        end = await self._put_progress()
        found: list[Event] = []
        endpoint = self._calls.client.preferred()[0]
        async with contextlib.aclosing(
            etcd_feed.changes(self._calls.client, endpoint, self.words.everything, after)
        ) as changes:
            async for revision, raw_events in changes:
                found += self._told(raw_events, prefix)
                if revision >= end or len(found) >= HISTORY_EVENTS:
                    return found, self.words.revisions.told(revision), revision < end
        raise StoreUnavailable("etcd ended its history")
