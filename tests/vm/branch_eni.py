"""Run on a booted host: place a branch ENI in a namespace, use it, take it back. Prints JSON.

Its trunk is one end of a veth; the other end, in the namespace ``router``, has the same VLAN.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.append("/opt/ecs-agent/lib")

from agent.model.eni import TaskEni
from agent.network.eni import placing

NETNS, OWN = Path("/run/netns/task"), Path("/proc/self/ns/net")
TRUNK = "06:00:00:00:00:01"
ENI = TaskEni(
    mac="06:00:00:00:00:02", eni_id="eni-1", ipv4=("10.7.0.5",), ipv4_prefix_len=24,
    ipv4_gateway="10.7.0.1", ipv6=("2001:db8::5",), ipv6_gateway="2001:db8::1", vlan_id=12,
    trunk_mac=TRUNK,
)  # fmt: skip


def sh(line: str) -> str:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{line}: {done.stderr}")
    return done.stdout


def build() -> None:
    sh("ip netns add router")
    sh("ip netns add task")
    sh(f"ip link add trunk0 address {TRUNK} mtu 9001 type veth peer name t0 mtu 9001 netns router")
    sh("ip -n router link set t0 up")
    sh("ip -n router link add link t0 name t0.12 type vlan id 12")
    sh("ip -n router addr add 10.7.0.1/24 dev t0.12")
    sh("ip -n router addr add 2001:db8::1/64 dev t0.12 nodad")
    sh("ip -n router link set t0.12 up")


async def main() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with NETNS.open("rb") as task, OWN.open("rb") as own:  # noqa: ASYNC230 - nothing else runs
        for _ in range(2):
            async with placing.sockets(task.fileno()) as (host, inner):
                await placing.place(host, inner, task.fileno(), ENI)
        link = json.loads(sh("ip -n task -d -j link show eth0"))[0]
        found["vlan"] = link["linkinfo"]["info_data"]["id"]
        found["mac"], found["mtu"] = link["address"], link["mtu"]
        for address in ("10.7.0.1", "2001:db8::1"):
            sh(f"ip netns exec task busybox ping -c 1 -W 10 {address}")
        async with placing.sockets(task.fileno()) as (host, inner):
            found["serves"] = await placing.serves(inner, ENI)
            found["returned"] = await placing.take_back(host, inner, own.fileno(), ENI)
            found["again"] = await placing.take_back(host, inner, own.fileno(), ENI)
    found["left"] = sh("ip -n task -o link").count("eth0")
    return found


build()
sys.stdout.write(json.dumps(asyncio.run(main())))
