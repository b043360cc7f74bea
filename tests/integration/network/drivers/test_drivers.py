"""Tasks without a bridge, with real packets: whom they reach, who reaches them, and what is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.config.addresses import TASK_PORT
from agent.errors import NetworkFailure
from tests.integration.network.drivers.site import HOST, OUTSIDE, ROUTER, Site, run, site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model.network_views import TraceView
    from agent.model.task import TaskNetwork
    from agent.network.pool import TaskNetworks
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

POOLS = {"routed": "192.0.3.0/28", "macvlan": "192.0.2.32/28"}
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
    print("open")
except ConnectionRefusedError:
    print("closed")
except OSError as error:
    print("nothing")
"""
FORGE = """
import socket, sys
own, other, router, mac = sys.argv[1:]
for source in (own, other):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((source, 0))
    sender.sendto(source.encode(), (router, 5353))
def raw(text):
    return bytes.fromhex(text.replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
everyone, pair = raw("ff" * 6), socket.inet_aton
for claimed, sender in ((raw(mac), other), (raw("020000000001"), own)):
    wire.send(everyone + claimed + raw("0806" + "0001080006040002") + claimed + pair(sender)
              + everyone + pair(sender))
"""
LISTEN = """
import socket
got, found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), set()
got.bind(("0.0.0.0", 5353))
got.settimeout(1.5)
print("ready", flush=True)
try:
    while True:
        found.add(got.recvfrom(99)[1][0])
except TimeoutError:
    print(*sorted(found))
"""


@pytest.fixture(name="place")
def _place() -> Iterator[Site]:
    with site() as made:
        made.at_router("ip", "route", "add", POOLS["routed"], "via", HOST)
        yield made


def at(network: TaskNetwork | None, script: str, *arguments: str) -> str:
    """Run a script in a task's namespace, or on the host."""
    enter = ["nsenter", "-t", str(network.sandbox_pid), "-n"] if network else []
    return run(*enter, sys.executable, "-c", script, *arguments).strip()


async def reach(network: TaskNetwork | None, address: str, port: int = 9) -> str:
    """Return ``open`` or ``closed`` if the address answers there, else ``nothing``."""
    return await asyncio.to_thread(at, network, CONNECT, address, str(port))


@pytest.mark.parametrize("driver", sorted(POOLS))
async def test_tasks_are_reached_by_their_addresses_and_take_no_others(
    host: Host, place: Site, driver: str
) -> None:
    changes: dict[str, Any] = {"driver": driver, "parent": place.link, "pool_cidr": POOLS[driver]}
    networks = await host.networks(**changes)
    one, two = await networks.claim("arn:one", "eni-1"), await networks.claim("arn:two", "eni-2")
    try:
        answers = await asyncio.gather(
            reach(one, two.ipv4), reach(one, OUTSIDE), reach(None, one.ipv4), reach(two, one.ipv4)
        )
        assert set(answers) == {"closed"}
        assert place.at_router(sys.executable, "-c", CONNECT, one.ipv4, "9") == "closed\n"
        with socket.create_server(("", TASK_PORT)), socket.create_server(("", 51678)):
            assert await reach(one, "169.254.170.2", 80) == "open"
            assert await reach(one, "169.254.170.2", 51678) == "nothing"
            assert await reach(one, HOST, 51678) == "nothing"
            # With a parent, the kernel does not even bring such packets to the host.
            at_host = {"routed": "open", "macvlan": "nothing"}[driver]
            with socket.create_server(("", 6820)), socket.create_server(("", 6822)):
                for address in (HOST, one.gateway):
                    assert await reach(one, address, 6820) in ("nothing", "closed")
                assert await reach(one, HOST, 6820) == "nothing"
                assert await reach(one, HOST, 6822) == at_host
                assert place.at_router(sys.executable, "-c", CONNECT, HOST, "6820") == "open\n"
            assert await reach(one, "169.254.169.254", 80) == "nothing"
        await asyncio.to_thread(_nobody_takes_anothers_place, place, one, two)
        await _what_operators_see(networks, place, driver, two.ipv4)

        run("ip", "link", "del", one.host_interface)
        with pytest.raises(
            NetworkFailure, match=r"ECS_TASK_NETWORK_DRIVER=bridge, but .* " + driver
        ):
            await host.networks(pool_cidr=POOLS[driver])
        networks = await host.networks(**changes)  # an agent that starts repairs what is missing
        assert (await networks.claim("arn:one", "eni-1")).ipv4 == one.ipv4
        assert [await reach(one, OUTSIDE), await reach(None, one.ipv4)] == ["closed", "closed"]
    finally:
        await networks.release("arn:one")
        await networks.release("arn:two")
        await networks.remove_host_objects()


