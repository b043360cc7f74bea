"""The spool on a real file: durable, in order, bounded, and what others do to the file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.awslogs import spool_file, wire
from agent.awslogs.spool import Spool
from agent.awslogs.spool_file import NO_ROOM, REFUSED, Append, Bounds, SpoolFile
from agent.errors import StateFailure
from tests.support.log_driver import put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model.logs import SpooledBatch

WIDE = Bounds(host_bytes=10**9, task_bytes=10**9)
NARROW = Bounds(host_bytes=8_000, task_bytes=4_000)
"""About four and two batches of those that ``filler`` makes."""


def append(message: str, task: str = "t1", *, create_group: bool = False) -> Append:
    packed = wire.read_put(json.dumps(put(message)).encode())
    return Append(task=task, create_group=create_group, packed=packed)


def filler(number: int, task: str = "t1") -> Append:
    """A batch that takes about 1,500 bytes, whatever compression does."""
    return append(f"{number} {base64.b64encode(os.urandom(950)).decode()}", task)


@contextlib.asynccontextmanager
async def running(path: Path, bounds: Bounds = WIDE) -> AsyncIterator[Spool]:
    spool = Spool(path, bounds)
    task = asyncio.create_task(spool.run())
    try:
        yield spool
    finally:
        task.cancel()
        await asyncio.wait([task])
        await spool.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "spool.db"


async def peek(spool: Spool, limit: int = 100) -> list[SpooledBatch]:
    async with asyncio.timeout(10):
        await spool.wait()
        return await spool.peek(limit_bytes=10**6, limit=limit)


def messages(rows: list[SpooledBatch]) -> list[str]:
    return [message for row in rows for _, message in json.loads(row.body)]


async def test_what_was_taken_comes_out_in_order_and_once(path: Path) -> None:
    async with running(path) as spool:
        for number in range(5):
            await spool.append(append(str(number), create_group=number == 3))
        await spool.append(append("0"))  # the driver has sent it again
        assert (spool.held.batches, spool.held.events) == (5, 5)
        rows = await peek(spool, limit=3)
        assert messages(rows) == ["0", "1", "2"]
        spool.settle(rows)
        rest = await peek(spool)
        assert messages(rest) == ["3", "4"]
        assert [row.create_group for row in rest] == [True, False]
        spool.settle(rest)
        assert await spool.peek(limit_bytes=1, limit=1) == []
    async with running(path) as spool:
        assert await spool.peek(limit_bytes=1, limit=1) == []


async def test_another_process_goes_on_where_one_was_killed(path: Path) -> None:
    killed = SpoolFile(path, WIDE)
    await asyncio.to_thread(killed.apply, [append("a"), append("b")], (), ())  # and never closed
    async with running(path) as spool:
        assert messages(await peek(spool)) == ["a", "b"]
        assert spool.held.batches == 2


async def test_many_at_once_share_transactions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[int] = []
    apply = SpoolFile.apply

    def counted(self: SpoolFile, appends: list[Append], *more: object, **named: object) -> object:
        applied.append(len(appends))
        return apply(self, appends, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(SpoolFile, "apply", counted)
    async with running(path) as spool:
        await asyncio.gather(*(spool.append(append(str(n))) for n in range(200)))
        assert len(await peek(spool, limit=1000)) == 200
    assert sum(applied) == 200
    assert len(applied) < 20


async def test_a_task_that_has_too_much_loses_its_oldest(path: Path) -> None:
    async with running(path, NARROW) as spool:
        await spool.append(filler(0, "quiet"))
        for number in range(5):
            await spool.append(filler(number, "loud"))
        rows = await peek(spool)
        kept = [(row.task, messages([row])[0].split()[0]) for row in rows]
        assert kept[0] == ("quiet", "0")
        assert [number for task, number in kept if task == "loud"] == ["4"] or kept[-1][1] == "4"
        (loss,) = spool.losses
        assert (loss.task, loss.why) == ("loud", NO_ROOM)
        assert loss.events == 5 - (len(kept) - 1)
        assert "loud" in spool.problems[0]
        assert "ECS_LOG_SPOOL_MB" in spool.problems[0]
        assert spool.view.lost[0].events == loss.events


async def test_where_all_have_too_much_the_task_with_most_loses(path: Path) -> None:
    bounds = Bounds(host_bytes=8_000, task_bytes=100_000)
    async with running(path, bounds) as spool:
        await spool.append(filler(0, "quiet"))
        for number in range(6):
            await spool.append(filler(number, "loud"))
        assert spool.held.bytes <= bounds.host_bytes
        rows = await peek(spool)
        assert rows[0].task == "quiet"
        assert {loss.task for loss in spool.losses} == {"loud"}
        kept = [messages([row])[0].split()[0] for row in rows[1:]]
        assert kept == sorted(kept)
        assert kept[-1] == "5"


async def test_what_is_on_its_way_makes_no_room(path: Path) -> None:
    async with running(path, NARROW) as spool:
        await spool.append(filler(0))
        on_the_way = await peek(spool)
        for number in range(1, 4):
            await spool.append(filler(number))
        spool.settle(on_the_way)
        assert messages(await peek(spool))[-1].startswith("3 ")
        assert sum(loss.events for loss in spool.losses) < 3


async def test_losses_outlive_the_process_and_stay_few(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "_TASKS_COUNTED", 3)
    async with running(path) as spool:
        for number in range(6):
            await spool.append(append(str(number), f"t{number}"))
            rows = await peek(spool)
            spool.settle([], rows)
        await spool.append(append("last"))
    async with running(path) as spool:
        await peek(spool)
        assert sum(loss.events for loss in spool.losses) == 6
        assert {loss.why for loss in spool.losses} == {REFUSED}
        assert [loss.task for loss in spool.losses if loss.task] == ["t3", "t4", "t5"]
        assert [loss.events for loss in spool.losses if not loss.task] == [3]


async def test_a_removed_file_is_written_anew_with_all_that_waits(path: Path) -> None:
    async with running(path) as spool:
        await spool.append(append("a"))
        for file in path.parent.iterdir():
            file.unlink()
        await spool.append(append("b"))
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT count(*) FROM batches").fetchone() == (2,)
        assert messages(await peek(spool)) == ["a", "b"]


async def test_a_damaged_file_is_set_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 500)
    async with running(path) as spool:
        await spool.append(append("a"))
        assert messages(await peek(spool)) == ["a"]
    assert path.with_name("spool.db.damaged").read_bytes().startswith(b"no database")


async def test_a_damaged_batch_holds_up_no_other(path: Path) -> None:
    async with running(path) as spool:
        await spool.append(append("a"))
        await spool.append(append("b"))
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE batches SET body = x'00' WHERE seq = 1")
    async with running(path) as spool:
        rows = await peek(spool, limit=1)
        assert messages(rows) == ["b"]


async def test_what_cannot_be_written_is_not_taken_and_said(path: Path) -> None:
    path.parent.parent.joinpath("logs").write_text("a file where the directory should be")
    async with running(path) as spool:
        with pytest.raises(StateFailure, match=r"spool\.db cannot be written"):
            async with asyncio.timeout(10):
                await spool.append(append("a"))
        assert spool.problems
        path.parent.unlink()
        async with asyncio.timeout(10):
            while spool.trouble:
                with contextlib.suppress(StateFailure):
                    await spool.append(append("a"))
        assert messages(await peek(spool)) == ["a"]
        assert not spool.problems


async def test_space_of_an_outage_is_given_back(path: Path) -> None:
    async with running(path) as spool:
        for start in range(0, 4000, 500):
            await asyncio.gather(*(spool.append(filler(start + n)) for n in range(500)))
        while rows := await spool.peek(limit_bytes=10**7, limit=5000):
            spool.settle(rows)
        async with asyncio.timeout(20):
            while path.stat().st_size > 500_000:  # noqa: ASYNC110 - the file has no event
                await asyncio.sleep(0.01)


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    SpoolFile(path, WIDE).apply([append("a")], (), ())
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700
