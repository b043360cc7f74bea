"""169.254.170.2, as processes of the host, of containers and of other hosts meet it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.network.host.agent_address import ADDRESS
from agent.supervision.held_sockets import HeldSockets
from agent.supervision.notify import Notifier
from tests.integration.network.conftest import SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.network.pool import TaskNetworks
    from tests.integration.conftest import Containers
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

SAID = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nagent"
INTROSPECTION_PORT = SETTINGS.introspection_port
NEIGHBOUR = "ecst-lan"
"""Network namespace that stands for another host of the LAN."""
LAN = "198.51.100"
WEB = "busybox httpd -f -p 0.0.0.0:80 -h /proc/self/task"


@pytest.fixture
async def networks(host: Host) -> TaskNetworks:
    return await host.networks()


@pytest.fixture
async def peers() -> AsyncIterator[list[str]]:
    """Addresses of those who reached a server on the agent's port, or on that of introspection."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await reader.readline()
        writer.write(SAID)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    held = HeldSockets(Notifier(), {})  # binds before there is the address, too
    bound = held.listening("test", ADDRESS, SETTINGS.server_port)
    everywhere = socket.create_server(("", INTROSPECTION_PORT))
    servers = [await asyncio.start_server(answer, sock=each) for each in (bound, everywhere)]
    yield seen
    for server in servers:
        server.close()
        await server.wait_closed()
    held.close()


@pytest.fixture
def neighbour() -> Iterator[str]:
    """Another host on a network of this one: the words before its commands."""
    made = (
        f"ip netns add {NEIGHBOUR}",
        f"ip link add {NEIGHBOUR} type veth peer name lan0 netns {NEIGHBOUR}",
        f"ip addr add {LAN}.1/24 dev {NEIGHBOUR}",
        f"ip link set {NEIGHBOUR} up",
        f"ip -n {NEIGHBOUR} addr add {LAN}.2/24 dev lan0",
        f"ip -n {NEIGHBOUR} link set lan0 up",
        f"ip -n {NEIGHBOUR} route add {ADDRESS} via {LAN}.1",
    )
    try:
        for command in made:
            subprocess.run(command.split(), check=True, timeout=10)
        yield f"ip netns exec {NEIGHBOUR}"
    finally:
        subprocess.run(["ip", "link", "del", NEIGHBOUR], check=False, timeout=10)
        subprocess.run(["ip", "netns", "del", NEIGHBOUR], check=False, timeout=10)


