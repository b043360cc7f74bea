"""The pool's order: who waits comes first, and filling up keeps out of the way of launches."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.errors import NetworkFailure
from agent.network.sandboxes.warm_pool import WarmPool
from tests.unit.network.builders import record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.network.sandbox_record import SandboxRecord


class Workshop:
    """Makes sandboxes when told to, and remembers what became of them."""

    def __init__(self) -> None:
        self.begun = 0
        self.kept: list[str] = []
        self.watched: list[str] = []
        self.gate = asyncio.Semaphore(0)
        self.failures: list[Exception] = []
        self.dropped: list[str] = []
        self.most = 0

    async def make(self) -> SandboxRecord:
        self.begun += 1
        number = self.begun
        await self.gate.acquire()
        if self.failures:
            raise self.failures.pop()
        return record(number + 1)

    async def limit(self) -> int:
        return self.most

    async def keep(self, made: SandboxRecord) -> None:
        self.kept.append(made.ipv4)

    def pool(self, target: int = 0, quiet_s: float = 0.0) -> WarmPool:
        return WarmPool(
            make=self.make,
            keep=self.keep,
            watch=lambda made: self.watched.append(made.ipv4),
            target=target,
            most=self.limit,
            drop=lambda made: self.dropped.append(made.ipv4),
            quiet_s=quiet_s,
        )

    async def finish(self, count: int) -> None:
        for _ in range(count):
            self.gate.release()
        for _ in range(20):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def refilling(pool: WarmPool) -> AsyncIterator[None]:
    refill = asyncio.create_task(pool.refill())
    await asyncio.sleep(0.01)
    yield
    refill.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await refill
    await pool.finish(0.0)


async def test_who_waits_is_served_in_order_by_one_maker_each() -> None:
    shop = Workshop()
    pool = shop.pool()
    waiting = [asyncio.create_task(pool.obtain()) for _ in range(3)]
    await shop.finish(0)
    assert shop.begun == 3
    await shop.finish(1)
    assert [task.done() for task in waiting] == [True, False, False]
    await shop.finish(2)
    assert {task.result().ipv4 for task in waiting} == {"10.9.0.2", "10.9.0.3", "10.9.0.4"}
    assert shop.kept == []
    assert len(shop.watched) == 3


async def test_the_pool_is_filled_to_the_target_one_by_one() -> None:
    shop = Workshop()
    pool = shop.pool(target=2)
    async with refilling(pool):
        assert shop.begun == 1
        await shop.finish(5)
        assert (len(pool), shop.begun) == (2, 2)
        assert shop.kept == ["10.9.0.2", "10.9.0.3"]
        assert (await pool.obtain()).ipv4 == "10.9.0.2"


async def test_a_claim_takes_over_what_was_begun_for_the_pool() -> None:
    shop = Workshop()
    pool = shop.pool(target=1)
    async with refilling(pool):
        waiting = asyncio.create_task(pool.obtain())
        await shop.finish(0)
        assert shop.begun == 1
        await shop.finish(1)
        assert (await waiting).ipv4 == "10.9.0.2"


async def test_nothing_is_begun_for_the_pool_while_launches_go_on() -> None:
    shop = Workshop()
    pool = shop.pool(target=1, quiet_s=0.05)
    with pool.launch():
        async with refilling(pool):
            await asyncio.sleep(0.02)
            assert shop.begun == 0
    async with refilling(pool):
        assert shop.begun == 0
        await asyncio.sleep(0.1)
        assert shop.begun == 1


async def test_a_failure_reaches_one_who_waits_and_the_next_try_succeeds() -> None:
    shop = Workshop()
    pool = shop.pool()
    shop.failures.append(NetworkFailure("no bridge"))
    first = asyncio.create_task(pool.obtain())
    second = asyncio.create_task(pool.obtain())
    await asyncio.sleep(0)
    await shop.finish(1)
    with pytest.raises(NetworkFailure, match="no bridge"):
        await first
    assert "no bridge" in pool.problem
    await shop.finish(1)
    await second
    assert pool.problem == ""


async def test_an_unexpected_error_does_not_leave_anybody_waiting() -> None:
    shop = Workshop()
    pool = shop.pool()
    shop.failures.append(RuntimeError("a bug"))
    waiting = asyncio.create_task(pool.obtain())
    await asyncio.sleep(0)
    await shop.finish(1)
    with pytest.raises(RuntimeError, match="a bug"):
        await waiting


async def test_what_a_cancelled_wait_would_have_got_goes_into_the_pool() -> None:
    shop = Workshop()
    pool = shop.pool()
    waiting = asyncio.create_task(pool.obtain())
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await shop.finish(1)
    assert len(pool) == 1
    assert pool.take_out("10.9.0.2") is not None
    assert pool.take_out("10.9.0.2") is None


async def test_finish_gives_up_makers_that_take_too_long() -> None:
    shop = Workshop()
    pool = shop.pool()
    waiting = asyncio.create_task(pool.obtain())
    await asyncio.sleep(0)
    await pool.finish(0.01)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_after_a_burst_the_pool_has_what_the_burst_needed_within_the_limit() -> None:
    shop = Workshop()
    shop.most = 3
    pool = shop.pool(target=1)
    async with refilling(pool):
        await shop.finish(1)
        for _ in range(5):
            with pool.launch():
                pass
        await shop.finish(5)
        assert len(pool) == 3
        shop.most = 2
        with pool.launch():
            pass
        await shop.finish(1)
        assert len(pool) == 2
        assert len(shop.dropped) == 1


async def test_what_is_kept_in_any_case_does_not_depend_on_memory() -> None:
    shop = Workshop()
    pool = shop.pool(target=2)
    async with refilling(pool):
        await shop.finish(2)
        assert len(pool) == 2
        assert not shop.dropped


async def test_a_launch_does_not_count_on_a_creation_that_has_just_ended() -> None:
    """All launches of an order may come in the turn of the event loop in which it ends."""
    shop = Workshop()
    pool = shop.pool(target=1)
    async with refilling(pool):
        while not shop.begun:  # noqa: ASYNC110 - turns of the event loop are what matters
            await asyncio.sleep(0)
        shop.gate.release()
        while not len(pool):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)
        with pool.launch():
            await pool.obtain()
            waiting = pool.obtain()
            waiting.send(None)
            assert shop.begun == 1
            for _ in range(5):
                await asyncio.sleep(0)
            assert shop.begun == 2, "nobody makes a sandbox for the launch that waits"
            waiting.close()