async def _what_operators_see(
    networks: TaskNetworks, place: Site, driver: str, neighbour: str
) -> None:
    """The rules that a task's packets really meet, in its own namespace where they leave it there."""
    inspection = networks.inspection

    async def traced(peer: str, port: int) -> TraceView:
        return await inspection.trace("arn:one", [], peer=peer, port=port, protocol="tcp")

    for peer in (OUTSIDE, neighbour):
        view = await traced(peer, 9)
        assert (view.answer, view.dropped_by) == ("refused", None)
        own = {(step.family, step.table) for step in view.steps if step.rule == "own packets"}
        table = (
            ("netdev", "ecs_task") if driver == "macvlan" else ("inet", "ecs_test_network_links")
        )
        assert own == {table}
    to_agent = await traced("169.254.170.2", 9)
    assert to_agent.dropped_by is not None
    shown = await inspection.view()
    (pool,), shared = shown.pools, shown.devices[0]
    kind, name = {"routed": ("gateway", "lo"), "macvlan": ("parent", place.link)}[driver]
    assert (shared.kind, shared.name, shared.state) == (kind, name, "UP")
    assert (pool.interface, pool.mtu) == (name, 1500)
    assert pool.gateway == {"routed": "192.0.3.1", "macvlan": ROUTER}[driver]


def _nobody_takes_anothers_place(place: Site, one: TaskNetwork, two: TaskNetwork) -> None:
    enter = ["nsenter", "-t", str(place.router_pid), "-n"]
    before = place.at_router("ip", "neigh", "show", "dev", "lan", two.ipv4).split()[:3]
    # A privileged task could add this address.
    run("nsenter", "-t", str(one.sandbox_pid), "-n", "ip", "addr", "add", two.ipv4, "dev", "lo")
    listen = [*enter, sys.executable, "-c", LISTEN]
    with subprocess.Popen(listen, stdout=-1, text=True) as heard:
        assert heard.stdout is not None
        assert heard.stdout.readline() == "ready\n"
        with contextlib.suppress(AssertionError):  # some are told that it did not leave
            at(one, FORGE, one.ipv4, two.ipv4, ROUTER, one.mac)
        assert heard.stdout.read().split() == [one.ipv4]
    run("nsenter", "-t", str(one.sandbox_pid), "-n", "ip", "addr", "del", two.ipv4, "dev", "lo")
    assert place.at_router("ip", "neigh", "show", "dev", "lan", two.ipv4).split()[:3] == before
    shown = place.at_router("ip", "neigh", "show", "dev", "lan", one.ipv4)
    assert "02:00:00:00:00:01" not in shown


async def test_what_cannot_work_is_refused_by_name(host: Host, place: Site) -> None:
    async def refused(**changes: Any) -> str:
        with pytest.raises(NetworkFailure) as failure:
            await host.networks(**{"pool_cidr": POOLS["macvlan"], **changes})
        return str(failure.value)

    assert "ECS_TASK_NETWORK_PARENT=nowhere0: this host has no such link" in await refused(
        driver="macvlan", parent="nowhere0"
    )
    assert "ECS_TASK_NETWORK_PARENT is not set" in await refused(driver="macvlan")
    assert "is not part of a network of ecstlan0" in await refused(
        driver="macvlan", parent=place.link, pool_cidr="10.99.0.0/28"
    )
    assert "contains 192.0.2.1" in await refused(
        driver="macvlan", parent=place.link, pool_cidr="192.0.2.0/29"
    )
    if not await asyncio.to_thread(_has_ipvlan, place.link):
        assert "this kernel has no ipvlan" in await refused(driver="ipvlan", parent=place.link)


def _has_ipvlan(parent: str) -> bool:
    added = ["ip", "link", "add", "link", parent, "name", "ecstprobe", "type", "ipvlan"]
    if subprocess.run(added, check=False, capture_output=True).returncode:
        return False
    run("ip", "link", "del", "ecstprobe")
    return True


async def test_an_empty_pool_says_so(host: Host, place: Site) -> None:
    networks = await host.networks(driver="routed", pool_cidr="192.0.3.0/29", parent=place.link)
    try:
        for number in range(5):
            await networks.claim(f"arn:{number}", "")
        with pytest.raises(NetworkFailure, match="no free address in ECS_TASK_POOL_CIDR"):
            await networks.claim("arn:one-too-many", "")
    finally:
        await asyncio.gather(*(networks.release(f"arn:{number}") for number in range(5)))
        await networks.remove_host_objects()
