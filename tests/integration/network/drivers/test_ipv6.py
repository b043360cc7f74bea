"""Tasks with IPv6, beside IPv4 and alone, with real packets: whom they reach, and what is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.config.addresses import TASK_PORT
from agent.errors import NetworkFailure
from agent.model.security_groups import GroupRule, GroupUpdate, GroupUpdates, SecurityGroup
from tests.integration.network.drivers.site import Site, run, site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model.task import TaskNetwork
    from agent.network.pool import TaskNetworks
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

HOST, ROUTER, OUTSIDE = "2001:db8:1::2", "2001:db8:1::1", "2001:db8:9::1"
POOLS = {
    "bridge": ("10.218.77.0/26", "fd5e:77::/64"),
    "routed": ("192.0.3.0/28", "2001:db8:3::/112"),
    "macvlan": ("192.0.2.32/28", "2001:db8:1::20:0/112"),
}
METADATA = "fd00:ec2::254"
CONNECT = """
import socket, sys
try:
    made = socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)
    print("open", made.getsockname()[0] if sys.argv[3:] else "")
except ConnectionRefusedError:
    print("closed")
except OSError as error:
    print("nothing")
"""
FORGE = """
import socket, struct, sys
own, other, gateway, mac, target_mac = sys.argv[1:]
def raw(text):
    return bytes.fromhex(text.replace(":", ""))
def pack(address):
    return socket.inet_pton(socket.AF_INET6, address)
