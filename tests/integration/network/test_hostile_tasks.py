"""Tasks that try to read, or to speak for, their neighbours: what gets nowhere, and did without our rules.

Each attack is made twice by the same means: after our rules were taken away, where it must succeed, or
the test proves nothing, and after the agent put them back, where it must not. What tasks may do is in
``test_sandbox``, and here beside each attack where it is near to one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from agent.network import addresses
from tests.integration.conftest import Containers
from tests.integration.network.conftest import SETTINGS
from tests.integration.network.test_sandbox import FETCH, inside, serve
from tests.support import raw_frames as raw
from tests.support.raw_frames import BROADCAST, Raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.model.task import TaskNetwork
    from agent.network.pool import TaskNetworks
    from agent.runtime.docker import DockerEngine
    from tests.integration.network.conftest import Host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

BRIDGE, TABLE = SETTINGS.bridge, SETTINGS.table
GATEWAY = "10.218.77.1"
GATEWAY_MAC = addresses.mac_of(GATEWAY)
METADATA = "169.254.169.254"
_PORT = 7777
_ARP_LOCKED_S = 1.2
"""Linux believes no second answer within a second."""


def sh(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, (command, done.stderr)
    return done.stdout


class Tasks(NamedTuple):
    """A hostile task and two others on one bridge."""

    networks: TaskNetworks
    attacker: TaskNetwork
    victim: TaskNetwork
    friend: TaskNetwork

    @property
    def hostile(self) -> Raw:
        """The raw sockets of the attacker."""
        return Raw(self.attacker.sandbox_pid)

    def take_rules_away(self) -> None:
        """Leave the host as it would be without any rule or setting against hostile tasks.

        Tasks reach the outside as before: their packets are translated, and let pass by Docker.
        """
        for family in ("inet", "bridge"):
            sh("nft", "delete", "table", family, TABLE, check=False)
        chain = f"inet {TABLE} outside"
        sh("nft", f"add table inet {TABLE}; "
           f"add chain {chain} {{ type nat hook postrouting priority 100; }}; "
           f"add rule {chain} ip saddr 10.218.77.0/26 oifname != {BRIDGE} masquerade")  # fmt: skip
        for task in self[1:]:
            link = task.host_interface
            sh("bridge", "fdb", "del", task.mac, "dev", link, "master", "static", check=False)
            sh("bridge", "link", "set", "dev", link, "learning", "on", "flood", "on",
               "mcast_flood", "on", "locked", "off")  # fmt: skip
        sh("ip", "neigh", "flush", "dev", BRIDGE, "nud", "all")
        sh("iptables", "-w", "5", "-I", "DOCKER-USER", "1", "-i", BRIDGE, "-m", "comment",
           "--comment", f"ecs-host-agent {BRIDGE}", "-j", "ACCEPT")  # fmt: skip

    async def works_only_without_rules(self, attack: Callable[[], bool]) -> None:
        """Check that the attack tells of success without our rules, and of none with them."""
        await asyncio.to_thread(self.take_rules_away)
        assert await asyncio.to_thread(attack), "the attack is none"
        await self.networks.reassert()
        assert not await asyncio.to_thread(attack)


@pytest.fixture
async def tasks(host: Host) -> Tasks:
    networks = await host.networks()
    claimed = [await networks.claim(f"arn:{number}", f"eni-{number}") for number in range(3)]
    return Tasks(networks, *claimed)


def secret() -> bytes:
    return b"secret-" + secrets.token_hex(8).encode()


SAY = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))
"""


def say(sender: TaskNetwork, target: str, text: bytes) -> None:
    """Send a datagram by an ordinary socket."""
    inside(sender, sys.executable, "-c", SAY, target, str(_PORT), text.decode())


def meet(*tasks: TaskNetwork) -> None:
    """Have tasks learn each other's MAC, and the gateway's, from the beginning."""
    for task in tasks:
        inside(task, "ip", "neigh", "flush", "dev", "eth0")
    for task in tasks:
        for other in (*(other.ipv4 for other in tasks if other is not task), GATEWAY):
            inside(task, "busybox", "ping", "-c", "1", "-W", "2", other)


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A datagram socket of the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((address, _PORT))
        receiver.settimeout(1.5)
        yield receiver


