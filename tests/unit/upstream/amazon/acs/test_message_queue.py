"""Orders one after the other, never more than fit, and a promise for each."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
from structlog.testing import capture_logs

from agent.upstream.amazon.acs.message_queue import AcsMessage, MessageQueue
from agent.upstream.amazon.registration import Instance

ANYONE = Instance(arn="i", cluster="c")


async def nowhere(_answer: bytes) -> None:
    raise AssertionError


def order(name: str, size: int = 10) -> AcsMessage:
    return AcsMessage(name, msgspec.Raw(b"x" * size), 0.0, ANYONE, nowhere)


class Worker:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, one: AcsMessage) -> None:
        await self.gate.wait()
        self.done.append(one.type)


async def settled(lane: MessageQueue) -> None:
    async with asyncio.timeout(2):
        while lane.liveness.due != math.inf:  # noqa: ASYNC110 - a promise is not an event
            await asyncio.sleep(0.001)


async def test_what_is_too_much_is_dropped_until_the_lane_is_empty() -> None:
    worker = Worker()
    lane = MessageQueue(worker, work_limit_s=5.0, orders=3, size=100)
    running = asyncio.create_task(lane.run())
    with capture_logs() as lines:
        took = [lane.put(order(str(n))) for n in range(5)]
        await asyncio.sleep(0.01)
        assert lane.liveness.due != math.inf
        assert lane.liveness.doing == "carrying out a 0"
        worker.gate.set()
        await settled(lane)
        took.append(lane.put(order("later")))
        await asyncio.sleep(0)
        await settled(lane)
    assert took == [True, True, True, False, False, True]
    assert worker.done == ["0", "1", "2", "later"]
    assert len(lines) == 1
    running.cancel()
    await asyncio.wait([running])


async def test_bytes_count_and_one_that_is_larger_than_all_is_taken_alone() -> None:
    worker = Worker()
    lane = MessageQueue(worker, work_limit_s=5.0, orders=99, size=100)
    assert lane.put(order("huge", 1000))
    assert not lane.put(order("small", 1))
    running: asyncio.Task[Any] = asyncio.create_task(lane.run())
    worker.gate.set()
    await asyncio.sleep(0.01)
    assert [lane.put(order("half", 50)), lane.put(order("half", 50))] == [True, True]
    assert not lane.put(order("more", 1))
    await asyncio.sleep(0.01)
    assert worker.done == ["huge", "half", "half"]
    running.cancel()
    await asyncio.wait([running])
