"""ENIs in task sandboxes: a veth with a known MAC stands for the device, a namespace for the VPC.

The other end of the veth is in the namespace ``ecst-vpc``, with the addresses of the subnet's router
and of instance metadata, so that packets really leave the task by its interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure, PayloadError
from agent.network.bridge.links import AGENT_INTERFACE
from agent.network.eni import placement, placing
from agent.network.host.agent_address import ADDRESS
from agent.network.kernel import namespaces, netlink
from agent.network.kernel.netlink import NetlinkLane
from agent.network.sandboxes.recovery import Holder
from agent.supervision.held_sockets import HeldSockets
from agent.supervision.notify import Notifier
from tests.backend.messages import interface
from tests.integration.network.conftest import SETTINGS
from tests.integration.network.test_life import command, ip, rows, running, sandbox_ids, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.model.task import TaskNetwork
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

DEVICE, VPC = "ecst-nic0", "ecst-vpc"
MAC = "06:ec:57:0a:0b:0c"
BACK = "eni06ec570a0b0c"
IPV4, SECOND, ROUTER = "10.7.0.5", "10.7.0.6", "10.7.0.1"
IPV6, ROUTER6 = "2001:db8:7::5", "2001:db8:7::1"
METADATA = "169.254.169.254"
JUMBO = 9001
PORT = 7007
TASK = "arn:aws:ecs:eu-west-1:111122223333:task/c/eni"
DUAL = interface(
    MAC.upper(),
    ipv4Addresses=[{"privateAddress": SECOND}, {"primary": True, "privateAddress": IPV4}],
    ipv6Addresses=[{"address": IPV6}],
    subnetGatewayIpv6Address=f"{ROUTER6}/64",
)
ONLY_IPV6 = interface(
    MAC, ipv4Addresses=[], ipv6Addresses=[{"address": IPV6}], subnetGatewayIpv4Address=None,
    subnetGatewayIpv6Address=f"{ROUTER6}/64",
)  # fmt: skip


class Vpc:
    """The network that the device leads to, and the device itself once it is attached."""

    def attach(self) -> None:
        """Make the device appear on the host, as EC2 does it."""
        for line in (
            f"ip link add {DEVICE} address {MAC} mtu {JUMBO} type veth peer name router mtu {JUMBO} netns {VPC}",
            f"ip -n {VPC} addr add {ROUTER}/24 dev router",
            f"ip -n {VPC} addr add {METADATA}/32 dev router",
            f"ip -n {VPC} addr add {ROUTER6}/64 dev router nodad",
            f"ip -n {VPC} link set router up",
        ):
            subprocess.run(line.split(), check=True, timeout=10)

    async def ask(self, network: TaskNetwork, to: str, *, length: int = 10) -> str:
        """Send a datagram from the task to an address here and back; return the task's address."""
        return await asyncio.to_thread(self._ask, network, to, length)

    def _ask(self, network: TaskNetwork, to: str, length: int) -> str:
        with contextlib.ExitStack() as stack:
            family = socket.AF_INET6 if ":" in to else socket.AF_INET
            here = stack.enter_context(Path(f"/run/netns/{VPC}").open("rb"))
            task = stack.enter_context(Path(f"/proc/{network.sandbox_pid}/ns/net").open("rb"))

            def opened() -> socket.socket:
                return socket.socket(family, socket.SOCK_DGRAM)

            server = stack.enter_context(namespaces.inside(here.fileno(), opened))
            client = stack.enter_context(namespaces.inside(task.fileno(), opened))
            for each in (server, client):
                each.settimeout(5)
            server.bind((to, PORT))
            client.sendto(bytes(length), (to, PORT))
            data, peer = server.recvfrom(65_535)
            assert len(data) == length
            server.sendto(b"answer", peer)
            assert client.recv(100) == b"answer"
            return str(peer[0])


