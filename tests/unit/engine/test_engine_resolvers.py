"""Name servers of a single container in awsvpc mode, from its making to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import EngineUnavailable
from agent.model.payload import Container, EngineConfig, RestartPolicy
from tests.support.memory_engine import Fault
from tests.support.tasks import container

if TYPE_CHECKING:
    from tests.support.task_host import TaskHost

SANDBOX_PID = "4242"
"""As the test's networks tell it."""


def own(name: str, **host_config: Any) -> Container:
    return container(name, docker_config=EngineConfig(host_config=host_config))


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path) -> Path:
    etc = tmp_path / "proc" / SANDBOX_PID / "root/etc"
    etc.mkdir(parents=True)
    (etc / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    return etc / "resolv.conf"


def bind_of(host: TaskHost, name: str) -> Path:
    (bind,) = host.runtime.box(name).body["HostConfig"]["Binds"]
    source, target, _ = bind.split(":")
    assert target == "/etc/resolv.conf"
    return Path(source)


async def test_each_container_has_its_own_until_it_is_removed(hasty_host: TaskHost) -> None:
    host = hasty_host
    await host.order(
        own("a", Dns=["192.0.2.7"]),
        own("b", DnsSearch=["b.example"]),
        container("plain"),
        network_mode="awsvpc",
    )
    await host.until_known("RUNNING")
    a, b = bind_of(host, "a"), bind_of(host, "b")
    texts = await asyncio.to_thread(lambda: [a.read_text(), b.read_text()])
    assert texts == ["nameserver 192.0.2.7\n", "nameserver 192.0.2.1\nsearch b.example\n"]
    assert "Binds" not in host.runtime.box("plain").body["HostConfig"]
    await host.stop()
    await host.until(lambda: not host.runtime.boxes)
    await host.until(lambda: not (a.exists() or b.exists()))


async def test_it_is_there_after_a_crash_and_gone_after_the_end(hasty_host: TaskHost) -> None:
    host = hasty_host
    host.runtime.fault("create", Fault(EngineUnavailable("lost"), done=True))
    await host.order(own("a", Dns=["192.0.2.7"]), network_mode="awsvpc")
    await host.until(lambda: host.runtime.boxes)
    await host.crash()
    await host.start()
    await host.until_known("RUNNING")
    path = bind_of(host, "a")
    assert await asyncio.to_thread(path.exists)
    await host.stop()
    await host.until(lambda: not path.exists())


async def test_a_file_that_was_removed_is_there_for_a_restart(host: TaskHost) -> None:
    policy = RestartPolicy(enabled=True, restart_attempt_period=0)
    host_config = {"Dns": ["192.0.2.7"]}
    a = container("a", docker_config=EngineConfig(host_config=host_config), restart_policy=policy)
    await host.order(a, network_mode="awsvpc")
    await host.until_known("RUNNING")
    path = bind_of(host, "a")
    await asyncio.to_thread(path.unlink)
    host.runtime.exit("a", 1)
    await host.until(lambda: host.container("a").restart_count and host.runtime.running())
    assert await asyncio.to_thread(path.read_text) == "nameserver 192.0.2.7\n"


async def test_a_container_that_asks_for_nonsense_fails_by_name(host: TaskHost) -> None:
    await host.order(own("a", Dns=["not an address"]), network_mode="awsvpc")
    await host.until_known("STOPPED")
    reason = host.container("a").reason
    assert reason == (
        "HostConfigError: dockerConfig.hostConfig.Dns of container a is not a list of strings"
    )


async def test_links_outside_of_bridge_mode_are_refused(host: TaskHost) -> None:
    await host.order(container("a", links=["b"]), container("b"), network_mode="awsvpc")
    await host.until_known("STOPPED")
    assert "links of container a: the network mode is awsvpc" in host.record().reason
    assert host.runtime.boxes == {}
