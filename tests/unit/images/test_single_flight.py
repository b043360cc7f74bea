"""Single flight: one piece of work for all who want it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.errors import EngineUnavailable
from agent.images.progress import Progress
from agent.images.single_flight import SingleFlight

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
    single_flight: SingleFlight[int] = SingleFlight()
    work = Work()
    told: list[Progress] = []
    waiting = [asyncio.ensure_future(single_flight.join("k", work)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.append(asyncio.ensure_future(single_flight.join("k", work, told.append)))
    await asyncio.sleep(0)
    work.gate.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1, 1]
    assert [progress.line for progress in told] == ["begun", "done"]
    assert await single_flight.join("k", work) == 2, "what is done is not remembered"


async def test_one_who_leaves_takes_nobody_with_him() -> None:
    single_flight: SingleFlight[int] = SingleFlight()
    work = Work()
    first, second = (asyncio.ensure_future(single_flight.join("k", work)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.gate.set()
    assert await second == 1
    assert work.cancelled == 0


async def test_the_last_one_who_leaves_ends_the_work() -> None:
    single_flight: SingleFlight[int] = SingleFlight()
    work = Work()
    waiting = asyncio.ensure_future(single_flight.join("k", work))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    newcomer = asyncio.ensure_future(single_flight.join("k", work))
    await asyncio.sleep(0.01)
    assert (work.begun, work.cancelled) == (2, 1)
    work.gate.set()
    assert await newcomer == 2


async def test_errors_reach_all_who_wait() -> None:
    async def fail(_: Report) -> int:
        await asyncio.sleep(0)
        raise ValueError("broken")

    single_flight: SingleFlight[int] = SingleFlight()
    answers = await asyncio.gather(
        *(single_flight.join("k", fail) for _ in range(3)), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["broken"] * 3


async def test_work_that_nobody_waits_for_runs_once() -> None:
    single_flight: SingleFlight[int] = SingleFlight()
    work = Work()
    single_flight.launch("k", work)
    single_flight.launch("k", work)
    await asyncio.sleep(0.01)
    assert work.begun == 1
    await single_flight.close()
    assert work.cancelled == 1
    single_flight.launch("k", work)
    assert work.begun == 1


async def test_close_tells_those_who_wait() -> None:
    single_flight: SingleFlight[int] = SingleFlight()
    waiting = asyncio.ensure_future(single_flight.join("k", Work()))
    await asyncio.sleep(0.01)
    await single_flight.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await waiting
    with pytest.raises(EngineUnavailable, match="closing"):
        await single_flight.join("k", Work())