@pytest.fixture
def vpc(leak_check: None) -> Iterator[Vpc]:
    del leak_check
    ip("netns", "add", VPC)
    yield Vpc()
    ip("netns", "del", VPC)  # takes the router's end of the veth along, and with it the device
    for _ in range(100):
        if command("ip", "link", "show", DEVICE).returncode and not on_host():
            return
        command("sleep", "0.05")


def on_host() -> list[dict[str, Any]]:
    """Return what links of the host have the device's MAC."""
    listed = json.loads(ip("-j", "addr"))
    return [link for link in listed if link.get("address") == MAC]


def inside(network: TaskNetwork, *words: str) -> list[dict[str, Any]]:
    words = ("nsenter", f"--net=/proc/{network.sandbox_pid}/ns/net", "ip", "-j", *words)
    listed: list[dict[str, Any]] = json.loads(command(*words).stdout or "[]")
    return listed


def state_of(network: TaskNetwork) -> dict[str, Any]:
    """Return links, addresses and routes in a sandbox, without what differs between two of them."""
    links = {
        link["ifname"]: (
            link["mtu"],
            "UP" in link["flags"],
            [a["local"] for a in link["addr_info"] if a["scope"] == "global"],
        )
        for link in inside(network, "addr")
    }
    routes = [*inside(network, "route"), *inside(network, "-6", "route")]
    shown = [(r.get("type"), r["dst"], r.get("gateway"), r.get("dev")) for r in routes]
    return {"links": links, "routes": sorted(shown, key=str)}


async def test_a_task_gets_an_interface_with_two_families_and_gives_it_back(
    host: Host, vpc: Vpc
) -> None:
    networks = await host.networks()
    vpc.attach()
    network = await networks.claim_eni(TASK, "", [DUAL])
    assert network == await networks.claim_eni(TASK, "", [DUAL])
    assert (network.ipv4, network.mac, network.gateway) == (IPV4, MAC, ROUTER)
    assert on_host() == []
    assert await vpc.ask(network, ROUTER, length=JUMBO - 28) == IPV4
    assert await vpc.ask(network, ROUTER6) == IPV6
    addresses = {a["local"] for a in inside(network, "addr", "show", "eth0")[0]["addr_info"]}
    assert {IPV4, SECOND, IPV6} <= addresses
    await networks.release(TASK)
    await networks.release(TASK)
    (back,) = on_host()
    assert (back["ifname"], back["mtu"], back["addr_info"]) == (BACK, JUMBO, [])
    assert "UP" not in back["flags"]
    assert await rows(host) == {}
    assert await sandbox_ids(host) == set()
    again = await networks.claim_eni("another", "", [DUAL])
    assert await vpc.ask(again, ROUTER) == IPV4
    await networks.release("another")


async def test_a_task_with_ipv6_alone_and_blocked_metadata(host: Host, vpc: Vpc) -> None:
    networks = await host.networks()
    vpc.attach()
    network = await networks.claim_eni(TASK, "", [ONLY_IPV6])
    assert (network.ipv4, network.any_address) == ("", IPV6)
    assert await vpc.ask(network, ROUTER6) == IPV6
    blackholes = [r["dst"] for r in inside(network, "route") if r.get("type") == "blackhole"]
    assert blackholes == [METADATA]
    assert "fd00:ec2::254" in str(inside(network, "-6", "route"))
    await networks.release(TASK)


async def test_metadata_is_blocked_only_where_that_is_set(host: Host, vpc: Vpc) -> None:
    networks = await host.networks(blocked_addresses=())
    vpc.attach()
    network = await networks.claim_eni(TASK, "", [DUAL])
    assert await vpc.ask(network, METADATA) == IPV4
    await networks.release(TASK)
    networks = await host.networks()
    network = await networks.claim_eni(TASK, "", [DUAL])
    with pytest.raises(OSError, match="Invalid argument"):
        await vpc.ask(network, METADATA)
    await networks.release(TASK)


