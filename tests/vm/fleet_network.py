"""Run on a booted host: WireGuard between two namespaces, by the agent's own code. Prints JSON.

Started with the name of a namespace, it is the host in there: it takes what control would say as lines of
JSON, and answers each with a line.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append("/opt/ecs-agent/lib")

import msgspec

from agent.model.fleet import WIREGUARD, FleetHost, FleetPeer, FleetUpdate
from agent.network.fleet import keys
from agent.network.fleet.fleet import clear, open_fleet
from agent.network.kernel.netlink import NetlinkLane
from agent.network.settings import FleetSettings

FLEET = "10.208.0.0/16"
HOSTS = {"a": ("192.0.2.1", "10.208.0.0/24"), "b": ("192.0.2.2", "10.208.1.0/24")}
PORT, MTU = 51820, 1420


def gateway(name: str) -> str:
    return HOSTS[name][1].replace("0/24", "1")


def sh(line: str, *, check: bool = True) -> str:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"{line}: {done.stderr}")
    return done.stdout


async def host(name: str) -> None:
    """Be one host."""
    folder = Path(f"/root/fleet-{name}")
    folder.mkdir(exist_ok=True)
    lane = await NetlinkLane.open()
    fleet = None
    for line in sys.stdin:  # nothing else runs in this process
        order = json.loads(line)
        answer: Any = None
        if order["do"] == "key":
            key = keys.replace(folder) if order["new"] else keys.load(folder)
            fleet = await open_fleet(
                FleetSettings(
                    driver=WIREGUARD, range=HOSTS[name][1], fleet_range=FLEET, gateway=gateway(name),
                    port=PORT, public_key=key.public, private_key=key.private,
                ),
                lane, MTU,
            )  # fmt: skip
            answer = key.public
        elif order["do"] == "clear":
            await clear(lane)
        elif fleet is not None and order["do"] == "take":
            await fleet.take(msgspec.convert(order["update"], FleetUpdate))
            answer = fleet.problems
        elif fleet is not None and order["do"] == "repair":
            answer = await fleet.repair()
        elif fleet is not None:
            answer = [msgspec.to_builtins(peer) for peer in await fleet.peers()]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await lane.close()


class Host:
    """A host in a namespace, as another process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = ""
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-ISB", __file__, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def do(self, what: str, **more: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def told_of(self, *others: "Host") -> Any:
        """Tell it of all others, as control does."""
        peers = [
            FleetPeer(
                id=each.name,
                host=FleetHost(
                    driver=WIREGUARD, address=HOSTS[each.name][0], range=HOSTS[each.name][1],
                    port=PORT, public_key=each.key,
                ),
            )
            for each in others
        ]  # fmt: skip
        update = FleetUpdate(range=HOSTS[self.name][1], fleet_range=FLEET, peers=peers, full=True)
        return self.do("take", update=msgspec.to_builtins(update))

    def reaches(self, other: "Host", *, within_s: float = 20.0, size: int = 56) -> bool:
        """Return whether it does, from its own task address."""
        ping = f"ip netns exec {self.name} busybox ping -c 1 -W 1 -s {size} {gateway(other.name)}"
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if "1 packets received" in sh(ping, check=False):
                return True
            time.sleep(0.1)
        return False

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def build() -> None:
    for name in HOSTS:
        sh(f"ip netns add {name}")
    sh("ip link add lan netns a type veth peer name lan netns b")
    for name, (address, _) in HOSTS.items():
        for line in (
            f"addr add {address}/24 dev lan", "link set lan up", "link set lo up",
            f"addr add {gateway(name)}/32 dev lo",
        ):  # fmt: skip
            sh(f"ip -n {name} {line}")
    # What is between tasks must not be seen on the wire as it is.
    sh("ip netns exec b nft add table inet t")
    sh("ip netns exec b nft add chain inet t c { type filter hook prerouting priority 0 ; }")
    sh("ip netns exec b nft add rule inet t c iifname lan ip saddr 10.208.0.0/16 counter")


def main() -> dict[str, Any]:
    found: dict[str, Any] = {}
    build()
    a, b = Host("a"), Host("b")
    for each in (a, b):
        each.key = each.do("key", new=False)
    found["same_key_again"] = a.do("key", new=False) == a.key
    found["mode"] = oct(Path("/root/fleet-a/fleet.key").stat().st_mode & 0o777)
    found["problems"] = [a.told_of(b), b.told_of(a)]
    found["reached"] = [a.reaches(b), b.reaches(a), a.reaches(b, size=1300)]
    link = json.loads(sh("ip -n a -j link show wg-ecs"))[0]
    found["mtu"] = link["mtu"]
    (peer,) = a.do("peers")
    found["handshake"] = time.time() - peer["lastHandshake"] < 120
    found["bytes"] = [peer["rxBytes"] > 1300, peer["txBytes"] > 1300]
    found["bare"] = "packets 0 " in sh("ip netns exec b nft list table inet t")

    old, a.key = a.key, a.do("key", new=True)
    found["new_key"] = a.key != old
    # The device still has the old key: it changes when control has told the others.
    found["before_told"] = b.reaches(a)
    b.told_of(a)
    a.told_of(b)
    began = time.monotonic()
    found["after_rotation"] = b.reaches(a)
    found["rotation_s"] = round(time.monotonic() - began, 1)
    found["peers_of_b"] = len(b.do("peers"))

    sh("ip -n a link del wg-ecs")
    found["repaired"] = a.do("repair")
    found["after_repair"] = a.reaches(b)
    sh(f"ip -n a route del {HOSTS['b'][1]}")
    found["route_repaired"] = a.do("repair")
    found["nothing_left"] = a.do("repair")

    began = time.monotonic()
    a.told_of()
    found["forgotten_s"] = round(time.monotonic() - began, 1)
    found["after_it_left"] = a.reaches(b, within_s=2)
    found["peers_left"] = sh("ip netns exec a nft list tables") + json.dumps(a.do("peers"))
    a.do("clear")
    found["after_clear"] = ["wg-ecs" in sh("ip -n a link"), sh("ip -n a route show proto 236")]
    for each in (a, b):
        each.end()
    return found


if len(sys.argv) > 1:
    asyncio.run(host(sys.argv[1]))
else:
    sys.stdout.write(json.dumps(main()))
