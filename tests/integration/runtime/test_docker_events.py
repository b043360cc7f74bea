"""The event stream on a real engine, and across cut connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.model.status import Health
from agent.runtime.docker import DockerEngine
from tests.integration.conftest import DOCKER_HOST
from tests.support.relay import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.runtime.protocol import EngineEvent
    from tests.integration.conftest import Containers

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("leak_check")]


async def _until(
    events: AsyncIterator[EngineEvent], action: str, container: str = ""
) -> list[EngineEvent]:
    """Read on until an event of this kind; events of other containers are dropped."""
    seen = []
    async with asyncio.timeout(20):
        async for event in events:
            if event.action == "relist" or event.container_id == container:
                seen.append(event)
            if event.action == action and event.container_id == container:
                return seen
    raise AssertionError("the stream ended")


async def test_events_of_a_container(engine: DockerEngine, containers: Containers) -> None:
    events = engine.events()
    assert [e.action for e in await _until(events, "relist")] == ["relist"]
    made = await containers.run(["sh", "-c", "exit 7"], Labels={"colour": "green"})
    seen = await _until(events, "die", made)
    assert [e.action for e in seen] == ["create", "start", "die"]
    assert seen[-1].exit_code == 7
    assert seen[0].labels["colour"] == "green"
    assert seen[0].at <= seen[1].at <= seen[2].at
    await engine.remove_container(made)
    assert (await _until(events, "destroy", made))[-1].exit_code is None


async def test_health_events(engine: DockerEngine, containers: Containers) -> None:
    events = engine.events()
    await _until(events, "relist")
    check = {"Test": ["CMD-SHELL", "true"], "Interval": 200_000_000, "Retries": 1}
    made = await containers.run(Healthcheck=check)
    seen = await _until(events, "health_status", made)
    assert seen[-1].health is Health.HEALTHY
    assert (await engine.inspect_container(made)).health is Health.HEALTHY


async def test_a_cut_stream_is_resumed_without_loss_or_repeats(
    tmp_path: Path, containers: Containers
) -> None:
    async with Relay(DOCKER_HOST.removeprefix("unix://"), tmp_path / "relay.sock") as relay:
        engine = DockerEngine(f"unix://{relay.path}")
        events = engine.events()
        await _until(events, "relist")
        made = await containers.run(["sh", "-c", "sleep 1; exit 3"])
        assert [e.action for e in await _until(events, "start", made)] == ["create", "start"]

        await relay.refuse()
        await asyncio.sleep(1.5)
        relay.accept()
        assert [e.action for e in await _until(events, "die", made)] == ["relist", "die"]
        await engine.close()


async def test_calls_survive_a_cut_connection(tmp_path: Path, containers: Containers) -> None:
    made = await containers.create()
    async with Relay(DOCKER_HOST.removeprefix("unix://"), tmp_path / "relay.sock") as relay:
        engine = DockerEngine(f"unix://{relay.path}")
        for _ in range(3):
            await engine.inspect_container(made)
            await relay.refuse()
            relay.accept()
        assert relay.accepted == 3
        await engine.inspect_container(made)
        await engine.ping()
        await engine.list_containers(labels={"nothing": None})
        assert relay.accepted == 4, "different calls share one kept connection"
        await engine.close()
