"""Containers that somebody takes off their network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.engine import watcher
from agent.errors import EngineRefused, EngineUnavailable
from tests.support.memory_engine import Fault
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from tests.support.task_host import TaskHost


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "DISCONNECTED_FOR_S", 0.02)


async def test_it_is_connected_again_and_told(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="bridge")
    await host.until_known("RUNNING")
    with structlog.testing.capture_logs() as logs:
        host.runtime.disconnect("a")
        await host.until(lambda: not host.runtime.box("a").cut_off_from)
    assert [line["network"] for line in logs if "disconnected" in line["event"]] == ["bridge"]
    (repair,) = host.engine.repairs
    assert repair.found.endswith("was disconnected from network bridge")
    assert host.record().known.wire() == "RUNNING"


async def test_one_that_nobody_told_of_is_found_by_the_comparison(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="bridge")
    await host.until_known("RUNNING")
    host.runtime.disconnect("a", quietly=True)
    host.runtime.relist()
    await host.until(lambda: not host.runtime.box("a").cut_off_from)


async def test_an_engine_that_is_away_is_asked_again(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="bridge")
    await host.until_known("RUNNING")
    host.runtime.fault("connect", Fault(EngineUnavailable("the engine is away")))
    host.runtime.disconnect("a")
    await host.until(lambda: not host.runtime.box("a").cut_off_from)
    assert host.runtime.count("connect", "a") == 2


async def test_one_that_cannot_be_connected_ends_its_task_with_the_reason(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="bridge")
    await host.until_known("RUNNING")
    host.runtime.fault("connect", Fault(EngineRefused("port is already allocated")))
    host.runtime.disconnect("a")
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].reason == (
        "ContainerNetworkingError: container a was disconnected from network bridge and cannot go on: "
        "port is already allocated"
    )


async def test_links_hold_the_old_address_so_that_the_task_ends(host: TaskHost) -> None:
    await host.order(container("a"), container("b", links=["a:db"]), network_mode="bridge")
    await host.until_known("RUNNING")
    host.runtime.disconnect("a")
    await host.until_known("STOPPED")
    assert "links between containers" in (await host.deliver())[-1].reason
    assert host.runtime.count("connect") == 0


async def test_the_end_of_a_container_costs_no_question(host: TaskHost) -> None:
    """The engine tells of every end that the container left its network."""
    await host.order(container("a"), network_mode="bridge")
    await host.until_known("RUNNING")
    await host.engine.stop_task(ARN, "enough")
    await host.until_known("STOPPED")
    asked = host.runtime.count("inspect", "a")
    await asyncio.sleep(0.1)
    assert host.runtime.count("inspect", "a") == asked
    assert host.runtime.count("connect") == 0


async def test_containers_without_a_network_of_the_engine_are_left_alone(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    host.runtime.disconnect("a")
    await asyncio.sleep(0.1)
    assert host.runtime.count("connect") == 0
    assert host.record().known.wire() == "RUNNING"
