"""Work that must not be left half done."""

from __future__ import annotations

import asyncio

import pytest

from agent.network.background import uninterrupted


async def test_work_ends_before_its_cancelled_caller() -> None:
    begun, goes_on, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await goes_on.wait()
        done.append(True)

    caller = asyncio.create_task(uninterrupted(work()))
    await begun.wait()
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done


async def test_a_result_and_a_failure_are_passed_on() -> None:
    async def work(*, fails: bool) -> int:
        if fails:
            raise ValueError("no")
        return 3

    assert await uninterrupted(work(fails=False)) == 3
    with pytest.raises(ValueError, match="no"):
        await uninterrupted(work(fails=True))
