"""``GET /v1/usage``: held until there is another round, taken for the client if need be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.endpoints import usage
from tests.unit.endpoints.conftest import FakeSampler

if TYPE_CHECKING:
    import aiohttp
    import pytest

    from tests.unit.endpoints.conftest import FakeAgent


async def test_a_client_gets_each_round_once(
    agent: FakeAgent, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.sampler = sampler = FakeSampler()
    sampler.round(10.0)
    assert (await (await http.get("/v1/usage")).json())["at"] == 10.0
    sampler.subscribed.clear()
    held = asyncio.create_task(http.get("/v1/usage", params={"after": "10.0"}))
    async with asyncio.timeout(10):
        await sampler.subscribed.wait()
    assert not held.done()
    sampler.round(20.0)
    assert (await (await held).json())["at"] == 20.0
    assert sampler.callbacks == []
    monkeypatch.setattr(usage, "HELD_S", 0.01)
    same = await http.get("/v1/usage", params={"after": "20.0"})
    assert (await same.json())["at"] == 20.0
    assert sampler.pokes == 0


async def test_a_round_is_taken_for_a_client_that_wants_one_sooner(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.sampler = sampler = FakeSampler()
    sampler.round(10.0)
    view = await usage.newest(agent, after=10.0, every_s=0.01)
    assert (view.at, sampler.pokes) == (1001.0, 1)


async def test_bad_questions_are_refused(agent: FakeAgent, http: aiohttp.ClientSession) -> None:
    answer = await http.get("/v1/usage")
    assert answer.status == 409
    assert "ECS_DISABLE_METRICS" in (await answer.json())["message"]
    agent.sampler = FakeSampler()
    for query in ("every=0.5", "every=nan", "every=x", "after=inf", "every=4000"):
        answer = await http.get(f"/v1/usage?{query}")
        assert answer.status == 400, query
        assert query.partition("=")[0] in (await answer.json())["message"]
