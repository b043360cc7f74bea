# ruff: noqa: S105 - canaries, and no passwords
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import pytest

from agent.errors import AwsUnavailable, EngineUnavailable, PayloadError
from agent.images.token_cache import AHEAD_S, LEAST_S, TokenCache
from agent.runtime.protocol import RegistryAuth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOURS_S = 12 * 3600.0


class Token(NamedTuple):
    username: str
    password: str
    good_s: float


class Source:
    """Gives a new token each time it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.good_s = HOURS_S
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Token:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Token("AWS", f"canary-{number}", self.good_s)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cache(clock: Clock) -> AsyncIterator[TokenCache]:
    made = TokenCache(limit=3, steady=clock)
    yield made
    await made.close()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_share_one_request(cache: TokenCache) -> None:
    source = Source()
    source.gate.clear()
    waiting = [asyncio.create_task(cache.get("k", source)) for _ in range(5)]
    await settled()
    waiting[0].cancel()
    source.gate.set()
    found = await asyncio.gather(*waiting[1:])
    assert found == [RegistryAuth(username="AWS", password="canary-1")] * 4
    assert await cache.get("k", source) == found[0]
    assert (await cache.get("other", source)).password == "canary-2"
    assert source.asked == 2
    assert "canary" not in repr(cache)


async def test_it_is_renewed_ahead_while_the_old_one_is_used(
    cache: TokenCache, clock: Clock
) -> None:
    source = Source()
    await cache.get("k", source)
    clock.now += HOURS_S - 2 * AHEAD_S - 1
    assert (await cache.get("k", source)).password == "canary-1"
    await settled()
    assert source.asked == 1
    clock.now += AHEAD_S + 1
    assert (await cache.get("k", source)).password == "canary-1"
    await settled()
    assert source.asked == 2
    assert (await cache.get("k", source)).password == "canary-2"


async def test_a_renewal_that_fails_is_tried_again_later(cache: TokenCache, clock: Clock) -> None:
    source = Source()
    await cache.get("k", source)
    source.failure = AwsUnavailable("away")
    clock.now += HOURS_S - AHEAD_S
    for _ in range(3):
        assert (await cache.get("k", source)).password == "canary-1"
        await settled()
    assert source.asked == 2
    clock.now += 61
    assert (await cache.get("k", source)).password == "canary-1"
    await settled()
    assert source.asked == 3
    clock.now += AHEAD_S
    with pytest.raises(AwsUnavailable):
        await cache.get("k", source)


async def test_one_that_is_about_to_end_is_not_used(cache: TokenCache, clock: Clock) -> None:
    source = Source()
    source.good_s = 600.0
    await cache.get("k", source)
    clock.now += 600.0 - LEAST_S
    assert (await cache.get("k", source)).password == "canary-2"


async def test_a_short_one_is_renewed_after_half_of_its_life(
    cache: TokenCache, clock: Clock
) -> None:
    source = Source()
    source.good_s = 600.0
    await cache.get("k", source)
    clock.now += 299
    await cache.get("k", source)
    await settled()
    assert source.asked == 1
    clock.now += 2
    await cache.get("k", source)
    await settled()
    assert source.asked == 2


async def test_a_failure_is_told_and_not_kept(cache: TokenCache) -> None:
    source = Source()
    source.failure = PayloadError("denied")
    with pytest.raises(PayloadError, match="denied"):
        await cache.get("k", source)
    source.failure = None
    assert (await cache.get("k", source)).password == "canary-2"


async def test_a_refused_one_goes_and_a_newer_one_stays(cache: TokenCache) -> None:
    source = Source()
    first = await cache.get("k", source)
    cache.drop("k", first)
    second = await cache.get("k", source)
    assert second != first
    cache.drop("k", first)
    cache.drop("unknown", first)
    assert await cache.get("k", source) == second


async def test_the_least_recently_used_go_first(cache: TokenCache) -> None:
    source = Source()
    for key in "abc":
        await cache.get(key, source)
    await cache.get("a", source)
    await cache.get("d", source)
    asked = source.asked
    await cache.get("a", source)
    assert source.asked == asked
    await cache.get("b", source)
    assert source.asked == asked + 1


async def test_who_waits_at_the_end_is_told(clock: Clock) -> None:
    cache, source = TokenCache(steady=clock), Source()
    source.gate.clear()
    waiting = asyncio.create_task(cache.get("k", source))
    await settled()
    await cache.close()
    with pytest.raises(EngineUnavailable):
        await waiting
