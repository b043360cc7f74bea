"""Ways round what keeps tasks apart: by other links, by the host's own addresses, by what was before.

As in ``test_hostile_tasks``, each attack is shown to work where our rules are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.network.kernel import connections
from tests.integration.network.test_hostile_tasks import (
    _ARP_LOCKED_S,
    _PORT,
    GATEWAY,
    GATEWAY_MAC,
    TABLE,
    Tasks,
    hears,
    listening,
    meet,
    say,
    secret,
    sh,
)
from tests.integration.network.test_sandbox import inside
from tests.support import raw_frames as raw
from tests.support.raw_frames import Raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agent.model.task import TaskNetwork
    from tests.integration.conftest import Containers
    from tests.integration.network.conftest import Host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

_CONF = Path("/proc/sys/net/ipv4/conf")


@pytest.fixture
async def tasks(host: Host) -> Tasks:
    networks = await host.networks()
    claimed = [await networks.claim(f"arn:{number}", f"eni-{number}") for number in range(3)]
    return Tasks(networks, *claimed)


@contextlib.contextmanager
def switched(name: str, value: str, *links: str) -> Iterator[None]:
    """Set a switch of the kernel for some links, and set it back."""
    files = [_CONF / link / name for link in links]
    before = [file.read_text() for file in files]
    for file in files:
        file.write_text(value)
    try:
        yield
    finally:
        for file, old in zip(files, before, strict=True):
            file.write_text(old)


@pytest.mark.parametrize("target", ["task", "host"])
async def test_nobody_else_on_this_host_sends_under_a_tasks_address(
    tasks: Tasks, containers: Containers, sdk: Any, target: str
) -> None:
    """A container of the engine's own network, which may send raw packets as any other."""
    _, _, victim, friend = tasks
    stranger = await containers.run(["sleep", "60"], HostConfig={"NetworkMode": "bridge"})
    shown = sdk.inspect_container(stranger)
    its_mac = shown["NetworkSettings"]["Networks"]["bridge"]["MacAddress"]
    its_gateway = Path("/sys/class/net/docker0/address").read_text().strip()
    raw_of_stranger = Raw(shown["State"]["Pid"])

    def attack() -> bool:
        text = secret()
        ipv4 = friend.ipv4 if target == "task" else GATEWAY
        packet = raw.udp(victim.ipv4, ipv4, _PORT, text)
        frame = raw.ethernet(its_mac, its_gateway, raw.IPV4, packet)
        if target == "host":
            with listening(GATEWAY) as receiver:
                raw_of_stranger.send(frame)
                return hears(receiver, text) == victim.ipv4
        with Raw(friend.sandbox_pid).sees(text) as sniffer:
            raw_of_stranger.send(frame)
            return sniffer.has_seen()

    with switched("rp_filter", "0", "all", "docker0"):
        await tasks.works_only_without_rules(attack)
    # The host itself has an address of the pool, and speaks to itself under it.
    text = secret()
    with listening(GATEWAY) as receiver:
        receiver.sendto(text, (GATEWAY, _PORT))
        assert hears(receiver, text) == GATEWAY


@pytest.mark.parametrize("target", ["127.0.0.1", "224.0.0.1", "255.255.255.255"])
async def test_raw_packets_reach_neither_the_hosts_loopback_nor_groups(
    tasks: Tasks, target: str
) -> None:
    """The loopback is open where ``route_localnet`` is on, as Amazon asks for on hosts of ECS."""
    attacker = tasks.attacker

    def attack() -> bool:
        text = secret()
        packet = raw.udp(attacker.ipv4, target, _PORT, text)
        with listening("127.0.0.1" if target == "127.0.0.1" else "0.0.0.0") as receiver:
            tasks.hostile.send(raw.ethernet(attacker.mac, GATEWAY_MAC, raw.IPV4, packet))
            return hears(receiver, text) == attacker.ipv4

    with switched("route_localnet", "1", "all"):
        await tasks.works_only_without_rules(attack)
        await asyncio.to_thread(sh, "nft", "delete", "table", "bridge", TABLE)
        assert not await asyncio.to_thread(attack), "without the bridge family"


