"""A state file that is removed by hand while the agent has it open."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.errors import StateFailure
from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def put(store: StateStore, number: int) -> None:
    batch = Batch()
    batch.put("task", f"t{number}", f"body {number}".encode())
    batch.enqueue(TaskChange(id=f"c{number}", task_arn="a", status="RUNNING", at=1.0))
    await store.commit(batch)


async def kept(path: Path) -> tuple[list[str], int]:
    """What the next process finds: the keys of the records, and how many reports."""
    store = await StateStore.open(path)
    try:
        return list(await store.load("task", bytes)), store.outbox.size
    finally:
        await store.close()


def the_file(path: Path) -> None:
    path.unlink()


def the_file_and_its_companions(path: Path) -> None:
    for name in list(path.parent.iterdir()):
        name.unlink()


def the_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


REMOVALS = [the_file, the_file_and_its_companions, the_directory]


@pytest.mark.parametrize("remove", REMOVALS)
async def test_nothing_is_lost(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path)
    for number in range(3):
        await put(store, number)
    await asyncio.to_thread(remove, path)
    with structlog.testing.capture_logs() as logs:
        await put(store, 3)
        await put(store, 4)
    assert [line["event"] for line in logs] == ["the state file was removed; it was written again"]
    assert await asyncio.to_thread(lambda: path.stat().st_mode & 0o777) == 0o600
    with pytest.raises(StateFailure, match="another agent"):
        await StateStore.open(path)
    await store.close()
    assert await kept(path) == (["t0", "t1", "t2", "t3", "t4"], 5)
    left = {entry.name for entry in await asyncio.to_thread(lambda: list(path.parent.iterdir()))}
    assert left <= {"agent.db", "agent.db.lock", "agent.db-wal", "agent.db-shm"}


async def test_it_is_put_back_though_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path)
    await put(store, 0)
    await asyncio.to_thread(the_directory, path)
    await store.beat()
    copy = tmp_path / "copy.db"
    await asyncio.to_thread(shutil.copyfile, path, copy)  # as it is when the power goes now
    await store.close()
    assert await kept(copy) == (["t0"], 1)


async def test_as_long_as_it_cannot_be_put_back_nothing_is_called_durable(tmp_path: Path) -> None:
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path)
    await put(store, 0)

    def replace_directory() -> None:
        the_directory(path)
        path.parent.write_text("a file in its place")

    await asyncio.to_thread(replace_directory)
    for number in (1, 2):
        with pytest.raises(StateFailure, match=r"agent\.db"):
            await put(store, number)
    await store.beat()
    assert store.problems
    await asyncio.to_thread(path.parent.unlink)
    await put(store, 3)
    assert store.healthy
    assert "was removed at" in store.problems[0]
    await store.close()
    assert await kept(path) == (["t0", "t3"], 2)


async def test_a_file_that_somebody_put_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path)
    await put(store, 0)

    def replace_file() -> None:
        path.unlink()
        path.write_bytes(b"a backup")

    await asyncio.to_thread(replace_file)
    await put(store, 1)
    await store.beat()
    assert await asyncio.to_thread(path.read_bytes) == b"a backup"
    (problem,) = store.problems
    assert f"{path} was replaced while the agent had it open" in problem
    await store.close()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(check):  # noqa: ASYNC110 - a file has no event here
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("remove", REMOVALS)
async def test_it_is_noticed_at_once_and_each_time(
    tmp_path: Path, remove: Callable[[Path], None]
) -> None:
    """Nothing is written and nobody asks: the kernel tells. The new directory is watched as well."""
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path)
    await put(store, 0)
    for number in range(3):
        await asyncio.to_thread(remove, path)
        await until(path.exists)
        await store.beat()
        assert "was removed at" in store.problems[0]
        copy = tmp_path / f"copy{number}.db"
        await asyncio.to_thread(shutil.copyfile, path, copy)
        assert await kept(copy) == (["t0"], 1)
    await store.close()


async def test_a_log_that_is_removed_takes_nothing_along(tmp_path: Path) -> None:
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path)
    log = path.with_name("agent.db-wal")
    for number in range(3):
        await put(store, number)
        await asyncio.to_thread(log.unlink)
        if number == 1:
            await put(store, 10)  # before anybody could look
        await until(log.exists)
        await store.beat()
        copy = tmp_path / f"copy{number}.db"
        await asyncio.to_thread(shutil.copyfile, path, copy)
        assert f"t{number}" in (await kept(copy))[0]
    assert "log" in store.problems[0]
    await store.close()
    assert await kept(path) == (["t0", "t1", "t10", "t2"], 4)


async def test_the_second_place_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path, kept_twice=frozenset({"instanceArn"}))
    batch = Batch()
    batch.put_meta("instanceArn", "arn:1")
    await store.commit(batch)
    second = path.with_name("agent.db.identity")
    await until(second.exists)
    for remove in (second.unlink, lambda: shutil.rmtree(path.parent)):
        await asyncio.to_thread(remove)
        await until(lambda: second.exists() and b"arn:1" in second.read_bytes())
        await store.beat()
        assert "was removed at" in store.problems[0]
    await store.close()


async def test_nothing_is_lost_however_often_it_is_removed(tmp_path: Path) -> None:
    """Removals at any moment, while the file is being put back as well."""
    path = tmp_path / "data/agent.db"
    store = await StateStore.open(path)

    def remove_again_and_again() -> None:
        for number in range(60):
            with contextlib.suppress(OSError):
                for name in sorted(path.parent.iterdir(), reverse=bool(number % 2)):
                    name.unlink(missing_ok=True)
                if number % 3 == 0:
                    path.parent.rmdir()
            time.sleep(0.005 * (number % 5))

    removing = asyncio.create_task(asyncio.to_thread(remove_again_and_again))
    stored, number = [], 0
    while not removing.done():
        with contextlib.suppress(StateFailure):
            await put(store, number)
            stored.append(f"t{number}")
        number += 1
    await removing
    await put(store, number)
    await store.close()
    found = (await kept(path))[0]
    assert [key for key in stored if key not in found] == []
    assert f"t{number}" in found
