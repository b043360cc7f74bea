"""The wish to drain: durable, told until it is taken, and the end of tasks at its deadline."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from agent.errors import ControlUnavailable, StateFailure
from agent.state import StateStore
from agent.upstream import draining
from agent.upstream.draining import Drain, DrainTeller, Leaving, leave_host, stop_at_deadline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.state import Batch

LIMIT_S = 20.0


class Instance:
    """Control's side: what it was told, and what it answers."""

    def __init__(self) -> None:
        self.arn = "arn:1"
        self.told: list[str] = []
        self.answers: list[str | Exception] = []

    async def identity(self) -> str:
        return self.arn

    async def tell(self, status: str) -> str:
        self.told.append(status)
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    opened = await StateStore.open(tmp_path / "agent.db")
    yield opened
    await opened.close()


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.01)


async def test_a_wish_is_told_until_it_is_taken(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "RETRY_S", (0.01, 0.05))
    drain, instance = await Drain.open(store), Instance()
    instance.answers = [ControlUnavailable("control is away"), "it is not allowed"]
    async with asyncio.TaskGroup() as group:
        teller = DrainTeller(drain, instance.identity, instance.tell)
        running = group.create_task(teller.run())
        await asyncio.sleep(0.05)
        assert instance.told == []  # a host that never drained says nothing
        await drain.order(wanted=True)
        await until(lambda: drain.view.told)
        assert instance.told == ["DRAINING"] * 3
        assert drain.view.trouble == ""
        await drain.order(wanted=True, deadline=time.time() + 1000)
        await asyncio.sleep(0.05)
        assert instance.told == ["DRAINING"] * 3  # only the deadline is new
        await drain.order(wanted=False)
        await until(lambda: drain.view.told)
        assert instance.told[3:] == ["ACTIVE"]
        running.cancel()


async def test_a_full_disk_does_not_end_the_agent(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "RETRY_S", (0.01, 0.05))
    drain, instance = await Drain.open(store), Instance()
    await drain.order(wanted=True)
    commit, failures = store.commit, [StateFailure("the disk is full")]

    async def failing(batch: Batch) -> None:
        if failures:
            raise failures.pop()
        await commit(batch)

    monkeypatch.setattr(store, "commit", failing)
    teller = asyncio.create_task(DrainTeller(drain, instance.identity, instance.tell).run())
    await until(lambda: drain.view.told or teller.done())
    assert (teller.done(), instance.told) == (False, ["DRAINING"] * 2)
    teller.cancel()


async def test_the_trouble_is_shown_while_it_lasts(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain, instance = await Drain.open(store), Instance()
    instance.answers = [ControlUnavailable("control is away")]
    monkeypatch.setattr(draining, "RETRY_S", (60.0, 60.0))
    teller = asyncio.create_task(DrainTeller(drain, instance.identity, instance.tell).run())
    await drain.order(wanted=True)
    await until(lambda: drain.view.trouble == "control is away")
    assert not drain.view.told
    await drain.order(wanted=False)  # wakes it
    await until(lambda: drain.view.told)
    assert (instance.told, drain.view.trouble) == (["DRAINING", "ACTIVE"], "")
    teller.cancel()


async def test_a_wish_outlives_the_process_and_is_told_to_a_new_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "LOOK_EVERY_S", 0.02)
    store = await StateStore.open(tmp_path / "agent.db")
    await (await Drain.open(store)).order(wanted=True, deadline=5000000000.0)
    await store.close()
    store = await StateStore.open(tmp_path / "agent.db")
    drain, instance = await Drain.open(store), Instance()
    assert (drain.wish.wanted, drain.wish.deadline, drain.view.told) == (True, 5e9, False)
    teller = asyncio.create_task(DrainTeller(drain, instance.identity, instance.tell).run())
    await until(lambda: drain.wish.told_to == "arn:1")
    instance.arn = "arn:2"
    await until(lambda: drain.wish.told_to == "arn:2")
    assert instance.told == ["DRAINING"] * 2
    await drain.order(wanted=False)
    await until(lambda: drain.view.told)
    instance.arn = "arn:3"  # is ACTIVE by itself
    await asyncio.sleep(0.1)
    assert instance.told == ["DRAINING"] * 2 + ["ACTIVE"]
    teller.cancel()
    await store.close()


async def test_tasks_are_stopped_once_at_each_deadline(store: StateStore) -> None:
    drain = await Drain.open(store)
    stops: list[float] = []
    failures = [StateFailure("the disk is full")]

    async def stop_all() -> None:
        stops.append(time.time())
        if failures:
            raise failures.pop()

    running = asyncio.create_task(stop_at_deadline(drain, stop_all))
    await drain.order(wanted=True)
    await drain.order(wanted=True, deadline=time.time() + 1000)
    await asyncio.sleep(0.05)
    assert stops == []
    due = time.time() + 0.3
    await drain.order(wanted=True, deadline=due)
    await until(lambda: stops)
    assert stops[0] >= due
    await drain.order(wanted=True, deadline=time.time())  # another try, after the failure
    await until(lambda: len(stops) == 2)
    await drain.order(wanted=False)
    await asyncio.sleep(0.05)
    assert len(stops) == 2
    running.cancel()


async def test_a_host_that_goes_down_is_drained_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "LEAVE_LOOK_S", 0.01)
    store = await StateStore.open(tmp_path / "agent.db")
    drain, host = await Drain.open(store), Host(tasks=2, reports=1)
    leaving = asyncio.create_task(leave_host(drain, host.leaving, limit_s=60.0))
    await until(lambda: drain.wish.wanted)
    host.tasks = 0  # control has moved them
    await asyncio.sleep(0.05)
    assert not leaving.done()
    host.reports = 0
    await leaving
    assert host.stops == 0
    await store.close()
    store = await StateStore.open(tmp_path / "agent.db")
    drain = await Drain.open(store)
    assert (drain.wish.wanted, drain.view.told) == (False, False)
    await store.close()


async def test_what_was_not_moved_is_stopped_before_the_host_goes_down(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "REPORT_LIMIT_S", 0.05)
    drain, host = await Drain.open(store), Host(tasks=2, reports=3)
    await drain.order(wanted=True)  # by an operator, who has not lifted it
    await leave_host(drain, host.leaving, limit_s=0.05)
    assert (host.stops, host.tasks, host.reports) == (1, 0, 3)
    assert (await Drain.open(store)).wish.wanted


class Host:
    """What a shutdown waits for."""

    def __init__(self, tasks: int, reports: int) -> None:
        self.tasks, self.reports, self.stops = tasks, reports, 0
        self.leaving = Leaving(
            running=lambda: self.tasks, unsent=lambda: self.reports, stop_all=self._stop_all
        )

    async def _stop_all(self) -> None:
        self.stops += 1
        self.tasks = 0
