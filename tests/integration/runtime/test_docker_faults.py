"""What a hanging or absent engine does to its callers: nothing for longer than they allow."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from agent.errors import ConfigError, EngineTimeout, EngineUnavailable
from agent.runtime.docker import DockerEngine
from tests.integration.conftest import DOCKER_HOST
from tests.support.relay import Relay

if TYPE_CHECKING:
    from pathlib import Path

    from agent.runtime.docker.lanes import Lane

pytestmark = pytest.mark.integration

TARGET = DOCKER_HOST.removeprefix("unix://")


async def test_an_absent_engine_is_unavailable(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/no.sock")
    with pytest.raises(
        EngineUnavailable, match=r"cannot reach the container engine at unix:///.*No such file"
    ):
        await engine.ping()
    assert EngineUnavailable.retryable
    await engine.close()


def test_only_unix_sockets() -> None:
    with pytest.raises(ConfigError, match=r"tcp://127.0.0.1:2375.*use unix:///var/run/docker.sock"):
        DockerEngine("tcp://127.0.0.1:2375")


async def test_a_hanging_engine_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    async with Relay(TARGET, tmp_path / "relay.sock") as relay:
        engine = DockerEngine(f"unix://{relay.path}", quick_threads=2)
        await engine.ping()
        relay.hang()
        took_s = []
        for _ in range(3):
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(_timed_out(engine))
            took_s.append(time.monotonic() - began)
        assert 0.2 <= min(took_s) < 0.4, took_s
        relay.flow()
        # The threads were woken by closing their sockets: the lane is whole again.
        await _whole(engine._quick)
        await engine.ping()
        await engine.close()


async def test_a_hanging_stream_ends_with_close(tmp_path: Path) -> None:
    async with Relay(TARGET, tmp_path / "relay.sock") as relay:
        engine = DockerEngine(f"unix://{relay.path}")
        relay.hang()
        waiting = asyncio.ensure_future(anext(engine.events(), None))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await engine.close()
        assert await waiting is None
        assert time.monotonic() - began < 1
        assert not [t for lane in (engine._quick,) for t in lane._threads if t.is_alive()]


async def _timed_out(engine: DockerEngine) -> None:
    with pytest.raises(EngineTimeout, match="transition to pinged"):
        await engine.ping(limit_s=0.2)


async def _whole(lane: Lane) -> None:
    async with asyncio.timeout(2):
        while lane.lost:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.01)