async def test_the_task_reaches_the_agent_and_nothing_else_by_its_second_link(
    host: Host, vpc: Vpc
) -> None:
    networks = await host.networks()
    vpc.attach()
    network = await networks.claim_eni(TASK, "", [DUAL])
    other = await networks.claim("plain", "eni-2")
    held = HeldSockets(Notifier(), {})
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(
        answer, sock=held.listening("test", ADDRESS, SETTINGS.server_port)
    )
    ask = f"import socket; socket.create_connection(('{ADDRESS}', 80), 5).recv(10)"
    target = f"--net=/proc/{network.sandbox_pid}/ns/net"
    process = await asyncio.create_subprocess_exec("nsenter", target, sys.executable, "-c", ask)
    assert await process.wait() == 0
    assert seen == [network.asks_from]
    server.close()
    await server.wait_closed()
    held.close()
    (route,) = inside(network, "route", "get", other.ipv4)
    assert (route["gateway"], route["dev"]) == (ROUTER, "eth0")
    assert [r["dst"] for r in inside(network, "route", "show", "dev", AGENT_INTERFACE)] == [
        other.gateway,
        ADDRESS,
    ]
    await asyncio.gather(networks.release(TASK), networks.release("plain"))


async def test_a_device_that_comes_late_is_awaited(host: Host, vpc: Vpc) -> None:
    networks = await host.networks()
    claim = asyncio.create_task(networks.claim_eni(TASK, "", [DUAL]))
    await until(lambda: networks.networks() == {} and list(networks._table.by_task) == [TASK])
    await asyncio.sleep(0.1)
    vpc.attach()
    async with asyncio.timeout(4):  # less than the interval between looks
        network = await claim
    assert await vpc.ask(network, ROUTER) == IPV4
    await networks.release(TASK)