def hears(receiver: socket.socket, text: bytes) -> str:
    """Return from which address the text came; empty if it did not."""
    try:
        while True:
            got, source = receiver.recvfrom(2048)
            if got == text:
                return str(source[0])
    except TimeoutError:
        return ""


@pytest.mark.parametrize("stolen", ["neighbour", "gateway"])
@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
async def test_forged_arp_redirects_nothing(tasks: Tasks, stolen: str, operation: int) -> None:
    """What a neighbour sends to another task, or to the gateway, is not brought to the attacker."""
    _, attacker, victim, friend = tasks
    target = victim.ipv4 if stolen == "neighbour" else GATEWAY

    def attack() -> bool:
        meet(victim, friend)
        claim = (attacker.mac, target)
        forged = raw.ethernet(
            attacker.mac, friend.mac, raw.ARP, raw.arp(operation, claim, (friend.mac, friend.ipv4))
        )
        text = secret()
        with tasks.hostile.sees(text) as sniffer:
            time.sleep(_ARP_LOCKED_S)
            tasks.hostile.send(*[forged] * 5)
            say(friend, target, text)
            return sniffer.has_seen()

    await tasks.works_only_without_rules(attack)


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
async def test_gratuitous_arp_redirects_nothing(tasks: Tasks, operation: int) -> None:
    """One broadcast that claims a neighbour's address for everybody."""
    _, attacker, victim, friend = tasks

    def attack() -> bool:
        meet(victim, friend)
        claim = (attacker.mac, victim.ipv4)
        forged = raw.ethernet(attacker.mac, BROADCAST, raw.ARP, raw.arp(operation, claim, claim))
        text = secret()
        with tasks.hostile.sees(text) as sniffer:
            time.sleep(_ARP_LOCKED_S)
            tasks.hostile.send(*[forged] * 5)
            say(friend, victim.ipv4, text)
            return sniffer.has_seen()

    await tasks.works_only_without_rules(attack)


async def test_the_host_believes_no_arp_of_tasks(tasks: Tasks) -> None:
    """What the host sends to a task cannot be had by another, with its MAC on the frame or without."""
    _, attacker, victim, _ = tasks

    def attack() -> bool:
        meet(victim)
        forged = [
            raw.ethernet(source, target, raw.ARP, raw.arp(2, claim, (GATEWAY_MAC, GATEWAY)))
            for source, target in ((attacker.mac, GATEWAY_MAC), (victim.mac, BROADCAST))
            for claim in ((attacker.mac, victim.ipv4),)
        ]
        text = secret()
        with tasks.hostile.sees(text) as sniffer, listening(GATEWAY) as sender:
            tasks.hostile.send(*forged)
            sender.sendto(text, (victim.ipv4, _PORT))
            return sniffer.has_seen()

    await tasks.works_only_without_rules(attack)


@pytest.mark.parametrize("target", ["neighbour", "host"])
@pytest.mark.parametrize("forged", ["address", "MAC", "both"])
async def test_nothing_goes_out_under_a_foreign_address(
    tasks: Tasks, forged: str, target: str
) -> None:
    _, attacker, victim, friend = tasks
    mac = attacker.mac if forged == "address" else victim.mac
    ipv4 = attacker.ipv4 if forged == "MAC" else victim.ipv4

    def attack() -> bool:
        text = secret()
        if target == "host":
            packet = raw.udp(ipv4, GATEWAY, _PORT, text)
            with listening(GATEWAY) as receiver:
                tasks.hostile.send(raw.ethernet(mac, GATEWAY_MAC, raw.IPV4, packet))
                return hears(receiver, text) == ipv4
        packet = raw.udp(ipv4, friend.ipv4, _PORT, text)
        with Raw(friend.sandbox_pid).sees(text) as sniffer:
            tasks.hostile.send(raw.ethernet(mac, friend.mac, raw.IPV4, packet))
            return sniffer.has_seen()

    await tasks.works_only_without_rules(attack)
    await asyncio.to_thread(meet, *tasks[1:])


