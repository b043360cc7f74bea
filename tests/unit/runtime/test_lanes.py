"""Lanes: deadlines, cancellation, lost threads, closing. Threads here are real, sockets are pairs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from agent.errors import EngineTimeout, EngineUnavailable
from agent.runtime.docker import lanes
from agent.runtime.docker.lanes import BlockingCall, CallAborted, Lane, current_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane("tests", 2)
    yield made
    await made.close(limit_s=0.1)


def _read(far: list[socket.socket]) -> object:
    """Return work that waits for a socket that never says anything."""

    def work(call: BlockingCall) -> None:
        near, other = socket.socketpair()
        far.append(other)
        with near, other:
            call.attach(near)
            near.recv(1)

    return work


async def test_results_and_errors_are_handed_over(lane: Lane) -> None:
    assert await lane.run(lambda _: 7, limit_s=1, operation="tested") == 7
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda _: 1 // 0, limit_s=1, operation="tested")
    assert await lane.run(lambda call: current_call() is call, limit_s=1, operation="tested")


async def test_threads_are_started_when_needed_and_no_more_than_allowed(lane: Lane) -> None:
    names = set()
    for _ in range(5):
        names.add(
            await lane.run(lambda _: threading.current_thread().name, limit_s=1, operation="")
        )
    assert names == {"engine-tests-0"}
    gate = threading.Event()
    running = [
        asyncio.ensure_future(lane.run(lambda _: gate.wait(5), limit_s=5, operation=""))
        for _ in range(6)
    ]
    await asyncio.sleep(0.05)
    assert len(lane._threads) == 2
    gate.set()
    assert await asyncio.gather(*running) == [True] * 6


async def test_threads_that_are_not_needed_any_more_end() -> None:
    ended: list[str] = []
    lane = Lane(
        "tests", 4, idle_s=0.02, thread_ended=lambda: ended.append(threading.current_thread().name)
    )

    async def burst() -> None:
        gate = threading.Barrier(4)
        calls = [lane.run(lambda _: gate.wait(20), limit_s=20, operation="") for _ in range(4)]
        assert sorted(await asyncio.gather(*calls)) == [0, 1, 2, 3], "all at once"

    for number in (1, 2):
        await burst()
        async with asyncio.timeout(20):
            while len(ended) < 3 * number:  # noqa: ASYNC110 - there is nothing to be told by
                await asyncio.sleep(0.001)
        assert await lane.run(lambda _: 7, limit_s=20, operation="") == 7
    assert len(ended) == 6, "one stays"
    assert lane._look is None, "which needs no timer"
    assert await lane.close() == 0
    assert len(ended) == 7


async def test_a_thread_at_work_is_not_ended(lane: Lane) -> None:
    lane._idle_s = 0.001
    gate = threading.Event()
    waiting = asyncio.ensure_future(
        lane.run(lambda _: gate.wait(20), limit_s=20, operation="waited")
    )
    for _ in range(20):
        assert await lane.run(lambda _: 7, limit_s=20, operation="") == 7
        await asyncio.sleep(0.002)
    gate.set()
    assert await waiting


async def test_a_deadline_wakes_the_thread(lane: Lane) -> None:
    far: list[socket.socket] = []
    with pytest.raises(
        EngineTimeout, match="Could not transition to read; timed out after"
    ) as info:
        await lane.run(_read(far), limit_s=0.05, operation="read")  # type: ignore[arg-type]
    assert (info.value.operation, info.value.limit_s) == ("read", 0.05)
    async with asyncio.timeout(1):
        while lane.lost:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.001)
    assert lane.free == 2


async def test_cancelling_wakes_the_thread(lane: Lane) -> None:
    far: list[socket.socket] = []
    task = asyncio.ensure_future(lane.run(_read(far), limit_s=9, operation=""))  # type: ignore[arg-type,var-annotated]
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(1):
        while lane.lost:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_the_time_in_the_queue_counts(lane: Lane) -> None:
    gate = threading.Event()
    busy = [
        asyncio.ensure_future(lane.run(lambda _: gate.wait(5), limit_s=5, operation=""))
        for _ in range(2)
    ]
    await asyncio.sleep(0.02)
    ran = threading.Event()
    with pytest.raises(EngineTimeout):
        await lane.run(lambda _: ran.set(), limit_s=0.05, operation="")
    gate.set()
    await asyncio.gather(*busy)
    assert await lane.run(lambda _: True, limit_s=1, operation="")
    assert not ran.is_set(), "a call whose caller has left must not be made"


async def test_a_lane_of_lost_threads_refuses(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_WAKING_S", 0.05)
    gate = threading.Event()
    for _ in range(2):
        with pytest.raises(EngineTimeout):
            await lane.run(lambda _: gate.wait(5), limit_s=0.02, operation="")
    assert lane.lost == 2
    await asyncio.sleep(0.1)
    with pytest.raises(EngineUnavailable, match="all 2 threads for tests hang"):
        await lane.run(lambda _: True, limit_s=5, operation="")
    gate.set()
    async with asyncio.timeout(1):
        while lane.lost:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert await lane.run(lambda _: True, limit_s=5, operation="")


async def test_close_counts_what_still_hangs() -> None:
    lane = Lane("tests", 2)
    gate = threading.Event()
    task = asyncio.ensure_future(lane.run(lambda _: gate.wait(5), limit_s=5, operation=""))
    await asyncio.sleep(0.02)
    began = time.monotonic()
    assert await lane.close(limit_s=0.1) == 1
    assert time.monotonic() - began < 1
    with pytest.raises(EngineUnavailable, match="was closed"):
        await task
    gate.set()


async def test_hooks_run_in_the_thread() -> None:
    seen: list[tuple[str, object]] = []
    lane = Lane(
        "tests",
        1,
        call_ended=lambda reusable: seen.append((threading.current_thread().name, reusable)),
        thread_ended=lambda: seen.append((threading.current_thread().name, "end")),
    )
    await lane.run(lambda _: None, limit_s=1, operation="")
    await lane.close()
    assert seen == [("engine-tests-0", True), ("engine-tests-0", "end")]


async def test_a_hook_that_fails_costs_neither_answer_nor_thread() -> None:
    lane = Lane("tests", 1, call_ended=lambda _: 1 // 0)  # type: ignore[arg-type]
    for _ in range(2):
        assert await lane.run(lambda _: 7, limit_s=1, operation="") == 7
    assert await lane.close() == 0


def test_an_aborted_call_cannot_begin_to_wait() -> None:
    call = BlockingCall(1)
    call.abort()
    with pytest.raises(CallAborted):
        call.attach(None)
    assert not call.detach()


def test_the_socket_is_limited_by_silence_and_deadline() -> None:
    near, far = socket.socketpair()
    with near, far:
        call = BlockingCall(10)
        assert 9 < call.socket_timeout_s() <= 10
        call.attach(near)
        call.limit_silence(2)
        assert near.gettimeout() == 2
        assert call.detach()
    assert BlockingCall(0).remaining_s() == 0.001
