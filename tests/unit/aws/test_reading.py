"""Reading off the event loop: one thread at a time, and none that stays in the way for ever."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from agent.aws.reading import Reader


async def test_returns_and_raises_what_the_work_does() -> None:
    reader = Reader()
    assert await reader.read(lambda: 7, 1.0) == 7

    def fail() -> int:
        raise KeyError("k")

    with pytest.raises(KeyError):
        await reader.read(fail, 1.0)


async def test_work_that_hangs_keeps_others_out_until_it_ends() -> None:
    reader = Reader()
    held = threading.Event()
    with pytest.raises(TimeoutError):
        await reader.read(lambda: held.wait(5.0), 0.05)
    with pytest.raises(TimeoutError, match="still hangs"):
        await reader.read(lambda: 7, 1.0)
    held.set()
    async with asyncio.timeout(5.0):
        while True:
            await asyncio.sleep(0.005)
            with contextlib.suppress(TimeoutError):
                assert await reader.read(lambda: 7, 1.0) == 7
                break


async def test_a_host_without_threads_to_spare_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = Reader()

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(TimeoutError, match="cannot start a thread"):
            await reader.read(lambda: 7, 1.0)
    assert await reader.read(lambda: 7, 1.0) == 7
