"""Single flight: one piece of work for all who want it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.errors import EngineUnavailable
from agent.images.progress import Progress
from agent.images.single_flight import Flights

if TYPE_CHECKING:
    from agent.images.single_flight import Report


class Work:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.gate = asyncio.Event()

    async def __call__(self, report: Report) -> int:
        self.begun += 1
        report(Progress("begun"))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        report(Progress("done"))
        return self.begun


async def test_all_get_one_answer() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    told: list[Progress] = []
    waiting = [asyncio.ensure_future(flights.join("k", work)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.append(asyncio.ensure_future(flights.join("k", work, told.append)))
    await asyncio.sleep(0)
    work.gate.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1, 1]
    assert [progress.line for progress in told] == ["begun", "done"]
    assert await flights.join("k", work) == 2, "what is done is not remembered"


async def test_one_who_leaves_takes_nobody_with_him() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    first, second = (asyncio.ensure_future(flights.join("k", work)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.gate.set()
    assert await second == 1
    assert work.cancelled == 0


async def test_the_last_one_who_leaves_ends_the_work() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    waiting = asyncio.ensure_future(flights.join("k", work))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    newcomer = asyncio.ensure_future(flights.join("k", work))
    await asyncio.sleep(0.01)
    assert (work.begun, work.cancelled) == (2, 1)
    work.gate.set()
    assert await newcomer == 2


async def test_errors_reach_all_who_wait() -> None:
    async def fail(_: Report) -> int:
        await asyncio.sleep(0)
        raise ValueError("broken")

    flights: Flights[int] = Flights()
    answers = await asyncio.gather(
        *(flights.join("k", fail) for _ in range(3)), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["broken"] * 3


async def test_work_that_nobody_waits_for_runs_once() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    flights.launch("k", work)
    flights.launch("k", work)
    await asyncio.sleep(0.01)
    assert work.begun == 1
    await flights.close()
    assert work.cancelled == 1
    flights.launch("k", work)
    assert work.begun == 1


async def test_close_tells_those_who_wait() -> None:
    flights: Flights[int] = Flights()
    waiting = asyncio.ensure_future(flights.join("k", Work()))
    await asyncio.sleep(0.01)
    await flights.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await waiting
    with pytest.raises(EngineUnavailable, match="closing"):
        await flights.join("k", Work())
