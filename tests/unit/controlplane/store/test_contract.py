"""What every store must do; parametrised over stores by the ``open_store`` fixture."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.controlplane.store.contract import (
    TXN_LIMIT,
    Compacted,
    Compare,
    Delete,
    DeletePrefix,
    Event,
    InvalidTransaction,
    LeaseUnknown,
    Op,
    Put,
    StoreUnavailable,
    absent,
    present,
    unchanged,
)
from agent.controlplane.store.following import Follower

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.controlplane.store.contract import Store, Watch, WatchBatch


async def put(store: Store, key: str, value: bytes = b"v", lease: int = 0) -> int:
    return (await store.txn([], [Put(key, value, lease)])).revision


async def soon(watch: Watch, limit_s: float = 5.0) -> WatchBatch:
    """Return the next batch that has anything; others only tell progress."""
    async with asyncio.timeout(limit_s):
        while not (batch := await anext(watch)).events:
            pass
        return batch


async def quiet(watch: Watch, for_s: float = 0.05) -> None:
    with pytest.raises(TimeoutError):
        await soon(watch, for_s)


def summary(batch: WatchBatch) -> list[tuple[str, str, bytes]]:
    return [(event.type, event.kv.key, event.kv.value) for event in batch.events]


async def test_an_empty_store_has_a_revision_and_nothing_else(store: Store) -> None:
    assert store.revision >= 1
    assert await store.get("/a") is None
    assert (await store.range("")).items == []


async def test_revisions_and_versions_count_like_etcd(store: Store) -> None:
    first = await put(store, "/a", b"1")
    second = await put(store, "/a", b"2")
    kv = await store.get("/a")
    assert kv is not None
    assert (kv.value, kv.create_revision, kv.mod_revision, kv.version) == (b"2", first, second, 2)
    assert second == first + 1 == store.revision
    await store.txn([], [Delete("/a")])
    third = await put(store, "/a", b"3")
    kv = await store.get("/a")
    assert kv is not None
    assert (kv.create_revision, kv.mod_revision, kv.version) == (third, third, 1)


async def test_a_transaction_that_changes_nothing_takes_no_revision(store: Store) -> None:
    before = await put(store, "/a")
    assert (await store.txn([], [Delete("/missing"), DeletePrefix("/none/")])).revision == before
    assert (await store.txn([absent("/a")], [Put("/a", b"x")])).revision == before
    assert (await store.txn([], [])).succeeded
    assert store.revision == before


async def test_one_transaction_is_one_revision(store: Store) -> None:
    result = await store.txn([], [Put("/a", b"1"), Put("/b", b"2")])
    found = await store.get_many(["/a", "/b", "/c"])
    assert {kv.mod_revision for kv in found.values()} == {result.revision}
    assert set(found) == {"/a", "/b"}


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare("/a", "version", "=", 2), True),
        (Compare("/a", "version", ">", 1), True),
        (Compare("/a", "version", "<", 2), False),
        (Compare("/a", "mod_revision", "=", +2), True),
        (Compare("/a", "mod_revision", "!=", +2), False),
        (Compare("/a", "mod_revision", "<", +2), False),
        (Compare("/a", "mod_revision", ">", +1), True),
        (Compare("/a", "create_revision", "=", +1), True),
        (Compare("/a", "lease", "=", 0), True),
        (Compare("/a", "value", "=", b"two"), True),
        (Compare("/a", "value", ">", b"three"), True),
        (Compare("/a", "value", "!=", b"two"), False),
        (Compare("/none", "version", "=", 0), True),
        (Compare("/none", "mod_revision", "<", 1), True),
        (Compare("/none", "value", "=", b""), False),
        (Compare("/none", "value", "!=", b"x"), False),
        (present("/a"), True),
        (present("/none"), False),
        (absent("/none"), True),
        (absent("/a"), False),
    ],
)
async def test_compare(store: Store, compare: Compare, holds: bool) -> None:
    if compare.key == "/a" and compare.field.endswith("_revision"):
        # In the table, revisions count from that of the empty store.
        compare = replace(compare, value=store.revision + int(compare.value))
    await put(store, "/a", b"one")
    await put(store, "/a", b"two")
    result = await store.txn([compare], [Put("/then", b"")], [Put("/otherwise", b"")])
    assert result.succeeded is holds
    assert (await store.get("/then") is not None) is holds
    assert (await store.get("/otherwise") is not None) is not holds


async def test_all_compares_must_hold(store: Store) -> None:
    await put(store, "/a")
    assert not (await store.txn([present("/a"), present("/b")], [Put("/c", b"")])).succeeded
    assert await store.get("/c") is None


async def test_only_one_of_many_writers_wins(store: Store) -> None:
    await put(store, "/counter", b"0")

    async def add_one() -> None:
        while True:
            kv = await store.get("/counter")
            assert kv is not None
            new = str(int(kv.value) + 1).encode()
            if (await store.txn([unchanged(kv)], [Put("/counter", new)])).succeeded:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(add_one())
    kv = await store.get("/counter")
    assert kv is not None
    assert (kv.value, kv.version) == (b"10", 11)


@pytest.mark.parametrize(
    "ops",
    [
        [Put("/a", b""), Put("/a", b"")],
        [Put("/a", b""), Delete("/a")],
        [Put("/a/b", b""), DeletePrefix("/a/")],
        [DeletePrefix("/a/"), DeletePrefix("/a/b")],
        [Put(f"/{n}", b"") for n in range(TXN_LIMIT + 1)],
        [Put("", b"")],
        [DeletePrefix("")],
        [Put("/\ud800", b"")],
    ],
)
async def test_what_breaks_the_contract_does_nothing(store: Store, ops: list[Op]) -> None:
    before = store.revision
    for then, otherwise in ((ops, []), ([], ops)):
        with pytest.raises(InvalidTransaction):
            await store.txn([], then, otherwise)
    with pytest.raises(InvalidTransaction):
        await store.txn([absent("/x")] * (TXN_LIMIT + 1), [])
    with pytest.raises(InvalidTransaction):
        await store.get_many(f"/{n}" for n in range(TXN_LIMIT + 1))
    assert store.revision == before


async def test_range_is_ordered_by_bytes_and_paged(store: Store) -> None:
    keys = ["/p/a", "/p/a/b", "/p/a0", "/p/z", "/p/é", "/p/\U0001f600", "/q", "/o/x"]
    await store.txn([], [Put(key, key.encode()) for key in keys])
    under = sorted((k for k in keys if k.startswith("/p/")), key=str.encode)
    assert [kv.key for kv in (await store.range("/p/")).items] == under
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await store.range("/p/", start_after=after, limit=2)
        seen += [kv.key for kv in page.items]
        if not page.more:
            break
        after = page.items[-1].key
    assert seen == under
    assert (await store.range("/p/", limit=len(under))).more is False
    assert (await store.range("/p/", start_after="/zzz")).items == []
    assert [kv.key for kv in (await store.range("/p/", start_after="/a")).items] == under
    assert len((await store.range("")).items) == len(keys)


async def test_delete_prefix(store: Store) -> None:
    await store.txn([], [Put(key, b"") for key in ("/a/1", "/a/2", "/ab", "/b")])
    await store.txn([], [DeletePrefix("/a/")])
    assert [kv.key for kv in (await store.range("")).items] == ["/ab", "/b"]


async def test_values_are_any_bytes(store: Store) -> None:
    value = bytes(range(256)) * 400
    await put(store, "/big", value)
    await put(store, "/empty", b"")
    big, empty = await store.get("/big"), await store.get("/empty")
    assert big is not None
    assert empty is not None
    assert (big.value, empty.value) == (value, b"")


async def test_watch_sees_past_and_future(store: Store) -> None:
    start = store.revision
    await put(store, "/w/a", b"1")
    await put(store, "/other", b"1")
    async with store.watch("/w/", after_revision=start) as watch:
        assert summary(await soon(watch)) == [("put", "/w/a", b"1")]
        await quiet(watch)
        await put(store, "/other", b"2")
        revision = await put(store, "/w/a", b"2")
        batch = await soon(watch)
        assert summary(batch) == [("put", "/w/a", b"2")]
        assert batch.revision >= revision
        await store.txn([], [Delete("/w/a"), Put("/w/b", b"3"), Put("/elsewhere", b"")])
        batch = await soon(watch)
        assert sorted(summary(batch)) == [("delete", "/w/a", b""), ("put", "/w/b", b"3")]
        assert {event.kv.mod_revision for event in batch.events} == {store.revision}


async def test_watch_after_the_present_sees_only_the_future(store: Store) -> None:
    await put(store, "/w/a")
    async with store.watch("/w/", after_revision=store.revision) as watch:
        await quiet(watch)
        await put(store, "/w/b")
        assert summary(await soon(watch)) == [("put", "/w/b", b"v")]


async def test_cancelling_one_step_of_a_watch_loses_nothing(store: Store) -> None:
    async with store.watch("/w/", after_revision=store.revision) as watch:
        seen: list[str] = []
        for number in range(30):
            await put(store, f"/w/{number}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    seen += [event.kv.key for event in (await anext(watch)).events]
        while len(seen) < 30:
            seen += [event.kv.key for event in (await soon(watch)).events]
    assert seen == [f"/w/{number}" for number in range(30)]


async def test_a_slow_reader_loses_nothing(store: Store) -> None:
    async with store.watch("/w/", after_revision=store.revision) as watch:
        await quiet(watch, 0.01)
        for start in range(0, 12000, 120):
            await store.txn([], [Put(f"/w/{n}", b"") for n in range(start, start + 120)])
        revisions: list[int] = []
        keys: set[str] = set()
        while len(keys) < 12000:
            batch = await soon(watch)
            revisions.append(batch.revision)
            keys.update(event.kv.key for event in batch.events)
        assert revisions == sorted(set(revisions))
        await quiet(watch, 0.01)
        await put(store, "/w/last")
        assert summary(await soon(watch)) == [("put", "/w/last", b"v")]


async def test_many_watches_with_writers_beside_them_see_everything_in_order(store: Store) -> None:
    start = store.revision

    async def follow(prefix: str, wanted: int) -> None:
        seen: list[bytes] = []
        async with store.watch(prefix, after_revision=start) as watch:
            while len(seen) < wanted:
                batch = await soon(watch)
                seen += [event.kv.value for event in batch.events]
        assert seen == [str(n).encode() for n in range(wanted)]

    async def write(prefix: str) -> None:
        for number in range(40):
            await put(store, f"{prefix}key", str(number).encode())

    async with asyncio.TaskGroup() as group:
        for name in "abcde":
            group.create_task(write(f"/{name}/"))
            for _ in range(4):
                group.create_task(follow(f"/{name}/", 40))


async def test_compaction_keeps_values_and_ends_old_history(store: Store) -> None:
    start = store.revision
    for number in range(10):
        await put(store, "/a", str(number).encode())
    await put(store, "/gone")
    await store.txn([], [Delete("/gone")])
    middle = store.revision
    await put(store, "/b", b"new")
    await store.compact(middle)
    await store.compact(start + 2)
    kv = await store.get("/a")
    assert kv is not None
    assert (kv.value, kv.version) == (b"9", 10)
    with pytest.raises(Compacted) as caught:
        await soon(store.watch("/a", after_revision=middle - 1))
    assert caught.value.compact_revision == middle
    async with store.watch("/", after_revision=caught.value.compact_revision) as watch:
        assert summary(await soon(watch)) == [("put", "/b", b"new")]
    with pytest.raises(InvalidTransaction):
        await store.compact(store.revision + 1)


async def test_lease_deletes_its_keys_when_it_ends(store: Store) -> None:
    lease = await store.grant_lease(1)
    await put(store, "/alive/a", lease=lease)
    await put(store, "/alive/b", lease=lease)
    await put(store, "/stays")
    before = store.revision
    async with store.watch("/alive/", after_revision=before) as watch:
        batch = await soon(watch)
    assert sorted(summary(batch)) == [("delete", "/alive/a", b""), ("delete", "/alive/b", b"")]
    assert [kv.key for kv in (await store.range("/")).items] == ["/stays"]
    with pytest.raises(LeaseUnknown):
        await store.keep_alive(lease)
    with pytest.raises(LeaseUnknown):
        await put(store, "/alive/a", lease=lease)


async def test_keep_alive_keeps_and_revoke_ends(store: Store) -> None:
    lease = await store.grant_lease(1)
    await put(store, "/alive/a", lease=lease)
    for _ in range(6):
        await asyncio.sleep(0.25)
        await store.keep_alive(lease)
    kv = await store.get("/alive/a")
    assert kv is not None
    assert kv.lease == lease
    await store.revoke_lease(lease)
    await store.revoke_lease(lease)
    assert await store.get("/alive/a") is None
    with pytest.raises(LeaseUnknown):
        await store.keep_alive(lease)


async def test_put_moves_a_key_between_leases(store: Store) -> None:
    first, second = await store.grant_lease(60), await store.grant_lease(60)
    await put(store, "/moved", lease=first)
    await put(store, "/left", lease=first)
    await put(store, "/moved", lease=second)
    await put(store, "/left")
    await store.revoke_lease(first)
    assert {kv.key for kv in (await store.range("/")).items} == {"/moved", "/left"}
    await store.revoke_lease(second)
    assert {kv.key for kv in (await store.range("/")).items} == {"/left"}


async def test_unknown_lease_fails_the_whole_transaction(store: Store) -> None:
    with pytest.raises(LeaseUnknown):
        await store.txn([], [Put("/a", b""), Put("/b", b"", lease=12345)])
    assert (await store.range("")).items == []


async def test_everything_is_there_after_reopening(
    open_store: Callable[[], Awaitable[Store]],
) -> None:
    store = await open_store()
    start = store.revision
    lease = await store.grant_lease(1)
    await put(store, "/alive/a", lease=lease)
    await put(store, "/a", b"1")
    await put(store, "/a", b"2")
    revision = store.revision
    await store.close()
    await asyncio.sleep(1.1)
    store = await open_store()
    assert store.revision == revision
    kv = await store.get("/a")
    assert kv is not None
    assert (kv.value, kv.version) == (b"2", 2)
    assert await store.get("/alive/a") is not None, "a lease starts anew with the store"
    async with store.watch("/", after_revision=start) as watch:
        seen: list[tuple[str, str, bytes]] = []
        while len(seen) < 4:
            seen += summary(await soon(watch))
    assert seen[-1] == ("delete", "/alive/a", b"")
    assert await store.grant_lease(5) != lease


async def test_closing_ends_watches_and_calls(store: Store) -> None:
    watch = store.watch("/", after_revision=store.revision)
    waiting = asyncio.create_task(soon(watch))
    accepted = asyncio.create_task(put(store, "/x"))
    await asyncio.sleep(0.02)
    await store.close()
    await store.close()
    await accepted
    batch_or_end = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(batch_or_end[0], StoreUnavailable) or batch_or_end[0].events  # type: ignore[union-attr]
    with pytest.raises(StoreUnavailable):
        await put(store, "/a")
    with pytest.raises(StoreUnavailable):
        await store.get("/a")
    with pytest.raises(StoreUnavailable):
        await store.keep_alive(1)
    with pytest.raises(StoreUnavailable):
        await soon(store.watch("/", after_revision=0))


async def test_cancelled_calls_leave_the_store_usable(store: Store) -> None:
    for number in range(50):
        call = asyncio.create_task(put(store, f"/{number}"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await put(store, "/after")
    assert await store.get("/after") is not None


async def test_a_transaction_can_be_put_above_a_revision_that_was_lost(store: Store) -> None:
    async with store.watch("/", after_revision=store.revision) as watch:
        lost = store.revision + 1000
        result = await store.txn([], [Put("/a", b"1")], above=lost)
        assert result.revision == store.revision == lost + 1
        kv = await store.get("/a")
        assert kv is not None
        assert kv.mod_revision == lost + 1
        assert (await store.txn([unchanged(kv)], [Put("/a", b"2")], above=5)).revision == lost + 2
        seen: list[int] = []
        while seen[-1:] != [lost + 2]:
            seen += [event.kv.mod_revision for event in (await soon(watch)).events]
        assert seen == [lost + 1, lost + 2]
    with pytest.raises(InvalidTransaction):
        await store.txn([], [Put("/a", b"3")], above=2**60)
    assert store.problem == ""


async def test_a_view_of_all_keys_catches_up_with_its_own_writes(store: Store) -> None:
    class Values(dict[str, bytes]):
        def apply(self, event: Event) -> None:
            self[event.kv.key] = event.kv.value

    follower = Follower(store, ["/f/"], Values)
    assert await follower.read() == {}
    for number in range(20):
        value = str(number).encode()
        await put(store, "/f/a", value)
        async with asyncio.timeout(5):
            assert (await follower.read())["/f/a"] == value