async def said_by(*command: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


async def asked(*words: str, at: str = f"{ADDRESS}/v2/credentials/x") -> str:
    """Ask by a command, and return what came; empty for nothing."""
    return await said_by(*words, "curl", "-s", "-m", "2", f"http://{at}")


async def inside(containers: Containers, mode: str) -> list[str]:
    made = await containers.run(HostConfig={"NetworkMode": mode})
    pid = await said_by("docker", "inspect", "-f", "{{.State.Pid}}", made)
    return ["nsenter", "--net", "--target", pid]


async def test_host_and_containers_reach_the_agent_and_others_do_not(
    networks: TaskNetworks, peers: list[str], containers: Containers, neighbour: str
) -> None:
    """In each mode with its own address as the source, and without a default route of the host."""
    direct = f"{ADDRESS}:{SETTINGS.server_port}"
    assert await asked() == await asked(at=direct) == "agent"
    assert peers == [ADDRESS, ADDRESS]
    bridge = await inside(containers, "bridge")
    assert await asked(*bridge) == await asked(*bridge, at=direct) == "agent"
    assert peers[2].startswith("172.")
    network = await networks.claim("a", "eni-1")
    awsvpc = ["nsenter", "--net", "--target", str(network.sandbox_pid)]
    assert await asked(*awsvpc) == "agent"
    assert peers[4:] == [network.ipv4]
    lan = neighbour.split()
    none = await inside(containers, "none")
    for stranger in (lan, none):
        assert await asked(*stranger) == await asked(*stranger, at=direct) == ""
    web = await asyncio.create_subprocess_exec(*WEB.split())
    try:
        for others_port in (bridge, awsvpc):
            assert await asked(*others_port) == "agent", "whoever listens on port 80"
        assert "404" in await said_by(
            *lan, "curl", "-sI", "--retry", "5", "--retry-connrefused", f"http://{LAN}.1/x"
        )
    finally:
        web.terminate()
        await web.wait()
    assert len(peers) == 7


async def test_introspection_is_for_this_host_and_the_engines_bridge(
    networks: TaskNetworks, peers: list[str], containers: Containers, neighbour: str, host: Host
) -> None:
    network = await networks.claim("a", "eni-1")
    task = ["nsenter", "--net", "--target", str(network.sandbox_pid)]
    lan, bridge = neighbour.split(), await inside(containers, "bridge")
    gateway = (await said_by(*bridge, "ip", "route", "show", "default")).split()[2]
    at_lan = f"{LAN}.1:{INTROSPECTION_PORT}"
    assert await asked(at=f"127.0.0.1:{INTROSPECTION_PORT}") == "agent"
    assert await asked(*bridge, at=f"{gateway}:{INTROSPECTION_PORT}") == "agent"
    assert await asked(*task, at=f"{network.gateway}:{INTROSPECTION_PORT}") == ""
    assert await asked(*lan, at=at_lan) == ""
    assert len(peers) == 2
    await networks.release("a")
    await host.networks(introspection_port=0)
    assert await asked(*lan, at=at_lan) == "agent"


async def test_tasks_do_not_reach_ports_of_control_at_any_address_of_the_host(
    networks: TaskNetworks, containers: Containers, neighbour: str, host: Host
) -> None:
    """Closed to both bridges, open to this host and to others; open again where that is allowed."""
    network = await networks.claim("a", "eni-1")
    awsvpc = ["nsenter", "--net", "--target", str(network.sandbox_pid)]
    lan, bridge = neighbour.split(), await inside(containers, "bridge")
    gateway = (await said_by(*bridge, "ip", "route", "show", "default")).split()[2]
    (closed,) = SETTINGS.closed_ports
    ways = [
        (awsvpc, network.gateway),
        (awsvpc, f"{LAN}.1"),
        (bridge, gateway),
        (bridge, f"{LAN}.1"),
    ]

    async def answered(port: int) -> list[str]:
        return [await asked(*words, at=f"{address}:{port}/") for words, address in ways]

    async with serving(closed), serving(9999):
        assert await answered(closed) == [""] * 4
        assert await answered(9999) == ["agent"] * 4
        assert (
            await asked(at=f"127.0.0.1:{closed}/")
            == await asked(at=f"{gateway}:{closed}/")
            == "agent"
        )
        assert await asked(*lan, at=f"{LAN}.1:{closed}/") == "agent"
        await networks.release("a")
        networks = await host.networks(closed_ports=())
        network = await networks.claim("b", "eni-2")
        ways[:2] = [
            (["nsenter", "--net", "--target", str(network.sandbox_pid)], at) for _, at in ways[:2]
        ]
        assert await answered(closed) == ["agent"] * 4


@contextlib.asynccontextmanager
async def serving(port: int) -> AsyncIterator[None]:
    """Answer at a port of all addresses of this host."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(SAID)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "0.0.0.0", port):
        yield


async def test_without_the_agent_nothing_of_it_is_left(host: Host) -> None:
    networks = await host.networks()
    assert (await said_by("ip", "route", "get", ADDRESS)).startswith(f"local {ADDRESS} dev lo ")
    await said_by("ip", "route", "add", f"{ADDRESS}/32", "dev", "lo", "scope", "link")
    await networks.remove_host_objects()
    assert ADDRESS not in await said_by("ip", "addr", "show", "dev", "lo")
    assert await said_by("ip", "route", "show", ADDRESS) == ""
    assert SETTINGS.table not in await said_by("nft", "list", "tables")
