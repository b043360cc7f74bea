"""169.254.170.2, as processes of the host and of containers meet it."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.network.conftest import SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.network.pool import TaskNetworks
    from tests.integration.conftest import Containers
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

SAID = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nagent"


@pytest.fixture
async def networks(host: Host) -> TaskNetworks:
    return await host.networks()


@pytest.fixture
async def peers() -> AsyncIterator[list[str]]:
    """Addresses of those who reached a server on the agent's port."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await reader.readline()
        writer.write(SAID)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", SETTINGS.server_port)
    yield seen
    server.close()
    await server.wait_closed()


async def said_by(*command: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


async def asked(*words: str) -> str:
    """Ask for the address by a command, and return what came; empty for nothing."""
    return await said_by(*words, "curl", "-s", "-m", "3", "http://169.254.170.2/v2/credentials/x")


async def test_the_hosts_processes_reach_the_agent_without_a_default_route(
    networks: TaskNetworks, peers: list[str]
) -> None:
    assert networks is not None
    assert await asked() == "agent"
    assert peers == ["127.0.0.1"]


async def test_containers_in_other_networks_do_not(
    networks: TaskNetworks, peers: list[str], containers: Containers
) -> None:
    assert networks is not None
    made = await containers.run(HostConfig={"NetworkMode": "bridge"})
    pid = await said_by("docker", "inspect", "-f", "{{.State.Pid}}", made)
    assert await asked("nsenter", "--net", "--target", pid) == ""
    assert not peers


async def test_without_the_agent_nothing_leaves_the_host(host: Host) -> None:
    networks = await host.networks()
    assert " dev lo " in await said_by("ip", "route", "get", "169.254.170.2")
    await networks.remove_host_objects()
    assert await said_by("ip", "route", "show", "169.254.170.2") == ""
