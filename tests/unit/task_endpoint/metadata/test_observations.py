"""Descriptions of containers are asked for once, until something happens to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.errors import EngineUnavailable
from agent.runtime.protocol import EndpointInNetwork, EngineEvent, PublishedPort
from agent.task_endpoint.metadata.observations import Observations
from tests.support.memory_engine import MemoryEngine

if TYPE_CHECKING:
    from agent.runtime.protocol import ContainerDetails


class Counted(MemoryEngine):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_asked = asyncio.Event()
        self.away = False
        self.hangs = asyncio.Event()
        self.hangs.set()

    async def describe_container(
        self, id_or_name: str, *, limit_s: float = 30.0
    ) -> ContainerDetails:
        self.asked.append(id_or_name)
        self.is_asked.set()
        await self.hangs.wait()
        if self.away:
            raise EngineUnavailable("the engine is away")
        return await super().describe_container(id_or_name, limit_s=limit_s)


async def made(engine: MemoryEngine, name: str, *, runs: bool) -> str:
    container_id = await engine.create_container(name, {"Image": "busybox"})
    if runs:
        await engine.start_container(container_id)
    return container_id


@pytest.mark.parametrize("action", ["start", "relist"])
async def test_a_running_container_is_asked_about_again_after_an_event(action: str) -> None:
    engine = Counted()
    one = await made(engine, "one", runs=True)
    seen = Observations(engine)
    assert (await seen.of([one]))[one].state.running
    await seen.of([one, one])
    assert engine.asked == [one]
    seen.take_note_of(EngineEvent(action="die", container_id="another"))
    await seen.of([one])
    assert engine.asked == [one]
    seen.take_note_of(EngineEvent(action=action, container_id=one))
    await seen.of([one])
    assert engine.asked == [one, one]


async def test_a_container_in_a_sandbox_is_told_of_its_networks_and_ports() -> None:
    place = EndpointInNetwork(network="bridge", ipv4="172.17.0.9")
    port = PublishedPort(container_port=80, protocol="tcp", host_port=40_000, host_ip="0.0.0.0")

    class Engine(MemoryEngine):
        async def describe_container(
            self, id_or_name: str, *, limit_s: float = 30.0
        ) -> ContainerDetails:
            told = await super().describe_container(id_or_name, limit_s=limit_s)
            return replace(told, networks=(place,), ports=(port,)) if id_or_name == own else told

    engine = Engine()
    own = await made(engine, "sandbox", runs=True)
    names = {"in": f"container:{own}", "lost": "container:gone", "plain": "bridge"}
    ids = {}
    for name, mode in names.items():
        body = {"Image": "busybox", "HostConfig": {"NetworkMode": mode}}
        ids[name] = await engine.create_container(name, body)
    found = await Observations(engine).in_networks(ids.values())

    assert found[ids["in"]].networks == (place,)
    assert found[ids["in"]].ports == (port,)
    assert found[ids["in"]].state.id == ids["in"]
    assert found[ids["plain"]].networks == ()
    assert ids["lost"] not in found, "nobody knows where it is"


async def test_what_may_change_without_a_word_is_not_kept() -> None:
    engine = Counted()
    fresh = await made(engine, "fresh", runs=False)
    running = await made(engine, "named", runs=True)
    seen = Observations(engine)
    for _ in range(2):
        found = await seen.of([fresh, "named"])
        assert found["named"].state.id == running
    assert sorted(engine.asked) == sorted([fresh, "named"] * 2)


async def test_an_event_during_a_call_counts() -> None:
    engine = Counted()
    one = await made(engine, "one", runs=True)
    engine.hangs.clear()
    seen = Observations(engine)
    call = asyncio.create_task(seen.of([one]))
    await engine.is_asked.wait()
    seen.take_note_of(EngineEvent(action="start", container_id=one))
    engine.hangs.set()
    await call
    await seen.of([one])
    assert engine.asked == [one, one]


async def test_an_engine_that_is_away_or_hangs_costs_no_more_than_the_answer() -> None:
    engine = Counted()
    one = await made(engine, "one", runs=True)
    engine.away = True
    assert await Observations(engine).of([one, "unknown"]) == {}
    engine.away = False
    engine.hangs.clear()
    assert await Observations(engine, limit_s=0.01).of([one]) == {}
