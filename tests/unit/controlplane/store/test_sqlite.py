"""What only the SQLite store promises: its file, its threads, and a disk that fails."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import statistics
import time
from pathlib import Path

import pytest

from agent.controlplane.store.contract import Put, StoreFailure, StoreUnavailable
from agent.controlplane.store.sqlite import SqliteStore
from agent.controlplane.store.sqlite_check import check_copy


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


class Watched:
    """A store with watches, each of a prefix of its own."""

    def __init__(self, store: SqliteStore, watches: int) -> None:
        self._store = store
        self._watches = watches
        self._heard: asyncio.Queue[int] = asyncio.Queue()

    async def begin(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start the watches; return when each has heard something, and so follows the store."""
        tasks = [group.create_task(self._follow(number)) for number in range(self._watches)]
        await asyncio.gather(*(self._put(number) for number in range(self._watches)))
        assert {await self._heard.get() for _ in tasks} == set(range(self._watches))
        return tasks

    async def wake_s(self, number: int) -> float:
        """Return how long after a call its watch, and no other one, has heard of it."""
        begun = time.perf_counter()
        await self._put(number)
        assert await self._heard.get() == number
        return time.perf_counter() - begun

    async def _follow(self, number: int) -> None:
        prefix = f"/assign/{number}/"
        async with self._store.watch(prefix, after_revision=self._store.revision) as watch:
            async for _ in watch:
                self._heard.put_nowait(number)

    async def _put(self, number: int) -> None:
        await self._store.txn([], [Put(f"/assign/{number}/t", b"")])


async def test_one_of_thousands_of_watches_is_woken_as_quickly_as_a_lone_one(
    path: Path, tmp_path: Path
) -> None:
    """The two are measured in turn, so that both have the same share of a busy machine."""
    stores = [await SqliteStore.open(path), await SqliteStore.open(tmp_path / "lone.db")]
    many, lone = Watched(stores[0], 2000), Watched(stores[1], 1)
    took_s, floor_s = [], []
    async with asyncio.TaskGroup() as group:
        tasks = [*await many.begin(group), *await lone.begin(group)]
        for number in range(0, 2000, 4):
            took_s.append(await many.wake_s(number))
            floor_s.append(await lone.wake_s(0))
        for task in tasks:
            task.cancel()
    for store in stores:
        await store.close()
    assert statistics.median(took_s) < 1.5 * statistics.median(floor_s)


async def test_an_older_copy_is_known_to_be_one(path: Path, tmp_path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.txn([], [Put("/a", b"1")])
    await store.close()
    shutil.copyfile(path, tmp_path / "older")
    store = await SqliteStore.open(path)
    for _ in range(5):
        await store.txn([], [Put("/a", b"2")])
    newest = store.revision
    assert store.seen_revision <= newest
    await store.close()
    shutil.copyfile(tmp_path / "older", path)
    store = await SqliteStore.open(path)
    assert store.seen_revision == newest > store.revision
    await store.close()


async def test_a_wal_with_a_damaged_page_is_known_to_be_shorter(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.txn([], [Put("/a", b"1")])
    for number in range(20):
        await store.txn([], [Put(f"/{number}", b"x" * 5000)])
    newest = store.revision
    copies = {name: Path(f"{path}{name}").read_bytes() for name in ("", "-wal", ".revision")}
    await store.close()
    wal = bytearray(copies["-wal"])
    wal[len(wal) // 2] ^= 0xFF
    for name, content in (copies | {"-wal": bytes(wal)}).items():
        Path(f"{path}{name}").write_bytes(content)
    store = await SqliteStore.open(path)
    assert store.revision < newest == store.seen_revision
    await store.close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"9" * 20, b"%020d 00000000" % 99])
async def test_a_broken_watermark_says_nothing(path: Path, content: bytes) -> None:
    await (await SqliteStore.open(path)).close()
    Path(f"{path}.revision").write_bytes(content)
    store = await SqliteStore.open(path)
    assert store.seen_revision == 0
    await store.close()


async def test_the_wal_is_folded_and_given_back_when_nobody_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.controlplane.store.sqlite_writer._FOLD_AFTER_S", 0.05)
    store = await SqliteStore.open(path)
    for _ in range(10):
        await store.txn([], [Put("/large", b"x" * 1_000_000)])
    async with asyncio.timeout(5):
        while path.stat().st_size < 1_000_000 or Path(f"{path}-wal").stat().st_size > 0:  # noqa: ASYNC110 - done by SQLite in a thread
            await asyncio.sleep(0.02)
    # All of it is in the file now: a copy of that alone is whole.
    assert (await asyncio.to_thread(check_copy, path)).keys == 1
    await store.close()