async def test_a_device_that_never_comes_fails_the_claim_and_leaves_nothing(
    host: Host, vpc: Vpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    del vpc
    monkeypatch.setattr(placement, "ARRIVAL_LIMIT_S", 0.2)
    networks = await host.networks()
    with pytest.raises(NetworkFailure, match=rf"eni-0123456789abcdef0 \({MAC}\) did not appear"):
        await networks.claim_eni(TASK, "", [DUAL])
    assert networks.networks() == {}
    await networks.release(TASK)
    assert await rows(host) == {}


async def test_an_interface_of_the_host_itself_is_not_moved(host: Host, vpc: Vpc) -> None:
    networks = await host.networks()
    vpc.attach()
    ip("addr", "add", "10.7.0.9/24", "dev", DEVICE)
    ip("link", "set", DEVICE, "up")
    ip("route", "add", "default", "via", ROUTER, "metric", "4000")
    with pytest.raises(NetworkFailure, match="has the host's default route"):
        await networks.claim_eni(TASK, "", [DUAL])
    await networks.release(TASK)
    assert [link["ifname"] for link in on_host()] == [DEVICE]


async def test_two_interfaces_of_one_task_are_refused(host: Host) -> None:
    networks = await host.networks()
    with pytest.raises(PayloadError, match="2 network interfaces"):
        await networks.claim_eni(TASK, "", [DUAL, DUAL])


async def test_a_sandbox_that_dies_gives_the_interface_back(host: Host, vpc: Vpc) -> None:
    networks = await host.networks()
    vpc.attach()
    async with running(networks) as lost:
        network = await networks.claim_eni(TASK, "", [DUAL])
        os.kill(network.sandbox_pid, signal.SIGKILL)
        await until(lambda: [arn for arn, _ in lost] == [TASK])
        await networks.release(TASK)
    assert [link["ifname"] for link in on_host()] == [BACK]


async def test_a_process_that_ends_before_the_move_is_followed_by_one_that_makes_it(
    host: Host, vpc: Vpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = await host.networks()
    with monkeypatch.context() as patch:
        patch.setattr(placement, "ARRIVAL_LIMIT_S", 0.1)
        with pytest.raises(NetworkFailure, match="did not appear"):
            await networks.claim_eni(TASK, "", [DUAL])
    vpc.attach()
    networks = await host.networks()
    assert networks.networks() == {}
    network = await networks.claim_eni(TASK, "", [DUAL])
    assert await vpc.ask(network, ROUTER) == IPV4
    assert networks.networks() == {TASK: network}
    await networks.release(TASK)


async def test_a_process_that_ends_after_the_move_is_followed_by_one_that_knows_it(
    host: Host, vpc: Vpc
) -> None:
    vpc.attach()
    first = await (await host.networks()).claim_eni(TASK, "", [DUAL])
    (row,) = (await rows(host)).values()
    unplaced = msgspec.structs.replace(row, eni_placed=False)
    networks = await host.networks()
    await networks._table.write(unplaced, "")
    networks = await host.networks()
    assert networks.networks() == {}
    assert await networks.claim_eni(TASK, "", [DUAL]) == first
    networks = await host.networks()
    assert networks.networks() == {TASK: first}
    await networks.reconcile([])
    assert [link["ifname"] for link in on_host()] == [BACK]


async def test_a_lost_row_is_made_again_from_the_sandbox(host: Host, vpc: Vpc) -> None:
    vpc.attach()
    first = await (await host.networks()).claim_eni(TASK, "", [DUAL])
    networks = await host.networks()
    (row,) = networks._table.in_use()
    await networks._table.erase(row)
    networks = await host.networks(holders={first.sandbox_id: Holder(TASK, first.attachment_id)})
    assert await networks.claim_eni(TASK, "", [DUAL]) == first
    assert await vpc.ask(first, ROUTER) == IPV4
    await networks.release(TASK)
    assert [link["ifname"] for link in on_host()] == [BACK]


async def test_what_others_took_away_is_restored_by_the_next_process(host: Host, vpc: Vpc) -> None:
    vpc.attach()
    network = await (await host.networks()).claim_eni(TASK, "", [DUAL])
    before = state_of(network)
    target = ("nsenter", f"--net=/proc/{network.sandbox_pid}/ns/net", "ip")
    for words in ("addr flush dev eth0", "link set eth0 down", f"link del {AGENT_INTERFACE}"):
        assert command(*target, *words.split()).returncode == 0
    networks = await host.networks()
    async with running(networks):
        await until(lambda: state_of(network) == before)
    assert await vpc.ask(network, ROUTER) == IPV4
    await networks.release(TASK)


class Failing:
    """A socket on which one request, counted from zero over all sockets, is refused."""

    asked = 0
    refused_at = -1

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in {"link", "addr", "route"}:
            return found

        async def request(*arguments: Any, **named: Any) -> Any:
            number, Failing.asked = Failing.asked, Failing.asked + 1
            if number == Failing.refused_at:
                raise NetlinkError(errno.EIO, "injected")
            return await found(*arguments, **named)

        return request


@pytest.fixture
async def lane() -> AsyncIterator[NetlinkLane]:
    made = await NetlinkLane.open()
    yield made
    await made.close()


async def test_whatever_request_fails_a_repetition_ends_in_the_same_state(
    host: Host, vpc: Vpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = await host.networks()
    vpc.attach()
    network = await networks.claim_eni(TASK, "", [DUAL])
    whole = state_of(network)

    def failing(**options: Any) -> Any:
        return Failing(AsyncIPRoute(**options))

    for module in (placing, netlink):
        monkeypatch.setattr(module, "AsyncIPRoute", failing)
    record = networks._table.in_use()[0]
    there = networks._claims._enis
    for work in (there.give_back, there.place):
        number, failures = 0, 0
        while True:
            Failing.asked, Failing.refused_at = 0, -1
            await (there.place if work == there.give_back else there.give_back)(record)
            Failing.asked, Failing.refused_at = 0, number
            with contextlib.suppress(NetworkFailure):
                await work(record)
                if Failing.asked <= number:
                    break
                failures -= 1
            failures += 1
            Failing.refused_at = -1
            await work(record)
            if work == there.place:
                assert state_of(network) == whole
            else:
                assert [link["ifname"] for link in on_host()] == [BACK]
            number += 1
        assert failures >= (3 if work == there.give_back else 10)
    Failing.refused_at = -1
    await networks.release(TASK)
