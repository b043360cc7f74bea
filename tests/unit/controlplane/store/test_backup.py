from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store import sqlite_backup
from agent.controlplane.store.contract import Put, StoreDamaged, StoreFailure
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


async def contents(path: Path) -> dict[str, bytes]:
    store = await SqliteStore.open(path)
    try:
        return {kv.key: kv.value for kv in (await store.range("/")).items}
    finally:
        await store.close()


async def test_a_copy_is_one_state_of_a_store_that_is_written_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    store = await SqliteStore.open(path)
    stop, written = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            value = str(number).encode()
            await store.txn([], [Put("/left", value), Put("/right", value)])
            written.set()

    writing = asyncio.create_task(write())
    for number in range(5):
        for _ in range(2):  # the second of them is not in the copy before
            written.clear()
            await written.wait()
        target = tmp_path / f"copy-{number}.db"
        report = await asyncio.to_thread(sqlite_backup.back_up, path, target)
        assert (report.keys, report.faults) == (2, [])
    stop.set()
    await writing
    await store.close()
    states = [await contents(tmp_path / f"copy-{number}.db") for number in range(5)]
    assert all(state["/left"] == state["/right"] for state in states)
    assert len({state["/left"] for state in states}) == 5
    assert (tmp_path / "copy-0.db").stat().st_mode & 0o777 == 0o600
    # Opening them made companions; the backups themselves are single files.
    assert not list(tmp_path.glob(".*.new"))


async def test_a_restore_puts_it_back_and_keeps_what_was_there(tmp_path: Path) -> None:
    path, backup = tmp_path / "control.db", tmp_path / "backup.db"
    store = await SqliteStore.open(path)
    await store.txn([], [Put("/a", b"old")])
    await asyncio.to_thread(sqlite_backup.back_up, path, backup)
    await store.txn([], [Put("/a", b"new")])
    newest = store.revision
    with pytest.raises(StoreFailure, match="used by another process"):
        await asyncio.to_thread(sqlite_backup.restore, path, backup)
    await store.close()
    report, old = await asyncio.to_thread(sqlite_backup.restore, path, backup)
    assert report.keys == 1
    store = await SqliteStore.open(path)
    kv = await store.get("/a")
    assert kv is not None
    assert kv.value == b"old"
    assert store.seen_revision == newest
    await store.close()
    assert old is not None
    assert await contents(old) == {"/a": b"new"}


async def test_a_damaged_store_or_backup_is_neither_copied_nor_put_back(tmp_path: Path) -> None:
    path, backup = tmp_path / "control.db", tmp_path / "backup.db"
    store = await SqliteStore.open(path)
    for number in range(50):
        await store.txn([], [Put(f"/{number}", b"x" * 1000)])
    await store.close()
    await asyncio.to_thread(sqlite_backup.back_up, path, backup)
    for file in (path, backup):
        content = bytearray(file.read_bytes())
        content[9 * 4096 : 10 * 4096] = bytes(4096)
        file.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="is damaged"):
        await asyncio.to_thread(sqlite_backup.back_up, path, tmp_path / "another.db")
    with pytest.raises(StoreDamaged, match="use another backup"):
        await asyncio.to_thread(sqlite_backup.restore, path, backup)
    assert path.read_bytes() == before
    assert not (tmp_path / "another.db").exists()


def test_what_cannot_be_done_is_named(tmp_path: Path) -> None:
    missing, there = tmp_path / "missing.db", tmp_path / "there.db"
    there.write_bytes(b"")
    with pytest.raises(StoreFailure, match="does not exist; give control's --data-dir"):
        sqlite_backup.back_up(missing, tmp_path / "b.db")
    with pytest.raises(StoreFailure, match="already exists; give the name of a new file"):
        sqlite_backup.back_up(there, there)
    with pytest.raises(StoreFailure, match="cannot be read"):
        sqlite_backup.restore(tmp_path / "control.db", missing)
    with pytest.raises(StoreFailure, match="is damaged"):
        sqlite_backup.restore(tmp_path / "control.db", there)
    assert not (tmp_path / "control.db").exists()


def test_the_newest_are_kept(tmp_path: Path) -> None:
    names = [sqlite_backup.name_at(1_700_000_000 + 60 * number) for number in range(5)]
    for name in [*names, "other.db", "control-nonsense.db"]:
        (tmp_path / name).write_bytes(b"")
    sqlite_backup.keep_newest(tmp_path, 2)
    assert [path.name for path in sqlite_backup.backups_in(tmp_path)] == names[-2:]
    assert (tmp_path / "other.db").exists()
    assert sqlite_backup.backups_in(tmp_path / "missing") == []
    assert sqlite_backup.name_at(time.time()) > names[-1]
