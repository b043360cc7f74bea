"""A damaged file is noticed: at the start, or by whoever reads the row; never is anything just lost."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store import sqlite_schema as schema
from agent.controlplane.store.contract import Delete, Put, StoreDamaged, StoreFailure
from agent.controlplane.store.sqlite import SqliteStore
from agent.controlplane.store.sqlite_check import check_copy

if TYPE_CHECKING:
    from pathlib import Path

PAGE_BYTES = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store of 400 keys with some history."""
    path = tmp_path_factory.mktemp("store") / "control.db"

    async def fill() -> None:
        store = await SqliteStore.open(path)
        draw = random.Random(8)
        for number in range(400):
            await store.txn([], [Put(f"/tasks/{number:03}", draw.randbytes(600))])
        for number in range(0, 400, 10):
            await store.txn(
                [], [Put(f"/tasks/{number:03}", b"new"), Delete(f"/tasks/{number + 1:03}")]
            )
        await store.grant_lease(60)
        await store.close()

    asyncio.run(fill())
    return path


def copy_of(whole: Path, directory: Path) -> Path:
    path = directory / "control.db"
    shutil.copyfile(whole, path)
    return path


async def contents(path: Path) -> dict[str, bytes]:
    store = await SqliteStore.open(path)
    try:
        return {kv.key: kv.value for kv in (await store.range("/")).items}
    finally:
        await store.close()


@pytest.mark.parametrize("kind", ["zeros", "noise", "one bit", "another page"])
async def test_every_page_may_be_damaged(whole: Path, tmp_path: Path, kind: str) -> None:
    expected = await contents(copy_of(whole, tmp_path))
    assert len(expected) == 360
    original = whole.read_bytes()
    draw = random.Random(kind)
    noticed = 0
    for start in range(0, len(original), PAGE_BYTES):
        page = bytearray(original[start : start + PAGE_BYTES])
        match kind:
            case "zeros":
                page[:] = bytes(PAGE_BYTES)
            case "noise":
                page[:] = draw.randbytes(PAGE_BYTES)
            case "one bit":
                page[draw.randrange(PAGE_BYTES)] ^= 1 << draw.randrange(8)
            case _:
                other = draw.randrange(0, len(original), PAGE_BYTES)
                page[:] = original[other : other + PAGE_BYTES]
        directory = tmp_path / f"{start}"
        directory.mkdir()
        path = directory / "control.db"
        path.write_bytes(original[:start] + page + original[start + PAGE_BYTES :])
        found = expected
        try:
            found = await contents(path)
        except StoreFailure:
            noticed += 1
        assert found == expected, f"page {start // PAGE_BYTES} was lost without a word"
        shutil.rmtree(directory)
    if kind in ("zeros", "noise"):
        assert noticed >= len(original) // PAGE_BYTES - 2


@pytest.mark.parametrize("left", [0, 1, 100, PAGE_BYTES, 20 * PAGE_BYTES + 7])
async def test_a_file_that_was_cut_off(whole: Path, tmp_path: Path, left: int) -> None:
    path = copy_of(whole, tmp_path)
    with path.open("rb+") as file:
        file.truncate(left)
    with pytest.raises(StoreDamaged, match="restore a backup with"):
        await SqliteStore.open(path)
    assert path.stat().st_size == left


async def test_a_file_that_is_gone_beside_its_wal(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path)
    store = await SqliteStore.open(path)
    await store.txn([], [Put("/more", b"")])
    shutil.copyfile(f"{path}-wal", tmp_path / "kept")
    await store.close()
    path.unlink()
    shutil.copyfile(tmp_path / "kept", f"{path}-wal")
    with pytest.raises(StoreDamaged, match="is missing but"):
        await SqliteStore.open(path)
    assert not path.exists()


async def test_damage_while_it_runs_is_told(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path)
    store = await SqliteStore.open(path)
    assert store.problem == ""
    with sqlite3.connect(path) as other:
        other.execute("UPDATE log SET value = zeroblob(600) WHERE key = ?", (b"/tasks/005",))
        other.execute("DELETE FROM log WHERE key = ?", (b"/tasks/006",))
    other.close()
    assert await store.get("/tasks/004") is not None
    for key in ("/tasks/005", "/tasks/006"):
        with pytest.raises(StoreDamaged, match="is damaged"):
            await store.get(key)
    with pytest.raises(StoreDamaged):
        await store.range("/tasks/")
    with pytest.raises(StoreDamaged):
        await store.txn([], [Put("/tasks/005", b"")])
    assert "is damaged" in store.problem
    # What does not touch it goes on.
    assert (await store.txn([], [Put("/more", b"")])).succeeded
    assert "is damaged" in store.problem
    await store.close()
    with pytest.raises(StoreDamaged):
        await SqliteStore.open(path)


def test_a_check_changes_nothing(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path)
    before = path.read_bytes()
    report = check_copy(path)
    assert (report.keys, report.faults) == (360, [])
    assert report.revision > 440
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"control.db"}


async def test_a_store_of_the_first_schema_is_brought_up_to_date(
    whole: Path, tmp_path: Path
) -> None:
    path = copy_of(whole, tmp_path)
    with sqlite3.connect(path) as old:
        old.executescript(
            "ALTER TABLE log DROP COLUMN checksum; DELETE FROM meta WHERE name = 'keys';"
            "PRAGMA user_version = 1;"
        )
    old.close()
    directory = tmp_path / "new"
    directory.mkdir()
    expected = await contents(copy_of(whole, directory))
    assert await contents(path) == expected
    with sqlite3.connect(path) as now:
        assert now.execute("PRAGMA user_version").fetchone()[0] == schema.SCHEMA_VERSION
    now.close()