async def test_a_stolen_mac_brings_no_traffic(tasks: Tasks) -> None:
    """The bridge goes on to send to the port of the task, whoever uses its MAC."""
    _, _, victim, friend = tasks

    def attack() -> bool:
        meet(victim, friend)
        text = secret()
        with tasks.hostile.sees(text) as sniffer:
            stolen = raw.ethernet(victim.mac, GATEWAY_MAC, 0x88B5, bytes(46))
            tasks.hostile.send(*[stolen] * 5)
            say(friend, victim.ipv4, text)
            return sniffer.has_seen()

    await tasks.works_only_without_rules(attack)


async def test_what_the_bridge_does_not_know_is_not_shown_to_everybody(tasks: Tasks) -> None:
    """A task's datagrams to a neighbour are seen by nobody else, even if that was silent for long."""
    _, _, victim, friend = tasks
    inside(friend, "ip", "neigh", "replace", victim.ipv4, "lladdr", victim.mac, "dev", "eth0",
           "nud", "permanent")  # fmt: skip

    def attack() -> bool:
        sh("bridge", "fdb", "del", victim.mac, "dev", victim.host_interface, "master", check=False)
        text = secret()
        with tasks.hostile.sees(text) as sniffer:
            say(friend, victim.ipv4, text)
            return sniffer.has_seen()

    await tasks.works_only_without_rules(attack)
    await tasks.networks.reassert()
    text = secret()
    with Raw(victim.sandbox_pid).sees(text) as sniffer:
        say(friend, victim.ipv4, text)
        assert sniffer.has_seen()


def forwarding_entries() -> int:
    return len(json.loads(sh("bridge", "-j", "fdb", "show", "br", BRIDGE)))


