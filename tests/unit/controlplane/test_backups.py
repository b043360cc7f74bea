from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from agent.controlplane import backups
from agent.controlplane.backups import Backups, Schedule
from agent.controlplane.store import sqlite_backup
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "_FIRST_S", 0.01)
    monkeypatch.setattr(backups, "_TRY_AGAIN_S", 0.05)
    moments = iter(range(1_700_000_000, 1_800_000_000))
    names = sqlite_backup.name_at
    monkeypatch.setattr(sqlite_backup, "name_at", lambda _: names(next(moments)))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "control.db")
    yield store
    await store.close()


async def made(directory: Path) -> list[Path]:
    return await asyncio.to_thread(sqlite_backup.backups_in, directory)


async def some(directory: Path, count: int) -> list[Path]:
    async with asyncio.timeout(10):
        while len(found := await made(directory)) < count:  # noqa: ASYNC110 - a thread makes them
            await asyncio.sleep(0.01)
    return found


async def test_copies_are_made_when_something_changed_and_the_newest_are_kept(
    store: SqliteStore, tmp_path: Path
) -> None:
    directory = tmp_path / "backups"
    task = asyncio.create_task(
        Backups(store, store.back_up, Schedule(directory=directory, every_s=0.05, keep=2)).run()
    )
    (first,) = await some(directory, 1)
    await asyncio.sleep(0.3)
    assert await made(directory) == [first]
    seen = {first}
    for number in range(3):
        await store.txn([], [Put("/a", str(number).encode())])
        async with asyncio.timeout(10):
            while (await made(directory))[-1] in seen:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        seen.add((await made(directory))[-1])
    async with asyncio.timeout(10):
        while len(await made(directory)) != 2:  # noqa: ASYNC110 - as above: the oldest goes last
            await asyncio.sleep(0.01)
    assert not first.exists()
    assert directory.stat().st_mode & 0o777 == 0o700
    task.cancel()


async def test_a_copy_that_fails_is_told_of_and_tried_again(
    store: SqliteStore, tmp_path: Path
) -> None:
    blocked = tmp_path / "backups"
    blocked.write_bytes(b"")
    with capture_logs() as logs:
        task = asyncio.create_task(
            Backups(store, store.back_up, Schedule(directory=blocked, every_s=60)).run()
        )
        async with asyncio.timeout(10):
            while not [log for log in logs if log["event"] == "backup failed"]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        blocked.unlink()
        await some(blocked, 1)
    task.cancel()


async def test_a_new_process_copies_no_sooner_than_it_is_due(
    store: SqliteStore, tmp_path: Path
) -> None:
    directory = tmp_path / "backups"
    directory.mkdir()
    young = directory / "control-20260101T000000Z.db"
    young.write_bytes(b"")
    schedule = Schedule(directory=directory, every_s=3600)
    assert 3500 < await asyncio.to_thread(Backups(store, store.back_up, schedule)._due_in_s) <= 3600
    os.utime(young, (time.time() - 7200,) * 2)
    assert await asyncio.to_thread(Backups(store, store.back_up, schedule)._due_in_s) < 0
    async with asyncio.timeout(1):
        await Backups(store, store.back_up, Schedule(directory=directory, every_s=0)).run()