async def test_what_a_neighbour_was_made_to_believe_brings_nothing_later(tasks: Tasks) -> None:
    """While somebody reloads the host's firewall, ARP can be forged; it is believed for a minute."""
    _, attacker, victim, friend = tasks

    def believe() -> None:
        meet(victim, friend)
        claim = (attacker.mac, victim.ipv4)
        forged = raw.ethernet(
            attacker.mac, friend.mac, raw.ARP, raw.arp(2, claim, (friend.mac, friend.ipv4))
        )
        time.sleep(_ARP_LOCKED_S)
        tasks.hostile.send(*[forged] * 5)

    def sees() -> bool:
        assert attacker.mac in inside(friend, "ip", "neigh", "show", victim.ipv4)
        text = secret()
        with tasks.hostile.sees(text) as sniffer:
            say(friend, victim.ipv4, text)
            return sniffer.has_seen()

    await asyncio.to_thread(tasks.take_rules_away)
    await asyncio.to_thread(believe)
    assert await asyncio.to_thread(sees), "the attack is none"
    await tasks.networks.reassert()
    assert not await asyncio.to_thread(sees)
    # What is for the attacker itself reaches it, from tasks and from the host.
    await asyncio.to_thread(meet, *tasks[1:])


CONNECTED = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
    talk.bind((sys.argv[1], int(sys.argv[2])))
    talk.connect((sys.argv[3], int(sys.argv[4])))
    talk.settimeout(float(sys.argv[5]))
    print("connected", flush=True)
    try:
        if sys.argv[6]:
            talk.send(sys.argv[6].encode())
        talk.recv(100)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