async def test_the_forwarding_table_does_not_grow(tasks: Tasks) -> None:
    def attack() -> bool:
        before = forwarding_entries()
        tasks.hostile.send(*(
            raw.ethernet(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", BROADCAST, 0x88B5, bytes(46))
            for n in range(2000)
        ))  # fmt: skip
        return forwarding_entries() - before > 1000

    await tasks.works_only_without_rules(attack)
    assert forwarding_entries() < 60


def host_parts() -> int:
    """Return how many neighbours the host keeps on the bridge, beside those that are fixed."""
    listed = json.loads(sh("ip", "-j", "neigh", "show", "dev", BRIDGE, "nud", "all"))
    return sum("PERMANENT" not in entry["state"] for entry in listed if ":" not in entry["dst"])


FREE = [f"10.218.77.{number}" for number in range(20, 60)]
"""Addresses of the pool that nobody has."""


@pytest.mark.parametrize("means", ["claims", "packets"])
async def test_the_table_of_neighbours_does_not_grow(tasks: Tasks, means: str) -> None:
    attacker = tasks.attacker

    def attack() -> bool:
        before = host_parts()
        if means == "claims":
            frames = [
                raw.ethernet(
                    attacker.mac, BROADCAST, raw.ARP,
                    raw.arp(1, (attacker.mac, ipv4), ("00:00:00:00:00:00", GATEWAY)),
                )
                for ipv4 in FREE
            ]  # fmt: skip
        else:
            frames = [
                raw.ethernet(
                    attacker.mac, GATEWAY_MAC, raw.IPV4, raw.udp(attacker.ipv4, ipv4, 9, b"")
                )
                for ipv4 in FREE
            ]
        tasks.hostile.send(*frames)
        return host_parts() - before > 20

    await tasks.works_only_without_rules(attack)


LINK_LOCAL, ALL_NODES = "fe80::bad", "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"
ADVERTISED = bytes([134, 0, 0, 0, 64, 0, 7, 8]) + bytes(8)
"""A router advertisement."""
CLAIMED = bytes([136, 0, 0, 0, 0x20, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, "fe80::1")
SOLICITED = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, "fe80::1")
MARK = b"marked-frame"


def odd_frames(attacker: TaskNetwork, friend: TaskNetwork) -> dict[str, bytes]:
    """Return frames of every kind that no task has a use for; each holds ``MARK``."""
    packet = raw.udp(attacker.ipv4, friend.ipv4, _PORT, MARK)
    six = raw.ipv6(LINK_LOCAL, ALL_NODES, 58, ADVERTISED + MARK)
    mine, yours = attacker.mac, friend.mac
    return {
        "tagged": raw.ethernet(mine, yours, raw.IPV4, packet, (raw.VLAN, 5)),
        "priority tagged": raw.ethernet(mine, yours, raw.IPV4, packet, (raw.VLAN, 0)),
        "tagged by a provider": raw.ethernet(mine, yours, raw.IPV4, packet, (raw.QINQ, 7)),
        "tagged twice": raw.ethernet(mine, yours, raw.IPV4, packet, (raw.QINQ, 7), (raw.VLAN, 5)),
        "router advertisement": raw.ethernet(mine, ALL_NODES_MAC, raw.IPV6, six),
        "neighbour advertisement": raw.ethernet(
            mine, yours, raw.IPV6, raw.ipv6("fe80::1", ALL_NODES, 58, CLAIMED + MARK)
        ),
        "neighbour solicitation": raw.ethernet(
            mine, yours, raw.IPV6, raw.ipv6(LINK_LOCAL, "fe80::1", 58, SOLICITED + MARK)
        ),
        "IPv6 datagram": raw.ethernet(mine, yours, raw.IPV6, raw.ipv6("fe80::2", "fe80::3", 17, MARK)),
        "PPPoE": raw.ethernet(mine, yours, 0x8863, MARK + bytes(40)),
        "LLC": mine_length(mine, yours, b"\x42\x42\x03" + MARK + bytes(40)),
        "broadcast datagram": raw.ethernet(mine, BROADCAST, raw.IPV4, packet),
        "multicast datagram": raw.ethernet(
            mine, "01:00:5e:00:00:fb", raw.IPV4, raw.udp(attacker.ipv4, "224.0.0.251", 5353, MARK)
        ),
    }  # fmt: skip


def mine_length(source: str, target: str, payload: bytes) -> bytes:
    """Return a frame of IEEE 802.3, which has its length where others have a type."""
    return raw.ethernet(source, target, len(payload), payload)


async def test_no_other_kind_of_frame_passes(tasks: Tasks) -> None:
    _, attacker, _, friend = tasks
    frames = odd_frames(attacker, friend)

    def arrives(frame: bytes) -> bool:
        with Raw(friend.sandbox_pid).sees(MARK) as sniffer:
            tasks.hostile.send(frame)
            return sniffer.has_seen(0.7)

    await asyncio.to_thread(tasks.take_rules_away)
    arrived = [kind for kind, frame in frames.items() if arrives(frame)]
    assert arrived == list(frames)
    await tasks.networks.reassert()
    assert [kind for kind, frame in frames.items() if arrives(frame)] == []


RESERVED = "01:80:c2:00:00:0e"
"""Frames to such addresses are handed to the host by the port itself, past the bridge."""


async def test_frames_past_the_bridge_reach_nobody(tasks: Tasks) -> None:
    _, attacker, victim, _ = tasks

    def attack() -> bool:
        text = secret()
        packet = raw.udp(victim.ipv4, GATEWAY, _PORT, text)
        with listening(GATEWAY) as receiver:
            tasks.hostile.send(raw.ethernet(attacker.mac, RESERVED, raw.IPV4, packet))
            return bool(hears(receiver, text))

    await tasks.works_only_without_rules(attack)


async def test_the_metadata_address_is_blocked_for_raw_frames_too(tasks: Tasks) -> None:
    """A route in the task's namespace is nothing to a task that makes its frames itself."""
    attacker = tasks.attacker
    sh("ip", "addr", "add", f"{METADATA}/32", "dev", "lo")
    try:

        def attack() -> bool:
            text = secret()
            packet = raw.udp(attacker.ipv4, METADATA, _PORT, text)
            with listening(METADATA) as receiver:
                tasks.hostile.send(raw.ethernet(attacker.mac, GATEWAY_MAC, raw.IPV4, packet))
                return hears(receiver, text) == attacker.ipv4

        await tasks.works_only_without_rules(attack)
        await asyncio.to_thread(sh, "nft", "delete", "table", "bridge", TABLE)
        assert not await asyncio.to_thread(attack), "without the bridge family"
    finally:
        sh("ip", "addr", "del", f"{METADATA}/32", "dev", "lo")


@contextlib.contextmanager
def network_of_engine(sdk: Any, kind: str) -> Iterator[str]:
    """A network of the engine's, made while the agent runs; yields its name."""
    if kind == "default":
        yield "bridge"
        return
    name = f"ecst-{kind}"
    options = {"com.docker.network.bridge.name": "ecst-named0"} if kind == "named" else {}
    made = sdk.create_network(name, "bridge", internal=kind == "internal", options=options)
    try:
        yield name
    finally:
        sdk.remove_network(made["Id"])


HELLO = "hello from busybox\n"
SERVE = ["httpd", "-f", "-p", "80", "-h", "/www"]


def reaches(pid: int, address: str) -> bool:
    command = [sys.executable, "-c", FETCH, f"http://{address}/", "2"]
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", *command],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout == HELLO


@pytest.mark.parametrize("kind", ["default", "user", "named", "internal"])
async def test_no_way_into_the_engines_networks(
    tasks: Tasks, engine: DockerEngine, busybox_image: str, sdk: Any, kind: str
) -> None:
    with network_of_engine(sdk, kind) as network:
        containers = Containers(engine, busybox_image)
        try:
            server = await containers.run(SERVE, HostConfig={"NetworkMode": network})
            shown = sdk.inspect_container(server)["NetworkSettings"]["Networks"][network]
            await tasks.works_only_without_rules(
                lambda: reaches(tasks.attacker.sandbox_pid, shown["IPAddress"])
            )
            # Docker's chain alone must not let them in, if somebody has flushed our table.
            await asyncio.to_thread(sh, "nft", "delete", "table", "inet", TABLE)
            assert not await asyncio.to_thread(
                reaches, tasks.attacker.sandbox_pid, shown["IPAddress"]
            )
        finally:
            await containers.remove_all()


async def test_what_is_published_is_reached_and_tasks_answer(
    tasks: Tasks, containers: Containers, sdk: Any
) -> None:
    """Ports that the host publishes are for tasks, too; and containers of the engine reach tasks."""
    body = {"PortBindings": {"80/tcp": [{"HostPort": "18080"}]}}
    server = await containers.run(SERVE, HostConfig=body, ExposedPorts={"80/tcp": {}})
    assert await asyncio.to_thread(reaches, tasks.friend.sandbox_pid, f"{GATEWAY}:18080")
    await serve(containers, tasks.victim)
    pid = sdk.inspect_container(server)["State"]["Pid"]
    assert await asyncio.to_thread(reaches, pid, tasks.victim.ipv4)


async def test_an_older_agents_bridge_and_rules_are_closed_at_the_start(host: Host) -> None:
    """Tasks that run through an upgrade are kept apart from then on, with the rule that let them into
    every network of the host gone."""
    networks = await host.networks()
    tasks = Tasks(networks, *[await networks.claim(f"arn:{n}", f"eni-{n}") for n in range(3)])
    await asyncio.to_thread(tasks.take_rules_away)
    tasks.hostile.send(
        *(raw.ethernet(f"02:00:00:00:00:{n:02x}", BROADCAST, 0x88B5, bytes(46)) for n in range(99))
    )
    assert forwarding_entries() > 99
    assert len(wide_rules()) == 1
    await host.networks()
    assert wide_rules() == []
    assert forwarding_entries() < 60
    packet = raw.udp(tasks.victim.ipv4, tasks.friend.ipv4, _PORT, MARK)
    with Raw(tasks.friend.sandbox_pid).sees(MARK) as sniffer:
        tasks.hostile.send(raw.ethernet(tasks.attacker.mac, tasks.friend.mac, raw.IPV4, packet))
        assert not sniffer.has_seen()
    await asyncio.to_thread(meet, *tasks[1:])


def wide_rules() -> list[str]:
    """Return our rules in Docker's chain that let tasks go anywhere."""
    listed = sh("iptables", "-w", "5", "-S", "DOCKER-USER").splitlines()
    return [line for line in listed if f"-i {BRIDGE} -m comment" in line]


async def test_a_task_that_is_gone_leaves_nothing_for_others_to_use(tasks: Tasks) -> None:
    """Its address is neither let in nor known any more, on any port."""
    link, ipv4 = tasks.friend.host_interface, tasks.friend.ipv4
    assert link in sh("nft", "list", "table", "bridge", TABLE)
    await tasks.networks.release("arn:2")
    assert link not in sh("nft", "list", "table", "bridge", TABLE)
    assert ipv4 not in sh("nft", "list", "table", "bridge", TABLE)
    assert ipv4 not in sh("ip", "neigh", "show", "dev", BRIDGE)
    assert addresses.mac_of(ipv4) not in sh("bridge", "fdb", "show", "br", BRIDGE)


@pytest.mark.parametrize(
    "damage",
    [
        "bridge link set dev LINK learning on",
        "bridge link set dev LINK flood on",
        "bridge fdb del MAC dev LINK master static",
        f"ip neigh del ADDRESS dev {BRIDGE}",
    ],
)
async def test_what_somebody_changes_at_a_port_is_put_right(tasks: Tasks, damage: str) -> None:
    victim = tasks.victim
    before = port_state(victim)
    for name, value in (
        ("LINK", victim.host_interface), ("MAC", victim.mac), ("ADDRESS", victim.ipv4)
    ):  # fmt: skip
        damage = damage.replace(name, value)
    await asyncio.to_thread(sh, *damage.split())
    assert port_state(victim) != before
    await tasks.networks.reassert()
    assert port_state(victim) == before
    repairs = len(tasks.networks.repairs)
    assert repairs == 1
    await tasks.networks.reassert()
    assert len(tasks.networks.repairs) == repairs


def port_state(task: TaskNetwork) -> tuple[str, list[str], str]:
    """Return the flags of a port, the bridge's entries for it, and the host's neighbour."""
    link = task.host_interface
    flags = sh("bridge", "-d", "link", "show", "dev", link)
    entries = sh("bridge", "fdb", "show", "dev", link, "br", BRIDGE).splitlines()
    return flags, sorted(entries), sh("ip", "neigh", "show", task.ipv4, "dev", BRIDGE)


WITHOUT_BRIDGE_FAMILY = """#!/bin/sh
# nft on a kernel without the bridge family.
given="$*"
if [ "$given" = "-j -f -" ]; then input=$(cat); else input=; fi
case "$given $input" in
*"table bridge"* | *'"family": "bridge"'*)
  echo "Error: Could not process rule: Operation not supported" >&2
  exit 1 ;;
esac
printf %s "$input" | exec {nft} "$@"
"""


async def test_a_host_without_rules_for_bridges_says_so_and_runs_tasks(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds nevertheless: no foreign MAC, no traffic of others to be had, no blocked address."""
    nft = tmp_path / "bin" / "nft"
    nft.parent.mkdir()
    nft.write_text(WITHOUT_BRIDGE_FAMILY.replace("{nft}", str(shutil.which("nft"))))
    nft.chmod(0o755)
    with monkeypatch.context() as changed:
        changed.setenv("PATH", f"{nft.parent}:{os.environ['PATH']}")
        networks = await host.networks()
        assert ["nf_tables_bridge" in problem for problem in networks.problems] == [True]
        tasks = Tasks(networks, *[await networks.claim(f"arn:{n}", f"eni-{n}") for n in range(3)])
        await networks.reassert()
        assert networks.repairs == []
        await asyncio.to_thread(meet, *tasks[1:])
        packet = raw.udp(tasks.victim.ipv4, tasks.friend.ipv4, _PORT, MARK)
        with Raw(tasks.friend.sandbox_pid).sees(MARK) as sniffer:
            forged = raw.ethernet(tasks.victim.mac, tasks.friend.mac, raw.IPV4, packet)
            tasks.hostile.send(forged)
            assert not sniffer.has_seen()
            # This is what it cannot keep out.
            tasks.hostile.send(raw.ethernet(tasks.attacker.mac, tasks.friend.mac, raw.IPV4, packet))
            assert sniffer.has_seen()
        await networks.release("arn:2")
    again = await host.networks()
    assert again.problems == []
    assert "ecs0ada4d02" in sh("nft", "list", "table", "bridge", TABLE)
