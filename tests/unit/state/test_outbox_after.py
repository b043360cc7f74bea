"""Walking on past reports that cannot be sent yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    opened = await StateStore.open(tmp_path / "agent.db")
    yield opened
    await opened.close()


async def report(store: StateStore, first: int, last: int) -> None:
    batch = Batch()
    for number in range(first, last):
        batch.enqueue(TaskChange(id=f"c{number}", task_arn=f"t{number}", status="RUNNING", at=1.0))
    await store.commit(batch)


async def walk(store: StateStore, seq: int = 0, limit: int = 70) -> list[tuple[int, TaskChange]]:
    found: list[tuple[int, TaskChange]] = []
    while rows := await store.outbox.after(seq, limit):
        assert len(rows) <= limit
        found.extend(rows)
        seq = rows[-1][0]
    return found


async def test_walks_over_more_than_memory_holds(store: StateStore) -> None:
    await report(store, 0, 1300)
    rows = await walk(store)
    assert [change.id for _, change in rows] == [f"c{number}" for number in range(1300)]
    # All but one of the oldest go; what is added is found without the rest being gone.
    store.outbox.settle([seq for seq, _ in rows[1:900]])
    await report(store, 1300, 1310)
    fresh = await walk(store, rows[-1][0])
    assert [change.id for _, change in fresh] == [f"c{number}" for number in range(1300, 1310)]
    again = await walk(store)
    assert [change.id for _, change in again] == ["c0", *(f"c{n}" for n in range(900, 1310))]
    store.outbox.settle([seq for seq, _ in again])
    assert store.outbox.size == 0
    assert await store.outbox.after(0, 10) == []


async def test_what_is_added_behind_a_stuck_report_needs_no_read(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await report(store, 0, 3)
    rows = await walk(store)
    store.outbox.settle([rows[1][0]])

    async def never(limit: int, after: int) -> list[object]:
        raise AssertionError(f"read {limit} rows after {after}")

    monkeypatch.setattr(store.outbox, "_read", never)
    waiter = asyncio.create_task(store.outbox.more())
    await asyncio.sleep(0)
    assert not waiter.done()
    await report(store, 3, 4)
    async with asyncio.timeout(2):
        await waiter
    ((_, change),) = await store.outbox.after(rows[-1][0], 10)
    assert change.id == "c3"
    assert await store.outbox.after(rows[-1][0] + 1, 10) == []


async def test_settling_during_a_read_offers_nothing_twice(store: StateStore) -> None:
    await report(store, 0, 700)
    first = await store.outbox.after(0, 500)
    store.outbox.settle([seq for seq, _ in first[:10]])
    reading = asyncio.create_task(store.outbox.after(first[-1][0], 500))
    await asyncio.sleep(0)
    store.outbox.settle([seq for seq, _ in first[10:]])
    await report(store, 700, 705)
    second = await reading
    rest = second + await walk(store, second[-1][0])
    assert [change.id for _, change in rest] == [f"c{number}" for number in range(500, 705)]
    assert [change.id for _, change in await walk(store)] == [change.id for _, change in rest]
