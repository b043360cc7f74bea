"""Calls that take turns, when more come than can be done."""

from __future__ import annotations

import asyncio

import pytest

from agent.controlplane.api.ecs.turns import Turns
from agent.controlplane.front.errors import ThrottlingException


class Offered:
    """Calls that come at a rate, and what became of each."""

    def __init__(self, turns: Turns, *, takes_s: float) -> None:
        self._turns = turns
        self._takes_s = takes_s
        self.begun: list[int] = []
        self.done: list[int] = []
        self.refused: list[int] = []

    async def call(self, number: int) -> None:
        try:
            async with self._turns.admitted(), self._turns.turn():
                self.begun.append(number)
                await asyncio.sleep(self._takes_s)
                self.done.append(number)
        except ThrottlingException:
            self.refused.append(number)

    async def run(self, count: int, every_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self.call(number))
                await asyncio.sleep(every_s)


async def test_few_calls_wait_in_their_order() -> None:
    offered = Offered(Turns(10), takes_s=0.001)
    await offered.run(50, 0)
    assert offered.done == list(range(50))


async def test_with_too_many_calls_some_are_refused_and_the_others_done_in_time() -> None:
    offered = Offered(Turns(0.4), takes_s=0.05)
    await offered.run(100, 0.01)
    assert offered.begun == offered.done, "what is begun is done"
    assert offered.done == sorted(offered.done)
    assert len(offered.done) + len(offered.refused) == 100
    # 1 s of calls and 0.4 s of waiting, if none but these few calls take the processor.
    assert len(offered.done) >= 8
    assert len(offered.refused) >= 50


async def test_a_refused_call_did_not_wait() -> None:
    turns = Turns(0.5)
    slow = Offered(turns, takes_s=0.3)
    await slow.run(8, 0)
    more = Offered(turns, takes_s=0.3)
    waiting = asyncio.create_task(more.run(20, 0))
    await asyncio.sleep(0.01)
    assert len(more.refused) >= 10
    await waiting


async def test_one_slow_call_does_not_keep_later_ones_out() -> None:
    turns = Turns(0.2)
    await Offered(turns, takes_s=1.0).run(1, 0)
    for _ in range(30):
        quick = Offered(turns, takes_s=0)
        await quick.run(1, 0)
        assert quick.done == [0]
    many = Offered(turns, takes_s=0)
    await many.run(30, 0)
    assert many.refused == []


async def test_a_call_that_ends_early_gives_its_turn_back() -> None:
    turns = Turns(5)
    with pytest.raises(ZeroDivisionError):
        async with turns.admitted(), turns.turn():
            raise ZeroDivisionError
    held = asyncio.create_task(Offered(turns, takes_s=60).call(0))
    await asyncio.sleep(0.01)
    waits = asyncio.create_task(Offered(turns, takes_s=0).call(1))
    await asyncio.sleep(0.01)
    for task in (held, waits):
        task.cancel()
    await asyncio.gather(held, waits, return_exceptions=True)
    last = Offered(turns, takes_s=0)
    await last.call(2)
    assert last.done == [2]
