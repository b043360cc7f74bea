"""What it costs to connect one sandbox, beside the same steps done with ``ip`` and ``nft``.

A namespace is made beforehand, by both ways alike; a step begins with it and ends when a packet could
pass: the pair of links, address and routes, the port on the bridge, its neighbours and its rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from agent.network.address_pool import AddressPool
from agent.network.addresses import link_name_of, mac_of
from agent.network.bridge.driver import BridgeDriver
from agent.network.bridge.links import HostLinks, SandboxLink, bridge_port_of
from agent.network.drivers.opening import DriverParts, open_driver
from agent.network.kernel.netlink import NetlinkLane
from agent.network.settings import NetworkSettings
from tests.bench.measures import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS = NetworkSettings(
    owner="bench", pool_cidr="10.219.244.0/24", bridge="ecs-bench1", table="ecs_bench_plumbing",
    mtu=1500,
)  # fmt: skip
_P50_MS, _P99_MS = 8.0, 25.0


async def plumbing(rounds: int) -> list[Row]:
    """Connect ``rounds`` sandboxes each way, in turn, and return median and worst of a hundred."""
    pool = AddressPool(_SETTINGS.pool_cidr, quarantine_s=0)
    with ThreadPoolExecutor(1) as files:
        lane = await NetlinkLane.open()
        driver = await open_driver(
            DriverParts(_SETTINGS, lane, HostLinks(lane, _SETTINGS.bridge), pool, files)
        )
        assert isinstance(driver, BridgeDriver)
        try:
            await driver.ensure([])
            driver.rules.ensure(driver.layout([]), [])
            ours, floor = [], []
            for _ in range(rounds):
                link = _link(pool)
                with _namespace() as (_, netns):
                    began = time.perf_counter()
                    await asyncio.to_thread(driver.rules.admit, bridge_port_of(link))
                    await driver.attach(netns, link)
                    ours.append((time.perf_counter() - began) * 1000)
                    await driver.detach(link.host_interface)
                    driver.rules.dismiss(link.host_interface)
                with _namespace() as (pid, _):
                    began = time.perf_counter()
                    await asyncio.to_thread(_by_commands, pid, link)
                    floor.append((time.perf_counter() - began) * 1000)
                    await driver.detach(link.host_interface)
                pool.give_back(link.ipv4, 0)
        finally:
            await driver.remove()
            driver.rules.remove()
            await lane.close()
    return [
        _row(
            "connect one sandbox, p50", statistics.median(ours), statistics.median(floor), _P50_MS
        ),
        _row("connect one sandbox, p99", _p99(ours), _p99(floor), _P99_MS),
    ]


def _row(what: str, ours_ms: float, floor_ms: float, limit_ms: float) -> Row:
    return Row(
        what, f"{ours_ms:.1f} ms", f"{floor_ms:.1f} ms (ip, nft)", ours_ms / floor_ms,
        f"{limit_ms:g} ms", ours_ms <= limit_ms,
    )  # fmt: skip


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def _link(pool: AddressPool) -> SandboxLink:
    ipv4 = pool.take(0)
    return SandboxLink(
        link_name_of(ipv4), mac_of(ipv4), ipv4, pool.prefix_len, pool.gateway, _SETTINGS.mtu
    )


@contextlib.contextmanager
def _namespace() -> Iterator[tuple[int, int]]:
    """Yield process and descriptor of a new network namespace."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 60"], stdout=-1) as held:
        assert held.stdout is not None
        held.stdout.read(1)
        netns = os.open(f"/proc/{held.pid}/ns/net", os.O_RDONLY)
        try:
            yield held.pid, netns
        finally:
            os.close(netns)
            held.kill()


def _by_commands(pid: int, link: SandboxLink) -> None:
    """Do the same with the fewest commands: two batches of ``ip``, one of ``bridge``, one ``nft``."""
    name, bridge = link.host_interface, _SETTINGS.bridge
    element = f"{{ {name} . {link.mac} . {link.ipv4} }}"
    _run("nft", "add", "element", "bridge", _SETTINGS.table, "ports", element)
    _batch(
        ["ip", "-batch", "-"],
        f"link add {name} mtu {link.mtu} type veth peer name eth0 address {link.mac} "
        f"mtu {link.mtu} netns {pid}",
        f"link set {name} master {bridge} addrgenmode none",
        f"link set {name} type bridge_slave learning off flood off mcast_flood off locked on",
        f"neigh replace {link.ipv4} lladdr {link.mac} dev {bridge} nud permanent",
        f"link set {name} up",
    )
    _batch(["bridge", "-batch", "-"], f"fdb replace {link.mac} dev {name} master static")
    _batch(
        ["nsenter", "-t", str(pid), "-n", "ip", "-batch", "-"],
        "link set eth0 addrgenmode none",
        f"addr add {link.ipv4}/{link.prefix_len} dev eth0",
        "link set eth0 up",
        f"route replace default via {link.gateway} dev eth0",
    )


def _batch(command: list[str], *lines: str) -> None:
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
