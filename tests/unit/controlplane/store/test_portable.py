"""A fleet moves from a file to etcd and back."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.records import HISTORY_KEY
from agent.controlplane.store import etcd_settings, portable, sqlite_backup
from agent.controlplane.store.contract import Put, StoreDamaged, StoreFailure
from agent.controlplane.store.etcd import EtcdStore
from agent.controlplane.store.leading import Leadership
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.store.contract import KeyValue
    from tests.support.etcd_nodes import Etcd

_numbers = itertools.count(1)


@pytest.fixture
def settings(etcd: Etcd) -> etcd_settings.EtcdSettings:
    return etcd_settings.parse(etcd.address(f"/portable/{next(_numbers)}"), {})


async def a_file(directory: Path, count: int = 1300) -> Path:
    store = await SqliteStore.open(directory / "control.db")
    for start in range(0, count, 100):
        await store.txn([], [Put(f"/k/{n:05}", b"%d" % n) for n in range(start, start + 100)])
    for _ in range(300):
        await store.txn([], [Put("/k/00000", b"0")])
    lease = await store.grant_lease(60)
    await store.txn([], [Put("/alive/a", b"", lease), Put("/alive/b", bytes(800_000), lease)])
    await store.txn([], [Put(HISTORY_KEY, b"first")])
    await store.close()
    await asyncio.to_thread(sqlite_backup.back_up, directory / "control.db", directory / "moved.db")
    return directory / "moved.db"


async def test_a_fleet_moves_to_etcd_and_back(
    settings: etcd_settings.EtcdSettings, tmp_path: Path
) -> None:
    file = await a_file(tmp_path)
    done = await portable.restore(settings, file)
    assert done.keys == 1303
    store = await EtcdStore.open(settings)
    try:
        assert store.revision > done.revision
        found = await store.range("")
        assert {kv.key for kv in found.items if kv.mod_revision <= done.revision} == set()
        alive = [kv for kv in found.items if kv.lease]
        assert [kv.key for kv in alive] == ["/alive/a", "/alive/b"]
        assert len({kv.lease for kv in alive}) == 1
        assert await store.get(HISTORY_KEY) is None, "an agent may have seen more than the file has"
        await store.txn([], [Put("/later", b""), Put(HISTORY_KEY, b"second")])
        report = await portable.back_up(store, tmp_path / "back.db")
        newest = store.revision
    finally:
        await store.close()
    assert report.keys == 1303
    assert report.revision > newest
    (tmp_path / "again").mkdir()
    await asyncio.to_thread(
        sqlite_backup.restore, tmp_path / "again" / "control.db", tmp_path / "back.db"
    )
    back = await SqliteStore.open(tmp_path / "again" / "control.db")
    try:
        items = (await back.range("")).items
        assert {kv.key: kv.value for kv in items} == (
            {kv.key: kv.value for kv in found.items} | {"/later": b""}
        )
        assert len({kv.lease for kv in items if kv.lease}) == 1
    finally:
        await back.close()


async def test_a_restore_that_was_cut_short_is_done_again_and_nothing_starts_before(
    settings: etcd_settings.EtcdSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await a_file(tmp_path)
    read = portable._file_pages

    async def cut_short(
        backup: Path,
    ) -> AsyncIterator[tuple[list[KeyValue], dict[int, float]]]:
        async for page in read(backup):
            yield page
            raise StoreFailure("cut")

    monkeypatch.setattr(portable, "_file_pages", cut_short)
    earlier = await EtcdStore.open(settings)
    with pytest.raises(StoreFailure, match="cut"):
        await portable.restore(settings, file)
    with pytest.raises(StoreFailure, match="has not finished; repeat"):
        await Leadership.acquire(earlier)
    await earlier.close()
    with pytest.raises(StoreFailure, match="has not finished; repeat"):
        await EtcdStore.open(settings)
    monkeypatch.undo()
    done = await portable.restore(settings, file)
    assert done.keys == 1303
    store = await EtcdStore.open(settings)
    assert len((await store.range("")).items) == 1302
    await store.close()


async def test_a_restore_replaces_a_fleet_that_nobody_leads(
    settings: etcd_settings.EtcdSettings, tmp_path: Path
) -> None:
    store = await EtcdStore.open(settings)
    await store.txn([], [Put("/gone", b""), Put(HISTORY_KEY, b"later")])
    leadership = await Leadership.acquire(store)
    file = await a_file(tmp_path, 100)
    with pytest.raises(StoreFailure, match="leads this fleet; stop it first"):
        await portable.restore(settings, file)
    await leadership.close()
    await portable.restore(settings, file)
    assert await store.get("/gone") is None
    assert await store.get(HISTORY_KEY) is None
    await store.close()


async def test_a_damaged_file_changes_nothing(
    settings: etcd_settings.EtcdSettings, tmp_path: Path
) -> None:
    file = await a_file(tmp_path)
    content = await asyncio.to_thread(file.read_bytes)
    content = content.replace(b"/k/00400", b"/k/99999")
    await asyncio.to_thread(file.write_bytes, content)
    with pytest.raises(StoreDamaged):
        await portable.restore(settings, file)
    with pytest.raises(StoreFailure, match="has no fleet; check the prefix"):
        await EtcdStore.open(settings, makes=False)
