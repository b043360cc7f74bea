"""Run on a booted host: WireGuard between two namespaces, by the agent's own code. Prints JSON.

Started with the name of a namespace, it is the host in there: it takes what control would say as lines of
JSON, and answers each with a line. Started with ``echo`` or ``flow``, it is an end of a connection between tasks.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append("/opt/ecs-agent/lib")

import msgspec
import structlog

from agent.errors import NetworkFailure
from agent.model.fleet import WIREGUARD, FleetHost, FleetPeer, FleetUpdate
from agent.network.fleet import keys, tunnels
from agent.network.fleet.fleet import clear, open_fleet
from agent.network.kernel.netlink import NetlinkLane
from agent.network.settings import FleetSettings

FLEET = "10.208.0.0/16"
HOSTS = {"a": ("192.0.2.1", "10.208.0.0/24"), "b": ("192.0.2.2", "10.208.1.0/24")}
IPV6_FLEET = "fd00:208::/48"
IPV6_RANGES = {"a": "fd00:208::/64", "b": "fd00:208:0:1::/64"}
"""Of tasks; those that follow are of the hosts."""
BY_IPV6 = {"a": "2001:db8::1", "b": "2001:db8::2"}
PORT, MTU = 51820, 1420
FULL = MTU - 28
"""Bytes of a ping that is as large as the MTU."""
TASK_PORT = 7000
FOREIGN = "10.208.7.7"
"""An address of no host."""
ENDED = Path("/root/fleet-flow-ended")
NO_MODULE = Path("/etc/modprobe.d/no-wireguard.conf")


def gateway(name: str) -> str:
    return HOSTS[name][1].replace("0/24", "1")


def ipv6_gateway(name: str) -> str:
    return IPV6_RANGES[name].replace("/64", "1")


def sh(line: str, *, check: bool = True) -> str:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"{line}: {done.stderr}")
    return done.stdout


async def host(name: str) -> None:
    """Be one host."""
    folder = Path(f"/root/fleet-{name}")
    folder.mkdir(exist_ok=True)
    log = (folder / "log").open("a")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
    lane = await NetlinkLane.open()
    fleet = None
    for line in sys.stdin:  # nothing else runs in this process
        order = json.loads(line)
        answer: Any = None
        try:
            if order["do"] == "key":
                key = keys.replace(folder) if order["new"] else keys.load(folder)
                fleet = await open_fleet(
                    FleetSettings(
                        driver=WIREGUARD, range=HOSTS[name][1], fleet_range=FLEET,
                        ipv6_range=IPV6_RANGES[name], ipv6_fleet_range=IPV6_FLEET,
                        port=PORT, public_key=key.public,
                        private_key=key.private,
                    ),
                    lane, MTU,
                )  # fmt: skip
                answer = key.public
            elif order["do"] == "clear":
                await clear(lane)
            elif order["do"] == "lose":
                answer = await tunnels.apply(lane, {}, [order["key"]])
            elif fleet is not None and order["do"] == "take":
                await fleet.take(msgspec.convert(order["update"], FleetUpdate))
                answer = fleet.problems
            elif fleet is not None and order["do"] == "repair":
                answer = await fleet.repair()
            elif fleet is not None:
                answer = [msgspec.to_builtins(peer) for peer in await fleet.peers()]
        except NetworkFailure as error:
            answer = str(error)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await lane.close()


class Host:
    """A host in a namespace, as another process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = ""
        self._process = inside(name, name)

    def do(self, what: str, **more: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def told_of(self, *others: "Host", by_ipv6: bool = False) -> Any:
        """Tell it of all others, as control does."""
        address = BY_IPV6 if by_ipv6 else {name: host[0] for name, host in HOSTS.items()}
        peers = [
            FleetPeer(
                id=each.name,
                host=FleetHost(
                    driver=WIREGUARD, address=address[each.name], range=HOSTS[each.name][1],
                    ipv6_range=IPV6_RANGES[each.name], has_ipv6=True,
                    port=PORT, public_key=each.key,
                ),
            )
            for each in others
        ]  # fmt: skip
        update = FleetUpdate(
            range=HOSTS[self.name][1], fleet_range=FLEET, ipv6_range=IPV6_RANGES[self.name],
            ipv6_fleet_range=IPV6_FLEET, peers=peers, full=True,
        )  # fmt: skip
        return self.do("take", update=msgspec.to_builtins(update))

    def reaches(
        self, other: "Host", *, within_s: float = 20.0, size: int = 56, ipv6: bool = False
    ) -> bool:
        """Return whether it does, from its own task address."""
        program, address = ("ping6", ipv6_gateway) if ipv6 else ("ping", gateway)
        ping = (
            f"ip netns exec {self.name} busybox {program} -c 1 -W 1 -s {size} {address(other.name)}"
        )
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if "1 packets received" in sh(ping, check=False):
                return True
            time.sleep(0.1)
        return False

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def echo() -> None:
    """Send back what comes by one connection."""
    with socket.create_server((gateway("a"), TASK_PORT)) as server:
        connection, _ = server.accept()
        with connection, contextlib.suppress(ConnectionError):
            while block := connection.recv(4096):
                connection.sendall(block)


def flow() -> None:
    """Send ten bytes a second and wait for each, until ``ENDED`` is there; print the longest wait."""
    longest, sent = 0.0, 0
    with socket.create_connection((gateway("a"), TASK_PORT), timeout=120) as connection:
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        while not ENDED.exists():
            began = time.monotonic()
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            longest, sent = max(longest, time.monotonic() - began), sent + 1
            time.sleep(0.1)
    sys.stdout.write(json.dumps([round(longest, 1), sent]) + "\n")


def inside(name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start this file in a namespace."""
    return subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-ISB", __file__, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def build() -> None:
    for name in HOSTS:
        sh(f"ip netns add {name}")
    sh("ip link add lan netns a type veth peer name lan netns b")
    for name, (address, _) in HOSTS.items():
        for line in (
            f"addr add {address}/24 dev lan", "link set lan up", "link set lo up",
            f"addr add {gateway(name)}/32 dev lo", f"addr add {BY_IPV6[name]}/64 dev lan nodad",
            f"addr add {ipv6_gateway(name)}/128 dev lo nodad",
        ):  # fmt: skip
            sh(f"ip -n {name} {line}")
    # What is between tasks must not be seen on the wire as it is.
    sh("ip netns exec b nft add table inet t")
    sh("ip netns exec b nft add chain inet t c { type filter hook prerouting priority 0 ; }")
    sh("ip netns exec b nft add rule inet t c iifname lan ip saddr 10.208.0.0/16 counter")
    sh(f"ip netns exec b nft add rule inet t c iifname lan ip6 saddr {IPV6_FLEET} counter")


def without_module() -> str:
    """Return what a host says that lacks WireGuard."""
    sh("modprobe -r wireguard")
    NO_MODULE.write_text("install wireguard /bin/false\n")
    host = Host("a")
    said = str(host.do("key", new=False))
    host.end()
    NO_MODULE.unlink()
    return said


def spoofed(by: Host, to: Host) -> bool:
    """Return whether a packet arrives with an address that is not of its sender."""
    for line in (
        "add table inet s", "add chain inet s c { type filter hook prerouting priority 0 ; }",
        f"add rule inet s c iifname wg-ecs ip saddr {FOREIGN} counter",
    ):  # fmt: skip
        sh(f"ip netns exec {to.name} nft {line}")
    sh(f"ip -n {by.name} addr add {FOREIGN}/32 dev lo")
    sh(
        f"ip netns exec {by.name} busybox ping -c 2 -W 1 -I {FOREIGN} {gateway(to.name)}",
        check=False,
    )
    sent = int(sh(f"ip netns exec {by.name} cat /sys/class/net/wg-ecs/statistics/tx_packets"))
    assert sent > 0
    return "packets 0 " not in sh(f"ip netns exec {to.name} nft list table inet s")


def rotated_in_flow(a: Host, b: Host) -> list[float]:
    """Replace the key of a host while it has a connection; return the longest wait and the answers in it."""
    server = inside("a", "echo")
    time.sleep(5)
    client = inside("b", "flow")
    assert client.stdout is not None
    client.stdout.readline()
    a.key = a.do("key", new=True)
    # The device still has the old key: it changes when control has told the others.
    time.sleep(1)
    b.told_of(a)
    a.told_of(b)
    assert b.reaches(a)
    time.sleep(3)
    ENDED.touch()
    longest_s, answers = json.loads(client.stdout.readline())
    for process in (client, server):
        process.wait(30)
    return [longest_s, answers]


def repaired(a: Host, b: Host) -> dict[str, Any]:
    """Return what a host says and does after others have changed its device and its routes."""
    found: dict[str, Any] = {}
    sh("ip -n a link del wg-ecs")
    found["repaired"] = a.do("repair")
    found["after_repair"] = [a.reaches(b), a.reaches(b, ipv6=True)]
    sh(f"ip -n a -6 route del {IPV6_RANGES['b']}")
    found["ipv6_route_repaired"] = [a.do("repair"), a.reaches(b, ipv6=True)]
    sh(f"ip -n a route del {HOSTS['b'][1]}")
    found["route_repaired"] = a.do("repair")
    sh(f"ip -n a addr del {gateway('a')}/32 dev lo")
    sh(f"ip -n a addr add {gateway('a')}/32 dev lo")
    found["source_repaired"] = [a.do("repair"), a.reaches(b)]
    sh(f"ip -n a route replace {HOSTS['b'][1]} dev wg-ecs src {HOSTS['a'][0]} proto 236 scope link")
    found["other_source_repaired"] = a.do("repair")
    a.do("lose", key=b.key)
    found["peer_repaired"] = [a.do("repair"), a.reaches(b)]
    found["nothing_left"] = a.do("repair")
    return found


def main() -> dict[str, Any]:
    found: dict[str, Any] = {}
    build()
    found["without_module"] = without_module()
    a, b = Host("a"), Host("b")
    for each in (a, b):
        each.key = each.do("key", new=False)
    found["same_key_again"] = a.do("key", new=False) == a.key
    found["mode"] = oct(Path("/root/fleet-a/fleet.key").stat().st_mode & 0o777)
    found["problems"] = [a.told_of(b), b.told_of(a)]
    found["reached"] = [a.reaches(b), b.reaches(a), a.reaches(b, size=FULL)]
    found["reached_by_ipv6"] = [
        a.reaches(b, ipv6=True), b.reaches(a, ipv6=True), a.reaches(b, size=FULL - 20, ipv6=True),
    ]  # fmt: skip
    link = json.loads(sh("ip -n a -j link show wg-ecs"))[0]
    found["mtu"] = link["mtu"]
    (peer,) = a.do("peers")
    found["handshake"] = time.time() - peer["lastHandshake"] < 120
    found["bytes"] = [peer["rxBytes"] > FULL, peer["txBytes"] > FULL]
    found["bare"] = sh("ip netns exec b nft list table inet t").count("packets 0 ")
    found["spoofed"] = spoofed(b, a)

    a.end()
    found["without_agent"] = b.reaches(a)
    restarted = Host("a")
    restarted.key = restarted.do("key", new=False)
    found["untold"] = b.reaches(restarted)
    restarted.told_of(b)
    (now,) = restarted.do("peers")
    # A new peer counts from 0, and a new key needs a handshake, which is due every two minutes anyway.
    is_due = time.time() - peer["lastHandshake"] > 110
    found["session_kept"] = [
        now["rxBytes"] > peer["rxBytes"], is_due or now["lastHandshake"] == peer["lastHandshake"],
    ]  # fmt: skip
    a, old = restarted, a.key

    found["rotation"] = rotated_in_flow(a, b)
    found["new_key"] = a.key != old
    found["peers_of_b"] = len(b.do("peers"))
    found["by_ipv6"] = [
        a.told_of(b, by_ipv6=True), b.told_of(a, by_ipv6=True), a.reaches(b), b.reaches(a, size=FULL),
    ]  # fmt: skip

    found |= repaired(a, b)

    began = time.monotonic()
    a.told_of()
    found["forgotten_s"] = round(time.monotonic() - began, 1)
    found["after_it_left"] = a.reaches(b, within_s=2)
    found["peers_left"] = a.do("peers")
    a.do("clear")
    found["after_clear"] = [
        "wg-ecs" in sh("ip -n a link"),
        sh("ip -n a route show proto 236") + sh("ip -n a -6 route show proto 236"),
    ]
    secret = Path("/root/fleet-a/fleet.key").read_text().strip()
    found["secret_told"] = secret in json.dumps(found) + Path("/root/fleet-a/log").read_text()
    for each in (a, b):
        each.end()
    return found


if sys.argv[1:] == ["echo"]:
    echo()
elif sys.argv[1:] == ["flow"]:
    flow()
elif len(sys.argv) > 1:
    asyncio.run(host(sys.argv[1]))
else:
    sys.stdout.write(json.dumps(main()))