def checked(source, target, kind, body):
    pseudo = source + target + struct.pack("!II", len(body), kind)
    data = pseudo + body + bytes(len(body) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
def packet(source, target, kind, body, at, hops=255):
    source, target = pack(source), pack(target)
    body = bytearray(body)
    body[at:at + 2] = struct.pack("!H", checked(source, target, kind, bytes(body)))
    return struct.pack("!IHBB", 6 << 28, len(body), kind, hops) + source + target + bytes(body)
def datagram(source, target):
    return packet(source, target, 17, struct.pack("!HHHH", 5353, 5353, 8, 0), 6)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
def send(source_mac, target_mac, content):
    try:
        wire.send(raw(target_mac) + raw(source_mac) + raw("86dd") + content)
    except OSError:
        pass  # dropped in the namespace, which the sender is told
for source in (own, other):
    send(mac, target_mac, datagram(source, gateway))
send("02:00:00:00:00:01", target_mac, datagram(own, gateway))
# An answer that nobody asked for: "other has my MAC", by its own address and by that of the other.
claim = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + pack(other) + bytes((2, 1)) + raw(mac)
for source in (own, other):
    send(mac, target_mac, packet(source, gateway, 58, claim, 2))
"""


@pytest.fixture(name="place")
def _place() -> Iterator[Site]:
    with site() as made:
        # Who forwards asks for neighbours with a link-local address, which is ready at once here.
        for words in (f"addr add {HOST}/64 dev {made.link} nodad",
                      f"addr add fe80::2/64 dev {made.link} nodad",
                      f"-6 route add default via {ROUTER} dev {made.link}"):  # fmt: skip
            run("ip", *words.split())
        for words in (f"addr add {OUTSIDE}/128 dev lo", f"addr add {ROUTER}/64 dev lan nodad",
                      "addr add fe80::1/64 dev lan nodad",
                      f"-6 route add {POOLS['routed'][1]} via {HOST}"):  # fmt: skip
            made.at_router("ip", *words.split())
        made.at_router("ip", "route", "add", POOLS["routed"][0], "via", "192.0.2.2")
        yield made


def at(network: TaskNetwork | None, script: str, *arguments: str) -> str:
    """Run a script in a task's namespace, or on the host."""
    enter = ["nsenter", "-t", str(network.sandbox_pid), "-n"] if network else []
    return run(*enter, sys.executable, "-c", script, *arguments).strip()


async def reach(network: TaskNetwork | None, address: str, port: int = 9) -> str:
    """Return ``open`` or ``closed`` if the address answers there, else ``nothing``."""
    return await asyncio.to_thread(at, network, CONNECT, address, str(port))


@contextlib.contextmanager
def listening_outside(place: Site) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that prints who has connected to port 80 outside."""
    serve = (
        "import socket\n"
        "made = socket.create_server(('::', 80), family=socket.AF_INET6)\n"
        "print('ready', flush=True)\n"
        "print(made.accept()[1][0], flush=True)\n"
    )
    enter = ["nsenter", "-t", str(place.router_pid), "-n", sys.executable, "-c", serve]
    with subprocess.Popen(enter, stdout=-1, text=True) as heard:
        assert heard.stdout is not None
        assert heard.stdout.readline() == "ready\n"
        try:
            yield heard
        finally:
            heard.kill()


def pools(driver: str, *, alone: bool) -> dict[str, Any]:
    ipv4, ipv6 = POOLS[driver]
    return {"driver": driver, "pool_cidr": "" if alone else ipv4, "ipv6_cidr": ipv6}


@pytest.mark.parametrize("alone", [False, True], ids=["dual", "alone"])
@pytest.mark.parametrize("driver", ["bridge", "routed", "macvlan"])
async def test_tasks_have_ipv6_and_take_no_others_address(
    host: Host, place: Site, driver: str, alone: bool
) -> None:
    changes = {**pools(driver, alone=alone), "parent": place.link}
    networks = await host.networks(**changes)
    one, two = await networks.claim("arn:one", "eni-1"), await networks.claim("arn:two", "eni-2")
    try:
        assert bool(one.ipv4) is not alone
        reached = {
            "neighbour": await reach(one, two.ipv6),
            "outside": await reach(one, OUTSIDE),
            "metadata": await reach(one, METADATA),
        }
        assert reached == {"neighbour": "closed", "outside": "closed", "metadata": "nothing"}
        if driver != "macvlan":
            assert await reach(None, one.ipv6) == "closed"
        *_, shown = (await networks.inspection.view()).pools
        gateway = ROUTER if driver == "macvlan" else one.ipv6_gateway
        assert (shown.cidr, shown.gateway) == (POOLS[driver][1], gateway)
        with socket.create_server(("", TASK_PORT)):
            assert await reach(one, "169.254.170.2", 80) == "open"
        if alone:
            assert await reach(one, "198.51.100.1") == "nothing"  # there is no IPv4 to the outside
        with listening_outside(place) as heard:
            assert await reach(one, OUTSIDE, 80) == "open"
            assert heard.stdout is not None
            seen = await asyncio.to_thread(heard.stdout.readline)
        assert seen.strip() == (HOST if driver == "bridge" else one.ipv6)
        await asyncio.to_thread(_forged_is_dropped, place, driver, one, two)

        run("ip", "link", "del", one.host_interface)
        networks = await host.networks(**changes)  # an agent that starts repairs what is missing
        again = await networks.claim("arn:one", "eni-1")
        assert (again.ipv6, again.ipv4) == (one.ipv6, one.ipv4)
        assert await reach(one, OUTSIDE) == "closed"
        assert await reach(two, one.ipv6) == "closed"
        if driver == "bridge":
            with pytest.raises(NetworkFailure, match="a task on this host still runs with fd5e"):
                await host.networks(**{**changes, "ipv6_cidr": "fd5e:78::/64"})
            networks = await host.networks(**changes)
    finally:
        await networks.release("arn:one")
        await networks.release("arn:two")
        await networks.remove_host_objects()


def _forged_is_dropped(place: Site, driver: str, one: TaskNetwork, two: TaskNetwork) -> None:
    """Send from one with the address of two, and by its MAC, and claim to be it."""
    if driver == "macvlan":
        reader, interface, target = ["nsenter", "-t", str(place.router_pid), "-n"], "lan", ROUTER
        (shown,) = json.loads(place.at_router("ip", "-j", "link", "show", "lan"))
        mac = shown["address"]
    else:
        reader, target = [], one.ipv6_gateway
        interface = "ecst-net0" if driver == "bridge" else one.host_interface
        mac = Path(f"/sys/class/net/{interface}/address").read_text(encoding="ascii").strip()
    listen = (
        "import socket\n"
        "got, found = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), set()\n"
        "got.bind(('::', 5353)); got.settimeout(1.0)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True: found.add(got.recvfrom(99)[1][0])\n"
        "except TimeoutError: print(*sorted(found))\n"
    )
    with subprocess.Popen([*reader, sys.executable, "-c", listen], stdout=-1, text=True) as heard:
        assert heard.stdout is not None
        assert heard.stdout.readline() == "ready\n"
        before = run(*reader, "ip", "-6", "neigh", "show", "dev", interface, two.ipv6)
        at(one, FORGE, one.ipv6, two.ipv6, target, one.mac, mac)
        assert heard.stdout.read().split() == [one.ipv6]
    after = run(*reader, "ip", "-6", "neigh", "show", "dev", interface, two.ipv6)
    assert one.mac not in after
    assert (before.split()[:3] or ["lladdr"]) == (after.split()[:3] or ["lladdr"])


async def test_groups_filter_ipv6_between_tasks(host: Host) -> None:
    networks = await host.networks(**pools("bridge", alone=True))
    everywhere = GroupRule(id="sgr-out", protocol="-1", is_egress=True, cidr_ipv6="::/0")
    http = GroupRule(id="sgr-http", protocol="tcp", from_port=80, to_port=80, group="sg-clients")
    await networks.take_groups(
        GroupUpdates(
            groups=[
                GroupUpdate(group=SecurityGroup(id="sg-web", rules=(http, everywhere)), whole=True),
                GroupUpdate(group=SecurityGroup(id="sg-clients", rules=(everywhere,)), whole=True),
                GroupUpdate(group=SecurityGroup(id="sg-others", rules=(everywhere,)), whole=True),
            ],
            full=True,
        )
    )
    try:
        web = await networks.claim("arn:web", "eni-1", ("sg-web",))
        client = await networks.claim("arn:client", "eni-2", ("sg-clients",))
        other = await networks.claim("arn:other", "eni-3", ("sg-others",))
        answers = await asyncio.gather(
            reach(client, web.ipv6, 80), reach(client, web.ipv6, 81),
            reach(other, web.ipv6, 80), reach(web, client.ipv6, 80),
        )  # fmt: skip
        assert list(answers) == ["closed", "nothing", "nothing", "nothing"]
        await networks.release("arn:web")
        table = run("nft", "list", "table", "inet", "ecs_test_network_groups")
        assert web.ipv6 not in table
        assert client.ipv6 in table
    finally:
        await asyncio.gather(
            *(networks.release(f"arn:{name}") for name in ("web", "client", "other"))
        )
        await networks.remove_host_objects()


async def test_what_others_remove_of_ipv6_is_put_back(host: Host) -> None:
    networks: TaskNetworks = await host.networks(**pools("bridge", alone=False))
    one = await networks.claim("arn:one", "eni-1")
    try:
        for damage in (
            "ip -6 addr flush dev ecst-net0", "ip -6 neigh flush dev ecst-net0 nud permanent",
            "sysctl -q net.ipv6.conf.all.forwarding=0",
            "nft flush set bridge ecs_test_network ports_ipv6", "ip link set ecst-net0 down",
        ):  # fmt: skip
            run(*damage.split())
            await networks.reassert()
            assert await reach(None, one.ipv6) == "closed", damage
        assert (await networks.inspection.check(repair=False)).differences == []
    finally:
        await networks.release("arn:one")
        await networks.remove_host_objects()
