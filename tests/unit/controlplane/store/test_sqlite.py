"""What only the SQLite store promises: its file, its threads, and a disk that fails."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store.contract import Put, StoreFailure, StoreUnavailable, Watch
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.db"


async def test_files_are_for_the_owner_only(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.txn([], [Put("/a", b"")])
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    await store.close()
    assert set(modes) >= {"control.db", "control.db-wal", "control.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_one_process_at_a_time(path: Path) -> None:
    store = await SqliteStore.open(path)
    with pytest.raises(StoreFailure, match="used by another process"):
        await SqliteStore.open(path)
    await store.close()
    await (await SqliteStore.open(path)).close()


@pytest.mark.parametrize("content", [b"nonsense" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_damaged_file_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreFailure, match=r"control\.db"):
        await SqliteStore.open(path)
    assert path.read_bytes() == content


async def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure, match=r"control\.db"):
        await SqliteStore.open(tmp_path / "missing" / "control.db")


async def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreFailure, match="schema version 99"):
        await SqliteStore.open(path)


async def test_calls_that_arrive_together_share_a_commit(path: Path) -> None:
    store = await SqliteStore.open(path)
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    store._connection.set_trace_callback(count)
    results = await asyncio.gather(*(store.txn([], [Put(f"/{n}", b"")]) for n in range(200)))
    store._connection.set_trace_callback(None)
    await store.close()
    assert sorted(result.revision for result in results) == list(range(2, 202))
    assert commits < 50


async def test_disk_that_refuses_fails_calls_and_nothing_else(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.txn([], [Put("/kept", b"1")])
    revision = store.revision
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    async with store.watch("/", after_revision=revision) as watch:
        with pytest.raises(StoreUnavailable):
            await store.txn([], [Put("/large", b"x" * 1_000_000)])
        assert store.revision == revision
        kept = await store.get("/kept")
        assert kept is not None
        store._connection.execute("PRAGMA max_page_count = 1000000")
        await store.txn([], [Put("/large", b"x" * 1_000_000)])
        batch = await anext(watch)
        assert [event.kv.mod_revision for event in batch.events] == [revision + 1]
    await store.close()


async def test_one_bad_call_does_not_fail_those_that_share_its_commit(path: Path) -> None:
    store = await SqliteStore.open(path)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    results = await asyncio.gather(
        store.txn([], [Put("/a", b"1")]),
        store.txn([], [Put("/large", b"x" * 1_000_000)]),
        store.txn([], [Put("/b", b"1")]),
        return_exceptions=True,
    )
    assert isinstance(results[1], StoreUnavailable)
    assert [kv.key for kv in (await store.range("/")).items] == ["/a", "/b"]
    await store.close()


async def test_lease_whose_end_could_not_be_written_ends_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.controlplane.store.leases._RETRY_S", 0.05)
    store = await SqliteStore.open(path)
    lease = await store.grant_lease(0.05)
    await store.txn([], [Put("/alive", b"", lease)])
    store._connection.execute("PRAGMA query_only = ON")
    await asyncio.sleep(0.2)
    assert await store.get("/alive") is not None
    store._connection.execute("PRAGMA query_only = OFF")
    async with asyncio.timeout(5), store.watch("/", after_revision=store.revision) as watch:
        assert [event.type for event in (await anext(watch)).events] == ["delete"]
    await store.close()


async def test_thousands_of_watches_are_woken_quickly(path: Path) -> None:
    store = await SqliteStore.open(path)
    woken: list[float] = []
    loop = asyncio.get_running_loop()

    async def follow(watch: Watch, number: int) -> None:
        async with watch:
            await anext(watch)
            woken.append(loop.time() - begun[number])

    begun: dict[int, float] = {}
    async with asyncio.TaskGroup() as group:
        for number in range(2000):
            watch = store.watch(f"/assign/{number}/", after_revision=store.revision)
            group.create_task(follow(watch, number))
        await asyncio.sleep(0.5)
        for number in range(2000):
            begun[number] = loop.time()
            await store.txn([], [Put(f"/assign/{number}/t", b"")])
    await store.close()
    woken.sort()
    assert woken[int(len(woken) * 0.99)] < 0.05
