"""Every way in which a commit and a reading of history can overtake each other."""

from __future__ import annotations

import asyncio

import pytest

from agent.controlplane.store.contract import Event, KeyValue, StoreUnavailable, WatchBatch
from agent.controlplane.store.watching import BACKLOG_LIMIT, Hub


def event(revision: int, key: str = "/w/a") -> Event:
    return Event("put", KeyValue(key, b"", revision, revision, 1))


class Log:
    """A store's history whose reading can be held at any moment."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.revision = 1
        self.limit = 1000
        self.release = asyncio.Event()
        self.release.set()
        self.reads = 0
        self.last_after = 0

    def commit(self, *keys: str) -> int:
        self.revision += 1
        self.events += [event(self.revision, key) for key in keys or ("/w/a",)]
        return self.revision

    def of(self, revision: int) -> list[Event]:
        return [e for e in self.events if e.kv.mod_revision == revision]

    async def read(self, prefix: str, after: int) -> tuple[list[Event], int, bool]:
        self.reads += 1
        self.last_after = after
        found = [
            e for e in self.events if e.kv.mod_revision > after and e.kv.key.startswith(prefix)
        ]
        revision = self.revision
        await self.release.wait()
        if len(found) > self.limit:
            found = found[: self.limit]
            return found, found[-1].kv.mod_revision, True
        return found, revision, False


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
def hub(log: Log) -> Hub:
    return Hub(log.read)


def revisions(batches: list[WatchBatch]) -> list[int]:
    return [e.kv.mod_revision for batch in batches for e in batch.events]


async def test_a_commit_heard_of_after_it_was_read_comes_once(log: Log, hub: Hub) -> None:
    watch = hub.watch("/w/", 1)
    early = log.commit()
    first = await anext(watch)
    hub.publish(early, log.of(early))
    late = log.commit()
    hub.publish(late, log.of(late))
    assert revisions([first, await anext(watch)]) == [early, late]


async def test_a_commit_during_the_reading_comes_once(log: Log, hub: Hub) -> None:
    watch = hub.watch("/w/", 1)
    before = log.commit()
    log.release.clear()
    reading = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    hub.publish(before, log.of(before))
    during = log.commit()
    hub.publish(during, log.of(during))
    log.release.set()
    assert revisions([await reading, await anext(watch)]) == [before, during]


async def test_cancelled_reading_is_begun_again(log: Log, hub: Hub) -> None:
    watch = hub.watch("/w/", 1)
    before = log.commit()
    log.release.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(watch)
    during = log.commit()
    hub.publish(during, log.of(during))
    log.release.set()
    assert revisions([await anext(watch)]) == [before, during]


async def test_long_history_comes_in_pieces_without_gaps(log: Log, hub: Hub) -> None:
    log.limit = 3
    wanted = [log.commit() for _ in range(10)]
    watch = hub.watch("/w/", 1)
    seen: list[int] = []
    while len(seen) < 12:
        batch = await anext(watch)
        seen += revisions([batch])
        if len(seen) in (3, 6):
            newer = log.commit()
            wanted.append(newer)
            hub.publish(newer, log.of(newer))
    assert seen == wanted


async def test_full_backlog_goes_back_to_history(log: Log, hub: Hub) -> None:
    watch = hub.watch("/w/", 1)
    log.commit()
    await anext(watch)
    wanted = []
    for _ in range(BACKLOG_LIMIT + 10):
        revision = log.commit()
        wanted.append(revision)
        hub.publish(revision, log.of(revision))
    log.limit = 10**6
    reads = log.reads
    assert revisions([await anext(watch)]) == wanted
    assert log.reads == reads + 1
    last = log.commit()
    hub.publish(last, log.of(last))
    assert revisions([await anext(watch)]) == [last]


async def test_idle_watch_that_falls_behind_needs_no_history_of_its_idle_time(
    log: Log, hub: Hub
) -> None:
    watch = hub.watch("/w/", 1)
    log.commit()
    await anext(watch)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(watch)
    log.revision = 1000  # others wrote, and all that may be compacted by now
    for _ in range(BACKLOG_LIMIT + 1):
        revision = log.commit()
        hub.publish(revision, log.of(revision))
    log.limit = 10**6
    assert len((await anext(watch)).events) == BACKLOG_LIMIT + 1
    assert log.last_after == 1000


async def test_backlog_that_fills_during_a_reading_is_read_again(log: Log, hub: Hub) -> None:
    watch = hub.watch("/w/", 1)
    wanted = [log.commit()]
    log.limit = 10**6
    log.release.clear()
    reading = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    for _ in range(BACKLOG_LIMIT + 10):
        revision = log.commit()
        wanted.append(revision)
        hub.publish(revision, log.of(revision))
    log.release.set()
    seen = revisions([await reading])
    while len(seen) < len(wanted):
        seen += revisions([await anext(watch)])
    assert seen == wanted


async def test_only_keys_under_the_prefix_come(log: Log, hub: Hub) -> None:
    watches = {prefix: hub.watch(prefix, 1) for prefix in ("", "/w", "/w/a", "/w/a/long/er")}
    log.commit("/x")
    readers = {p: asyncio.create_task(anext(w)) for p, w in watches.items()}
    await asyncio.sleep(0)
    await readers[""]
    revision = log.commit("/w/a", "/w/b", "/v")
    hub.publish(revision, log.of(revision))
    assert [e.kv.key for e in (await readers["/w"]).events] == ["/w/a", "/w/b"]
    assert [e.kv.key for e in (await readers["/w/a"]).events] == ["/w/a"]
    assert not readers["/w/a/long/er"].done()
    await watches["/w/a/long/er"].aclose()
    with pytest.raises(StoreUnavailable):
        await readers["/w/a/long/er"]


async def test_closed_watches_cost_nothing(log: Log, hub: Hub) -> None:
    for _ in range(3):
        async with hub.watch("/w/", 1) as watch:
            log.commit()
            await anext(watch)
        await watch.aclose()
    assert not hub._by_prefix
    assert not hub._lengths
    hub.close()
    with pytest.raises(StoreUnavailable):
        await anext(hub.watch("/w/", 1))
