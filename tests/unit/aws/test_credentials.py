"""The chain: order of the places, refreshes without a gap, and what it says."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from agent.aws import credentials
from agent.aws.credentials import CredentialChain
from agent.aws.keys import Keys, checked
from agent.aws.reading import Reader
from agent.errors import AwsUnavailable, CredentialsMissing
from tests.unit.aws.conftest import Times, keys, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from aiohttp import web

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


class Place:
    """A place whose answers a test sets."""

    paths: tuple[Path, ...] = ()

    def __init__(self, name: str, *answers: Keys | Exception | None) -> None:
        self.name = name
        self.answers = list(answers)
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> Keys | None:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await self.gate.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def build(times: Times) -> AsyncIterator[Callable[..., CredentialChain]]:
    chains: list[CredentialChain] = []

    def make(*places: Any) -> CredentialChain:
        chain = CredentialChain(places, times.clock, steady=times.steady)
        chains.append(chain)
        return chain

    yield make
    for chain in chains:
        await chain.close()


async def test_the_first_place_with_keys_wins(build: Any) -> None:
    places = (
        Place("a", None),
        Place("b", AwsUnavailable("away")),
        Place("c", keys(1)),
        Place("d", None),
    )
    chain = build(*places)
    assert await chain.keys() == keys(1)
    assert [place.asked for place in places] == [1, 1, 1, 0]
    assert await chain.keys() == keys(1)
    assert places[2].asked == 1


async def test_says_where_was_looked(build: Any) -> None:
    chain = build(Place("a", None), Place("b", CredentialsMissing("is broken")))
    with pytest.raises(CredentialsMissing, match="searched a: nothing there; b: is broken"):
        await chain.keys()


async def test_many_callers_are_one_refresh(build: Any) -> None:
    place = Place("a", keys(1))
    place.gate.clear()
    chain = build(place)
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(chain.keys()) for _ in range(50)]
        await asyncio.sleep(0)
        callers[0].cancel()
        await asyncio.sleep(0)
        place.gate.set()
    assert all(caller.result() == keys(1) for caller in callers[1:])
    assert place.asked == 1


async def test_refreshes_ahead_and_without_a_gap(build: Any, times: Times) -> None:
    place = Place("a", keys(1, expires_in_s=3600), keys(2, expires_in_s=7200))
    chain = build(place)
    await chain.keys()
    times.passed = 3600 - 901
    await chain.keys()
    assert place.asked == 1
    times.passed = 3600 - 899
    place.gate.clear()
    answers = await asyncio.gather(*[chain.keys() for _ in range(50)])
    assert answers == [keys(1, expires_in_s=3600)] * 50
    place.gate.set()
    await settle(chain)
    assert await chain.keys() == keys(2, expires_in_s=7200)
    assert place.asked == 2


async def test_keys_of_a_short_life_are_replaced_at_half_of_it(build: Any, times: Times) -> None:
    place = Place("a", keys(1, expires_in_s=600), keys(2))
    chain = build(place)
    await chain.keys()
    times.passed = 299
    await chain.keys()
    assert place.asked == 1
    times.passed = 301
    await chain.keys()
    await settle(chain)
    assert await chain.keys() == keys(2)


async def test_a_failed_refresh_keeps_the_old_keys_while_they_are_good(
    build: Any, times: Times
) -> None:
    old = keys(1, expires_in_s=3600)
    place = Place("a", old, AwsUnavailable("away"))
    other = Place("b", keys(9))
    chain = build(place, other)
    await chain.keys()
    asked = []
    for times.passed in range(3600 - 900, 3600, 2):
        assert await asyncio.gather(*[chain.keys() for _ in range(5)]) == [old] * 5
        await settle(chain)
        asked.append(place.asked)
    # Not at each use, and never as somebody else.
    assert 10 < place.asked < 30
    assert other.asked == 0
    times.passed = 3600
    assert await chain.keys() == keys(9)


async def test_without_another_place_expired_keys_are_none(build: Any, times: Times) -> None:
    place = Place("a", keys(1, expires_in_s=3600), AwsUnavailable("away"))
    chain = build(place)
    await chain.keys()
    times.passed = 3601
    with pytest.raises(CredentialsMissing, match="a: away"):
        await chain.keys()
    place.answers = [keys(2, expires_in_s=9999)]
    times.passed += 6
    assert await chain.keys() == keys(2, expires_in_s=9999)


async def test_keys_that_look_expired_as_they_are_read_are_tried(build: Any, times: Times) -> None:
    # The host's clock may be wrong, and only a refused signature would tell.
    place = Place("a", keys(1, expires_in_s=-3600))
    chain = build(place)
    for _ in range(20):
        assert await chain.keys() == keys(1, expires_in_s=-3600)
    assert place.asked == 1
    times.passed = 6
    await chain.keys()
    assert place.asked == 2


async def test_refused_keys_are_read_anew_once(build: Any, times: Times) -> None:
    place = Place("a", keys(1), keys(2))
    chain = build(place)
    first = await chain.keys()
    chain.refused(first)
    assert await asyncio.gather(*[chain.keys() for _ in range(5)]) == [keys(2)] * 5
    assert place.asked == 2
    chain.refused(first)  # an answer that comes late is about keys that nobody uses
    await chain.keys()
    assert place.asked == 2
    for _ in range(100):  # what is refused whatever it is must not make us ask all the time
        chain.refused(await chain.keys())
    assert place.asked == 2
    times.passed = 6
    chain.refused(keys(2))
    assert await chain.keys() == keys(2)
    assert place.asked == 3


async def test_a_place_that_hangs_ends_at_its_limit(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "RENEW_S", 0.05)
    place = Place("a", keys(1))
    place.gate.clear()
    with pytest.raises(CredentialsMissing, match="within"):
        await build(place).keys()


async def test_close_ends_a_refresh(build: Any) -> None:
    place = Place("a", keys(1))
    place.gate.clear()
    chain = build(place)
    waiting = asyncio.create_task(chain.keys())
    await asyncio.sleep(0.01)
    await chain.close()
    await chain.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_lasting_trouble_is_logged_now_and_then(build: Any, times: Times) -> None:
    chain = build(Place("a", None))
    with structlog.testing.capture_logs() as logs:
        for times.passed in range(0, 700, 1):
            with pytest.raises(CredentialsMissing):
                await chain.keys()
    assert len(logs) == 3


@pytest.mark.parametrize("bad", ["", None, 7, "a b", "a\r\nX: y", "é", "x" * 100_000])
def test_keys_from_outside_are_checked(bad: Any) -> None:
    with pytest.raises(CredentialsMissing):
        checked(bad, "secret", "token")
    with pytest.raises(CredentialsMissing):
        checked("access", bad, "token")
    if bad:
        with pytest.raises(CredentialsMissing):
            checked("access", "secret", bad)


async def test_one_read_at_a_time() -> None:
    reader = Reader()
    running: list[int] = []

    def work() -> int:
        running.append(1)
        time.sleep(0.01)
        assert len(running) == 1
        running.pop()
        return 7

    assert await asyncio.gather(*[reader.read(work, 1) for _ in range(5)]) == [7] * 5
    with pytest.raises(ZeroDivisionError):
        await reader.read(lambda: 1 // 0, 1)
    assert await reader.read(work, 1) == 7


async def test_a_read_that_hangs_keeps_others_out_until_it_ends() -> None:
    reader = Reader()
    with pytest.raises(TimeoutError):
        await reader.read(lambda: time.sleep(0.3), 0.05)
    with pytest.raises(TimeoutError, match="still hangs"):
        await reader.read(lambda: 1, 0.05)
    await asyncio.sleep(0.4)
    assert await reader.read(lambda: 1, 0.5) == 1


async def test_a_place_that_comes_and_goes_fills_no_log(build: Any, times: Times) -> None:
    place = Place("a", keys(1, expires_in_s=1e9))
    chain = build(place)
    await chain.keys()
    with structlog.testing.capture_logs() as logs:
        for number in range(200):
            times.passed = number * 100.0 % 290
            chain._next_try = 0.0
            place.answers = [CredentialsMissing("away") if number % 2 else keys(number)]
            chain._refused = chain._held.keys
            await chain.keys()
    assert len(logs) <= 2


async def test_nobody_waits_long_for_better_keys_than_those_that_work(
    build: Any, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "PATIENCE_S", 0.05)
    old = keys(1, expires_in_s=3600)
    place = Place("a", old, keys(2))
    chain = build(place)
    await chain.keys()
    place.gate.clear()
    times.passed = 3600 - 30
    assert await chain.keys() == old
    times.passed = 3601
    waiting = asyncio.create_task(chain.keys())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    place.gate.set()
    assert await waiting == keys(2)
