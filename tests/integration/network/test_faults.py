"""Faults in a sandbox: black holes with real packets, and what a kernel without netem says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import NetworkFailure
from agent.network.faults.fault import Blackhole, Impairment, Kind
from agent.network.faults.injection import FaultPlace, Faults
from agent.network.kernel import namespaces, nft
from tests.integration.network.conftest import SETTINGS
from tests.integration.network.test_life import command

if TYPE_CHECKING:
    from agent.model.task import TaskNetwork
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

PORT, OTHER = 7008, 7009
ANY = ip_network("0.0.0.0/0")


def _passes(network: TaskNetwork, port: int, *, outwards: bool) -> bool:
    """Send a datagram between the task and the host; return whether it arrives."""
    with contextlib.ExitStack() as stack:
        task = stack.enter_context(Path(f"/proc/{network.sandbox_pid}/ns/net").open("rb"))

        def opened() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        inner = stack.enter_context(namespaces.inside(task.fileno(), opened))
        outer = stack.enter_context(opened())
        server, client = (outer, inner) if outwards else (inner, outer)
        address = network.gateway if outwards else network.ipv4
        server.bind((address, port))
        server.settimeout(0.5)
        with contextlib.suppress(PermissionError):  # what a dropped packet looks like to its sender
            client.sendto(b"x", (address, port))
        try:
            return server.recv(10) == b"x"
        except TimeoutError:
            return False


async def passes(network: TaskNetwork, port: int, *, outwards: bool = True) -> bool:
    return await asyncio.to_thread(_passes, network, port, outwards=outwards)


@pytest.mark.parametrize("outwards", [True, False])
async def test_a_black_hole_swallows_one_port_in_one_direction(host: Host, outwards: bool) -> None:
    networks = await host.networks()
    network = await networks.claim("a", "eni-1")
    faults, place = Faults(SETTINGS.table), FaultPlace(network.sandbox_pid)
    hole = Blackhole(port=PORT, protocol="udp", direction="egress" if outwards else "ingress")
    # A task's own rules let datagrams of the host in: the test needs a way, not the firewall.
    assert await passes(network, PORT, outwards=outwards)
    await faults.start_blackhole(place, hole)
    await faults.start_blackhole(place, hole)
    assert await faults.has_blackhole(place, hole.name)
    assert not await passes(network, PORT, outwards=outwards)
    assert await passes(network, PORT, outwards=not outwards)
    assert await passes(network, OTHER, outwards=outwards)
    # Another process of the agent finds it in the kernel.
    later = Faults(SETTINGS.table)
    assert await later.has_blackhole(place, hole.name)
    await later.stop_blackhole(place, hole.name)
    await later.stop_blackhole(place, hole.name)
    assert not await faults.has_blackhole(place, hole.name)
    assert await passes(network, PORT, outwards=outwards)
    await networks.release("a")


async def test_what_is_spared_passes_and_faults_end_one_by_one(host: Host) -> None:
    networks = await host.networks()
    network = await networks.claim("a", "eni-1")
    faults, place = Faults(SETTINGS.table), FaultPlace(network.sandbox_pid)
    spared = (ip_network(f"{network.gateway}/32"),)
    first = Blackhole(port=PORT, protocol="udp", direction="egress", spared=spared)
    second = Blackhole(port=OTHER, protocol="udp", direction="egress")
    await asyncio.gather(
        faults.start_blackhole(place, first), faults.start_blackhole(place, second)
    )
    assert await passes(network, PORT)
    assert not await passes(network, OTHER)
    await faults.stop_blackhole(place, first.name)
    assert await faults.has_blackhole(place, second.name)
    await faults.remove_all(place)
    assert not await faults.has_blackhole(place, second.name)
    await networks.release("a")


async def test_a_task_that_has_ended_has_no_faults(host: Host) -> None:
    networks = await host.networks()
    network = await networks.claim("a", "eni-1")
    faults, place = Faults(SETTINGS.table), FaultPlace(network.sandbox_pid)
    hole = Blackhole(port=PORT, protocol="udp", direction="egress")
    await faults.start_blackhole(place, hole)
    await networks.release("a")
    with pytest.raises(NetworkFailure, match="has ended"):
        await faults.has_blackhole(place, hole.name)


async def test_faults_of_the_host_are_in_a_table_of_their_own(host: Host) -> None:
    await host.networks()
    faults, place = Faults(SETTINGS.table), FaultPlace()
    hole = Blackhole(port=PORT, protocol="tcp", direction="ingress")
    await faults.start_blackhole(place, hole)
    assert await asyncio.to_thread(nft.listed, "inet", f"{SETTINGS.table}_faults")
    await faults.remove_all(place)
    await faults.remove_all(place)
    assert await asyncio.to_thread(nft.listed, "inet", f"{SETTINGS.table}_faults") is None


@pytest.mark.skipif(
    command("unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "netem").returncode == 0,
    reason="this kernel has netem; tests/vm/test_kernel_networks.py uses it",
)
async def test_a_kernel_without_netem_says_so_and_keeps_nothing(host: Host) -> None:
    networks = await host.networks()
    network = await networks.claim("a", "eni-1")
    faults, place = Faults(SETTINGS.table), FaultPlace(network.sandbox_pid)
    fault = Impairment(kind=Kind.LATENCY, destinations=(ANY,), delay_ms=100)
    with pytest.raises(NetworkFailure, match="sch_netem"):
        await faults.start_impairment(place, fault)
    assert await faults.impairment(place) is None
    assert await passes(network, PORT)
    await networks.release("a")