def connected(task: TaskNetwork, target: str, text: str = "") -> subprocess.Popen[str]:
    """Start a process with a connected socket, which sends the text, waits, and tells of an error."""
    started = subprocess.Popen(
        ["nsenter", "-t", str(task.sandbox_pid), "-n", sys.executable, "-c", CONNECTED,
         task.ipv4, str(raw.UDP_SOURCE), target, str(_PORT), "20", text],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == "connected\n"
    return started


FRAGMENTATION_NEEDED, REFUSED_BY_ROUTER = (3, 4), (3, 1)
SMALL_MTU = 600


async def test_a_task_does_not_speak_as_a_router(tasks: Tasks) -> None:
    """Nobody makes packets between others small, by an error about a packet that was not its own."""
    _, attacker, victim, friend = tasks

    def attack() -> bool:
        inside(friend, "ip", "route", "flush", "cache")
        about = raw.udp(friend.ipv4, victim.ipv4, _PORT, b"hello")
        error = raw.icmp(
            attacker.ipv4, friend.ipv4, FRAGMENTATION_NEEDED,
            SMALL_MTU.to_bytes(4, "big"), about,
        )  # fmt: skip
        with connected(friend, victim.ipv4) as talk:
            tasks.hostile.send(raw.ethernet(attacker.mac, friend.mac, raw.IPV4, error))
            time.sleep(0.2)
            talk.kill()
        return f"mtu {SMALL_MTU}" in inside(friend, "ip", "route", "get", victim.ipv4)

    await tasks.works_only_without_rules(attack)


@pytest.mark.parametrize(
    ("kind", "arrives"),
    [((3, 3), True), ((3, 13), True), (REFUSED_BY_ROUTER, False), (FRAGMENTATION_NEEDED, False),
     ((3, 20), False), ((4, 0), False), ((5, 1), False), ((5, 9), False), ((11, 0), False),
     ((12, 0), False)],
)  # fmt: skip
async def test_errors_of_hosts_pass_and_those_of_routers_do_not(
    tasks: Tasks, kind: tuple[int, int], arrives: bool
) -> None:
    _, attacker, _, friend = tasks
    text = secret()
    about = raw.udp(friend.ipv4, attacker.ipv4, _PORT, text)
    error = raw.icmp(attacker.ipv4, friend.ipv4, kind, bytes(4), about)

    def attack() -> bool:
        with Raw(friend.sandbox_pid).sees(text) as sniffer:
            tasks.hostile.send(raw.ethernet(attacker.mac, friend.mac, raw.IPV4, error))
            return sniffer.has_seen(0.7)

    assert await asyncio.to_thread(attack) == arrives


async def test_a_refusal_reaches_the_task_that_asked(tasks: Tasks) -> None:
    """Where nobody listens, a connected socket is told so at once."""
    with connected(tasks.friend, tasks.victim.ipv4, "hello") as talk:
        said, _ = await asyncio.to_thread(talk.communicate)
    assert said.strip() == "ConnectionRefusedError"


OUTSIDE, SERVER = "ecst-up0", "198.51.100.1"
REMOTE = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
    remote.bind((sys.argv[1], int(sys.argv[2])))
    print("bound", flush=True)
    _, source = remote.recvfrom(2048)
    print("met", flush=True)
    for line in sys.stdin:
        remote.sendto(line.strip().encode(), source)
"""


class Remote(contextlib.AbstractContextManager["Remote"]):
    """A server outside of the host, which answers whoever spoke to it first for as long as it likes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "-n", sys.executable, "-uc", f"import sys; sys.stdin.readline()\n{REMOTE}",
             SERVER, str(_PORT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        mine, pid = Path("/proc/self/ns/net").readlink(), self._process.pid
        while Path(f"/proc/{pid}/ns/net").readlink() == mine:
            time.sleep(0.01)
        sh("ip", "link", "add", OUTSIDE, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        sh("ip", "addr", "add", "198.51.100.2/24", "dev", OUTSIDE)
        sh("ip", "link", "set", OUTSIDE, "up")
        there = ["nsenter", "-t", str(pid), "-n", "ip"]
        sh(*there, "addr", "add", f"{SERVER}/24", "dev", "eth0")
        sh(*there, "link", "set", "eth0", "up")
        self.send(b"")
        self.expect("bound")

    def send(self, text: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text.decode()}\n")
        self._process.stdin.flush()

    def expect(self, line: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == line

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        sh("ip", "link", "delete", OUTSIDE, check=False)


async def test_the_next_task_with_an_address_is_sent_nothing_of_the_one_before(host: Host) -> None:
    """A server that goes on sending keeps the host's connection alive, past any quarantine."""
    with Remote() as remote:
        networks = await host.networks(pool_cidr="10.218.77.0/29", quarantine_s=0.0)

        def is_sent(task: TaskNetwork) -> bool:
            text = secret()
            with Raw(task.sandbox_pid).sees(text) as sniffer:
                remote.send(text)
                return sniffer.has_seen()

        first = await networks.claim("arn:first", "eni-1")
        await asyncio.to_thread(say, first, SERVER, b"hello")
        await asyncio.to_thread(remote.expect, "met")
        assert await asyncio.to_thread(is_sent, first)
        await networks.release("arn:first")
        for number in range(8):
            later = await networks.claim(f"arn:{number}", f"eni-{number}")
            if later.ipv4 == first.ipv4:
                break
            await networks.release(f"arn:{number}")
        assert later.ipv4 == first.ipv4
        assert not await asyncio.to_thread(is_sent, later)
        await networks.reconcile(())


def test_other_connections_of_the_host_stay() -> None:
    """Nothing but what the address has begun is removed."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)
        ]
        server, *clients = sockets
        server.bind(("127.0.0.1", 0))
        sh("nft", f"add table ip {TABLE}_test; add chain ip {TABLE}_test c "
           "{ type filter hook output priority 0; }; "
           f"add rule ip {TABLE}_test c ct state new counter")  # fmt: skip
        stack.callback(sh, "nft", "delete", "table", "ip", f"{TABLE}_test")
        for client, source in zip(clients, ("127.0.0.2", "127.0.0.3"), strict=True):
            client.bind((source, 0))
            client.sendto(b"hello", server.getsockname())
        assert connections.forget("127.0.0.2") == 1
        assert connections.forget("127.0.0.2") == 0
        assert connections.forget("127.0.0.3") == 1
