"""Watches fed by commits: which watch follows which prefix, and how each catches up.

A watch is **live** if every commit is passed to it as it happens, and **behind** if it must read history
first. It starts behind; a reader that is too slow falls behind again, so that its backlog stays on disk
and not in memory. Nothing is lost in between, because a watch goes live before it reads: commits after
the start of the read are passed to it, and earlier ones are in what it reads.

Everything runs on the event loop of the store; no locks.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Self

from agent.controlplane.store.contract import StoreUnavailable, WatchBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from agent.controlplane.store.contract import Event

    ReadHistory = Callable[[str, int], Awaitable["tuple[list[Event], int, bool]"]]
    """``(prefix, after_revision)`` to events of whole revisions, the revision they reach, and
    whether there are more; raises ``Compacted``."""

BACKLOG_LIMIT = 4096
"""How many events wait in memory for one watch at most."""


class Hub:
    """All watches of one store."""

    def __init__(self, read_history: ReadHistory) -> None:
        self._read_history = read_history
        self._by_prefix: dict[str, set[PrefixWatch]] = {}
        self._lengths: Counter[int] = Counter()
        self._closed = False

    def watch(self, prefix: str, after_revision: int) -> PrefixWatch:
        """Return a new watch; it costs nothing until it is iterated."""
        watch = PrefixWatch(self, self._read_history, prefix, after_revision)
        if self._closed:
            watch.end()
        return watch

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        """Pass one committed revision to the live watches that follow any of its keys."""
        matched: dict[PrefixWatch, list[Event]] = {}
        for event in events:
            key = event.kv.key
            for length in self._lengths:
                if length <= len(key):
                    for watch in self._by_prefix.get(key[:length], ()):
                        matched.setdefault(watch, []).append(event)
        for watch, chosen in matched.items():
            watch.offer(WatchBatch(revision, chosen))

    def progress(self, revision: int) -> None:
        """Tell all live watches that everything up to a revision was published."""
        for watch in self._live():
            watch.progress(revision)

    def begin_again(self) -> None:
        """Have every watch read history again, because some of it was not published."""
        for watch in self._live():
            watch.fall_behind()

    def end_all(self) -> None:
        """End every watch that waits with ``StoreUnavailable``; new ones can be made."""
        for watch in self._live():
            watch.end()

    def close(self) -> None:
        """End every watch with ``StoreUnavailable``."""
        self._closed = True
        self.end_all()

    def _live(self) -> list[PrefixWatch]:
        return [watch for watches in self._by_prefix.values() for watch in watches]

    def add(self, watch: PrefixWatch) -> None:
        """Start to pass commits to a watch."""
        watches = self._by_prefix.setdefault(watch.prefix, set())
        if watch not in watches:
            watches.add(watch)
            self._lengths[len(watch.prefix)] += 1

    def remove(self, watch: PrefixWatch) -> None:
        """Remove a watch; an unknown one is ignored."""
        watches = self._by_prefix.get(watch.prefix)
        if watches is None or watch not in watches:
            return
        watches.remove(watch)
        if not watches:
            del self._by_prefix[watch.prefix]
        self._lengths[len(watch.prefix)] -= 1
        if not self._lengths[len(watch.prefix)]:
            del self._lengths[len(watch.prefix)]


class PrefixWatch:
    """One reader's stream of changes under a prefix; see ``contract.Watch``."""

    def __init__(
        self, hub: Hub, read_history: ReadHistory, prefix: str, after_revision: int
    ) -> None:
        self.prefix = prefix
        self._hub = hub
        self._read_history = read_history
        self._position = after_revision
        """The reader has everything up to here, or the watch begins after it."""
        self._backlog: deque[WatchBatch] = deque()
        self._backlog_events = 0
        self._behind = True
        self._attached = False
        self._ended = False
        self._wake = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while True:
            if self._ended:
                raise StoreUnavailable("the watch is closed")
            if self._behind:
                batch = await self._catch_up()
                if batch is not None:
                    return batch
            elif self._backlog:
                return self._take()
            else:
                self._wake.clear()
                await self._wake.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the watch; may be called twice."""
        self.end()

    def end(self) -> None:
        """End the watch from the store's side; a waiting reader gets ``StoreUnavailable``."""
        self._ended = True
        self._backlog.clear()
        self._hub.remove(self)
        self._wake.set()

    def offer(self, batch: WatchBatch) -> None:
        """Accept one committed batch; called by the hub in revision order.

        A commit may have been read as history before the loop gets it: then it is ignored.
        """
        if batch.revision <= self._position:
            return
        if self._backlog_events >= BACKLOG_LIMIT:
            self.fall_behind()
            return
        self._backlog.append(batch)
        self._backlog_events += len(batch.events)
        self._wake.set()

    def progress(self, revision: int) -> None:
        """Note that everything up to a revision was offered; wakes a reader that waits for it."""
        last = self._backlog[-1].revision if self._backlog else self._position
        if self._behind or revision <= last:
            return
        if self._backlog and not self._backlog[-1].events:
            self._backlog.pop()
        self._backlog.append(WatchBatch(revision, []))
        self._wake.set()

    def _take(self) -> WatchBatch:
        batch = self._backlog.popleft()
        self._backlog_events -= len(batch.events)
        self._position = batch.revision
        return batch

    def fall_behind(self) -> None:
        """Go on with history; nothing that was offered and not read is kept."""
        if self._backlog and not self._behind:
            self._position = max(self._position, self._backlog[0].revision - 1)
        self._hub.remove(self)
        self._attached = False
        self._behind = True
        self._backlog.clear()
        self._backlog_events = 0
        self._wake.set()

    async def _catch_up(self) -> WatchBatch | None:
        self._backlog.clear()
        self._backlog_events = 0
        self._hub.add(self)
        self._attached = True
        events, reached, more = await self._read_history(self.prefix, self._position)
        if self._ended:
            return None
        if more or not self._attached:
            self.fall_behind()
        else:
            self._behind = False
            while self._backlog and self._backlog[0].revision <= reached:
                self._backlog_events -= len(self._backlog.popleft().events)
        self._position = max(self._position, reached)
        return WatchBatch(reached, events) if events else None
