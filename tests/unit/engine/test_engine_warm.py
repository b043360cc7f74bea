"""Containers in sandboxes of their own: who joins one, and what happens when it is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.engine.labels import LABEL_CONTAINER
from agent.errors import EngineRefused, EngineTimeout
from agent.model.payload import EngineConfig, PortMapping
from agent.network.container_sandboxes.kinds import PORTS_LABEL as LABEL_PORTS
from agent.runtime.protocol import joined
from tests.support.memory_engine import Fault
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
    await host.order(container("first"), arn="first", network_mode="bridge")
    await host.until_known("RUNNING", "first")
    await host.until(lambda: host.container_sandboxes.ready >= 2)


async def test_each_container_joins_a_sandbox_of_its_own(host: TaskHost) -> None:
    await warmed_up(host)
    assert box(host, "first").network_mode == "bridge"
    await host.order(container("a"), container("b"), network_mode="bridge")
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
    await host.order(given, network_mode="bridge")
    await host.until_known("RUNNING")
    assert box(host, "a").network_mode == "bridge"
    assert box(host, "a").body["Hostname"] == "mine"


async def test_after_a_crash_containers_keep_their_sandboxes(host: TaskHost) -> None:
    await warmed_up(host)
    await host.order(container("a"), network_mode="bridge")
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
    made, begun = host.runtime.create_container, host.runtime.start_container
    killed: list[str] = []

    async def create(name: str, body: dict[str, Any], *, limit_s: float = 180.0) -> str:
        container_id = await made(name, body, limit_s=limit_s)
        sandbox = joined(host.runtime.boxes[container_id].network_mode)
        if sandbox and not killed:
            killed.append(sandbox)
            host.container_sandboxes._ended(sandbox)
            await asyncio.sleep(0.1)  # the task hears of it before the container starts
        return container_id

    async def start(container_id: str, *, limit_s: float = 180.0) -> None:
        if joined(host.runtime.boxes[container_id].network_mode) in killed:
            raise EngineRefused("cannot join network of a non running container")
        await begun(container_id, limit_s=limit_s)

    monkeypatch.setattr(host.runtime, "create_container", create)
    monkeypatch.setattr(host.runtime, "start_container", start)
    await host.order(container("a"), network_mode="bridge")
    await host.until_known("RUNNING")
    assert killed
    assert joined(box(host, "a").network_mode) not in killed
    assert box(host, "a").status == "running"


WEB = [PortMapping(container_port=80), PortMapping(container_port_range="8000-8001")]


async def web_warmed_up(host: TaskHost) -> None:
    await host.order(container("first", port_mappings=WEB), arn="first", network_mode="bridge")
    await host.until_known("RUNNING", "first")
    await host.until(lambda: host.container_sandboxes.ready >= 2)


def published(host: TaskHost, name: str) -> list[int]:
    """Return the host ports of the sandbox that a container is in."""
    bindings = host.container_sandboxes.bindings(joined(box(host, name).network_mode))
    return [port for each in bindings.values() for port in each]


async def test_a_container_has_the_host_ports_of_its_sandbox(host: TaskHost) -> None:
    await web_warmed_up(host)
    assert box(host, "first").network_mode == "bridge"
    await host.order(container("a", port_mappings=WEB), network_mode="bridge")
    await host.until_known("RUNNING")
    one, first, last = published(host, "a")
    assert "PortBindings" not in box(host, "a").host_config
    record = host.engine.tasks.record(ARN)
    assert record is not None
    assert record.host_ports == {"a/80/tcp": [one], "a/8000-8001/tcp": [first, last]}
    shown = record.containers["a"].bindings
    assert [each.host_port or each.host_port_range for each in shown] == [one, f"{first}-{last}"]
    await host.stop()
    await host.until(lambda: one not in host.ports.held)


async def test_a_certain_port_of_the_host_is_published_by_the_engine(host: TaskHost) -> None:
    await web_warmed_up(host)
    ready = next(b for b in host.runtime.boxes.values() if LABEL_PORTS in b.labels)
    ports = ready.host_config["PortBindings"]["80/tcp"]
    fixed = [PortMapping(container_port=80, host_port=int(ports[0]["HostPort"]))]
    await host.order(container("a", port_mappings=fixed), network_mode="bridge")
    await host.until_known("RUNNING")
    assert box(host, "a").network_mode == "bridge"
    assert box(host, "a").host_config["PortBindings"] == {"80/tcp": ports}
    assert ready.id not in host.runtime.boxes, "a ready sandbox keeps a port from a task"
    assert fixed[0].host_port in host.ports.held
    await host.stop()
    await host.until(lambda: fixed[0].host_port not in host.ports.held)


async def test_ports_that_were_saved_before_a_crash_come_with_their_sandbox(host: TaskHost) -> None:
    await web_warmed_up(host)
    host.runtime.fault("create", Fault(EngineTimeout("slow"), delay_s=30.0, container="a"))
    await host.order(container("a", port_mappings=WEB), network_mode="bridge")
    await host.until(lambda: host.container_sandboxes.held == 1)
    sandbox = host.container_sandboxes.of(ARN, "a")
    record = host.engine.tasks.record(ARN)
    assert record is not None
    ports = record.host_ports
    await host.until(lambda: bool(ports))
    await host.crash()
    host.runtime.clear_faults()
    await host.start()
    await host.until_known("RUNNING")
    assert joined(box(host, "a").network_mode) == sandbox
    record = host.engine.tasks.record(ARN)
    assert record is not None
    assert record.host_ports == ports


async def test_ports_of_a_lost_record_are_those_of_the_sandbox(host: TaskHost) -> None:
    await web_warmed_up(host)
    await host.order(container("a", port_mappings=WEB), network_mode="bridge")
    await host.until_known("RUNNING")
    ports = published(host, "a")
    await host.crash()
    for file in host.path.parent.glob(f"{host.path.name}*"):
        file.unlink()
    await host.start()
    await host.order(container("a", port_mappings=WEB), network_mode="bridge")
    await host.until_known("RUNNING")
    record = host.engine.tasks.record(ARN)
    assert record is not None
    assert [port for each in record.host_ports.values() for port in each] == ports
    assert set(ports) <= host.ports.held


async def test_a_running_container_that_loses_its_network_ends_its_task(host: TaskHost) -> None:
    await web_warmed_up(host)
    await host.order(container("a", port_mappings=WEB), network_mode="bridge")
    await host.until_known("RUNNING")
    host.container_sandboxes._ended(joined(box(host, "a").network_mode))
    await host.until_known("STOPPED")
    record = host.engine.tasks.record(ARN)
    assert record is not None
    assert record.reason.endswith("the network sandbox of container a stopped")
