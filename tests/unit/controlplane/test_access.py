from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from agent.controlplane import access, records
from agent.controlplane.records import AliveRecord, FamilyRecord
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = records.family_key("web")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "control.db")
    await store.txn([], [Put(KEY, records.encode(FamilyRecord(family="web")))])
    yield store
    await store.close()


def one_more(record: FamilyRecord) -> FamilyRecord:
    return replace(record, last_revision=record.last_revision + 1)


async def test_changes_at_once_all_count(store: SqliteStore) -> None:
    await asyncio.gather(*(access.change(store, FamilyRecord, KEY, one_more) for _ in range(100)))
    found = await access.find(store, FamilyRecord, KEY)
    assert found is not None
    assert found.record.last_revision == 100


async def test_change_that_changes_nothing_writes_nothing(store: SqliteStore) -> None:
    before = store.revision
    assert await access.change(store, FamilyRecord, KEY, lambda old: old) is not None
    assert await access.change(store, FamilyRecord, "/missing", one_more) is None
    assert store.revision == before


async def test_change_keeps_the_lease(store: SqliteStore) -> None:
    lease = await store.grant_lease(60)
    key = records.alive_key("x")
    await store.txn([], [Put(key, records.encode(AliveRecord(generation=1)), lease)])
    await access.change(store, AliveRecord, key, lambda old: replace(old, generation=2))
    kv = await store.get(key)
    assert kv is not None
    assert kv.lease == lease


async def test_change_gives_up_at_last(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "TRY_LIMIT_S", 0.2)

    class Busy:
        """A store where somebody else is always faster."""

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        async def get(self, key: str) -> object:
            found = await store.get(key)
            await store.txn([], [Put(key, records.encode(FamilyRecord(family="web")))])
            return found

    with pytest.raises(access.Contended, match=r"others changed it all the time for 0\.2 s"):
        await access.change(Busy(), FamilyRecord, KEY, one_more)  # type: ignore[arg-type]


async def test_unreadable_records_are_logged_and_passed_over(store: SqliteStore) -> None:
    for name, value in (("a", b"{"), ("b", b'{"family": 1}'), ("c", b"\xff"), ("d", b"[" * 99999)):
        await store.txn([], [Put(records.family_key(name), value)])
    with capture_logs() as logs:
        scanned = [f.record.family async for f in access.scan(store, FamilyRecord, "/families/")]
        many = await access.find_many(store, FamilyRecord, [KEY, records.family_key("a")])
    assert scanned == ["web"]
    assert set(many) == {KEY}
    assert [log["key"] for log in logs[:4]] == [f"/families/{name}" for name in "abcd"]


async def test_scan_and_find_many_cross_pages(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "SCAN_PAGE", 7)
    names = [f"f{n:03}" for n in range(300)]
    for start in range(0, 300, 100):
        await store.txn(
            [],
            [
                Put(records.family_key(name), records.encode(FamilyRecord(family=name)))
                for name in names[start : start + 100]
            ],
        )
    scanned = [f.record.family async for f in access.scan(store, FamilyRecord, "/families/f")]
    assert scanned == names
    keys = [records.family_key(name) for name in names]
    assert len(await access.find_many(store, FamilyRecord, keys)) == 300
    rest = [
        f.record.family
        async for f in access.scan(store, FamilyRecord, "/families/f", start_after=keys[289])
    ]
    assert rest == names[290:]
