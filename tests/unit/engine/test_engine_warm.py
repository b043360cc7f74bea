"""Containers in sandboxes of their own: who joins one, and what happens when it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.engine.labels import LABEL_CONTAINER
from agent.errors import EngineRefused
from agent.model.payload import EngineConfig
from agent.runtime.protocol import joined
from tests.support.task_host import TaskHost
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.memory_engine import Box


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TaskHost]:
    made = TaskHost(tmp_path / "agent.db", cleanup_wait_s=0.0)
    made.sandboxes_kept = 2
    await made.start()
    yield made
    await made.close()


def box(host: TaskHost, name: str) -> Box:
    return next(b for b in host.runtime.boxes.values() if b.labels.get(LABEL_CONTAINER) == name)


async def warmed_up(host: TaskHost) -> None:
    """Run a task, after which sandboxes are ready."""
    await host.order(container("first"), arn="first", network_mode="none")
    await host.until_known("RUNNING", "first")
    await host.until(lambda: host.container_sandboxes.ready >= 2)


async def test_each_container_joins_a_sandbox_of_its_own(host: TaskHost) -> None:
    await warmed_up(host)
    assert box(host, "first").network_mode == "none"
    await host.order(container("a"), container("b"), network_mode="none")
    await host.until_known("RUNNING")
    of_a, of_b = (joined(box(host, name).network_mode) for name in "ab")
    assert of_a
    assert of_b
    assert of_a != of_b
    await host.stop()
    await host.until(lambda: of_a not in host.runtime.boxes and of_b not in host.runtime.boxes)


async def test_one_that_asks_for_more_gets_its_network_from_the_engine(host: TaskHost) -> None:
    await warmed_up(host)
    given = container("a", docker_config=EngineConfig(config={"Hostname": "mine"}))
    await host.order(given, network_mode="none")
    await host.until_known("RUNNING")
    assert box(host, "a").network_mode == "none"
    assert box(host, "a").body["Hostname"] == "mine"


async def test_after_a_crash_containers_keep_their_sandboxes(host: TaskHost) -> None:
    await warmed_up(host)
    await host.order(container("a"), network_mode="none")
    await host.until_known("RUNNING")
    sandbox = joined(box(host, "a").network_mode)
    await host.crash()
    await host.start()
    assert host.container_sandboxes.of(ARN, "a") == sandbox
    await host.stop()
    await host.until(lambda: sandbox not in host.runtime.boxes)


async def test_one_whose_sandbox_died_before_it_started_is_made_again(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warmed_up(host)
    begun = host.runtime.start_container
    killed: list[str] = []

    async def start(container_id: str, *, limit_s: float = 180.0) -> None:
        box = host.runtime.boxes[container_id]
        sandbox = joined(box.network_mode)
        if box.labels.get(LABEL_CONTAINER) == "a" and sandbox:
            killed.append(sandbox)
            host.container_sandboxes._ended(sandbox)
            raise EngineRefused("cannot join network of a non running container")
        await begun(container_id, limit_s=limit_s)

    monkeypatch.setattr(host.runtime, "start_container", start)
    await host.order(container("a"), network_mode="none")
    await host.until_known("RUNNING")
    assert killed
    assert joined(box(host, "a").network_mode) not in killed
    assert box(host, "a").status == "running"
