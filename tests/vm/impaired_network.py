"""Run on a booted host: delay and lose packets of a namespace and of the host. Prints JSON."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

sys.path.append("/opt/ecs-agent/lib")

from agent.errors import NetworkFailure
from agent.network.faults.fault import Impairment, Kind
from agent.network.faults.injection import AlreadyRunning, FaultPlace, Faults
from agent.network.kernel import namespaces
from agent.resources.inventory import impairs_networks, makes_vlans

PEER, OTHER, PEER6, OWN = "10.9.0.1", "10.9.0.3", "2001:db8::1", "10.9.0.2"
DELAY_MS = 700
FLOWS = 300
PORT = 5000
TABLE = "ecs_vm"


def sh(line: str, *, check: bool = True) -> str:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False, timeout=90)
    if check and done.returncode != 0:
        raise RuntimeError(f"{line}: {done.stderr}")
    return done.stdout


class Task:
    """A namespace with an ``eth0`` whose other end is the host's ``peer0``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        self.pid = self._process.pid
        own = Path("/proc/self/ns/net").stat().st_ino
        while Path(f"/proc/{self.pid}/ns/net").stat().st_ino == own:
            time.sleep(0.1)
        self.place = FaultPlace(self.pid)
        sh(f"ip link add peer0 type veth peer name eth0 netns {self.pid}")
        for line in (
            f"addr add {PEER}/24 dev peer0", f"addr add {OTHER}/24 dev peer0",
            f"addr add {PEER6}/64 dev peer0 nodad", "link set peer0 up",
        ):  # fmt: skip
            sh(f"ip {line}")
        for line in (
            f"addr add {OWN}/24 dev eth0", "addr add 2001:db8::2/64 dev eth0 nodad",
            "link set eth0 up", "link set lo up",
        ):  # fmt: skip
            self.sh(f"ip {line}")

    def sh(self, line: str, *, check: bool = True) -> str:
        return sh(f"nsenter --net=/proc/{self.pid}/ns/net {line}", check=check)

    def ping(self, address: str) -> list[float]:
        """Return how long each of three packets took that came back, in ms."""
        done = self.sh(f"busybox ping -c 3 -W 4 {address}", check=False)
        return [float(found) for found in re.findall(r"time=([\d.]+) ms", done)]

    def arriving(self) -> int:
        """Send datagrams from as many ports; return how many arrive."""

        def opened() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        with opened() as server, Path(f"/proc/{self.pid}/ns/net").open("rb") as netns:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            server.bind((PEER, PORT))
            server.settimeout(2)
            for _ in range(FLOWS):
                with namespaces.inside(netns.fileno(), opened) as client:
                    client.sendto(b"x", (PEER, PORT))
            arrived = 0
            while True:
                try:
                    server.recv(10)
                except TimeoutError:
                    return arrived
                arrived += 1

    def traces(self) -> list[str]:
        """Return what is left of faults."""
        left = self.sh("tc qdisc show dev eth0") + self.sh("nft list tables")
        return [line for line in left.splitlines() if "noqueue" not in line]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def loss(*networks: str, **more: Any) -> Impairment:
    destinations = tuple(map(ip_network, networks))
    return Impairment(kind=Kind.LOSS, destinations=destinations, **more)


async def latency(task: Task, found: dict[str, Any]) -> None:
    faults = Faults(TABLE)
    to_peer = Impairment(
        kind=Kind.LATENCY, destinations=(ip_network(PEER), ip_network("2001:db8::/64")),
        delay_ms=DELAY_MS,
    )  # fmt: skip
    await faults.start_impairment(task.place, to_peer)
    found["delayed"] = [min(task.ping(address), default=0.0) for address in (PEER, PEER6)]
    found["not_delayed"] = min(task.ping(OTHER))
    found["seen_by_another"] = await Faults(TABLE).impairment(task.place)
    try:
        await faults.start_impairment(task.place, loss("0.0.0.0/0", loss_percent=100))
    except AlreadyRunning as error:
        found["refused_for"] = error.kind
    await faults.stop_impairment(task.place, Kind.LOSS)
    found["after_the_wrong_stop"] = await faults.impairment(task.place)
    for _ in range(2):
        await faults.stop_impairment(task.place, Kind.LATENCY)
    found["after_latency"] = task.traces()


async def losses(task: Task, found: dict[str, Any]) -> None:
    faults = Faults(TABLE)
    all_but_one = loss("0.0.0.0/0", "::/0", loss_percent=100, spared=(ip_network(OTHER),))
    await faults.start_impairment(task.place, all_but_one)
    found["lost"] = [len(task.ping(address)) for address in (PEER, PEER6)]
    found["spared"] = len(task.ping(OTHER))
    await faults.remove_all(task.place)
    found["after_loss"] = task.traces()
    for name, fault in (
        ("arriving_of_flows", loss("10.9.0.0/24", loss_percent=100, flows_percent=30)),
        ("arriving_of_packets", loss("10.9.0.0/24", loss_percent=50)),
    ):
        await faults.start_impairment(task.place, fault)
        found[name] = task.arriving() / FLOWS
        await faults.stop_impairment(task.place, Kind.LOSS)


async def others(task: Task, found: dict[str, Any]) -> None:
    faults, host = Faults(TABLE), FaultPlace()
    task.sh("tc qdisc add dev eth0 root handle 7: prio")
    try:
        await faults.start_impairment(task.place, loss(PEER, loss_percent=1))
    except NetworkFailure as error:
        found["foreign"] = str(error)
    task.sh("tc qdisc del dev eth0 root")
    found["after_foreign"] = task.traces()
    sh(f"ip route add default via {OWN} dev peer0 metric 1")
    await faults.start_impairment(host, loss(OWN, loss_percent=1))
    found["host"] = await faults.impairment(host)
    await faults.remove_all(host)
    found["after_host"] = [await faults.impairment(host), "netem" in sh("tc qdisc show")]


async def main() -> dict[str, Any]:
    kernel = os.uname().release
    found: dict[str, Any] = {
        "able": [impairs_networks(Path("/"), kernel), makes_vlans(Path("/"), kernel)]
    }
    task = Task()
    try:
        for part in (latency, losses, others):
            await part(task, found)
    finally:
        task.end()
    return found


sys.stdout.write(json.dumps(asyncio.run(main())))
