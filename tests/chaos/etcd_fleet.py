"""Two controls over three nodes of etcd, simulated hosts and a stream of orders, and random faults: what is lost.

``python -m tests.chaos.etcd_fleet --minutes 10 --seed 1 --orders 20``

Controls and nodes are real processes; each control has an address of its own, as on a machine of its own. Hosts
answer as agents do and have no engine; hosts and operators call the other control when one does not answer, and wait
longer after each failure. Faults: kill -9 of the control that leads, kill -9 of a node of etcd (its leader too),
SIGSTOP of one, and a full etcd. In the end each order must have come to exactly one host, exactly once, each stop
must have been carried out, and every host must still be the container instance that it was. Prints figures; exits
with 1 if anything was lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import aiohttp

from tests.chaos.etcd_clients import Caller, Host, Orders
from tests.chaos.etcd_faults import Faults
from tests.support import etcd_nodes
from tests.support.control_endpoint import definition
from tests.support.fleet import Control, free_port

HOSTS: Final = 20
QUOTA: Final = 64 << 20
SETTLES_S: Final = 90.0


async def main(minutes: float, seed: int, per_s: float, directory: Path | None) -> int:
    """Run it, print the figures, and return the exit code."""
    with contextlib.ExitStack() as stack:
        if directory is None:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="ecs-etcd-fleet-"))
            directory = Path(name)
        options = ("--quota-backend-bytes", str(QUOTA))
        cluster = stack.enter_context(etcd_nodes.running(3, options=options))
        return await _main(directory, cluster, minutes, seed, per_s)


async def _main(
    directory: Path, cluster: etcd_nodes.Etcd, minutes: float, seed: int, per_s: float
) -> int:
    controls = [_control(name, directory, cluster) for name in ("a", "b")]
    timeout = aiohttp.ClientTimeout(total=40, sock_connect=2)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        caller = Caller(session, [control.url for control in controls])
        hosts = [Host(caller, number) for number in range(HOSTS)]
        faults, orders = Faults(cluster, controls, caller, seed), Orders(caller)
        try:
            for control in controls:
                control.start()
                await asyncio.sleep(2)
            await asyncio.to_thread(controls[0].ready)
            await caller.ecs("CreateCluster", {})
            small = {"name": "main", "image": "img", "cpu": 64, "memory": 64}
            await caller.ecs("RegisterTaskDefinition", definition(containerDefinitions=[small]))
            polling = [asyncio.create_task(host.run()) for host in hosts]
            await asyncio.sleep(3)
            polling.append(asyncio.create_task(faults.supervise()))
            until = time.monotonic() + minutes * 60
            polling.append(asyncio.create_task(_tell(orders, until)))
            async with asyncio.TaskGroup() as group:
                group.create_task(faults.run(until))
                group.create_task(orders.run(per_s, until))
            found = await _settled(caller, hosts, orders)
            for task in polling:
                task.cancel()
            await asyncio.gather(*polling, return_exceptions=True)
        finally:
            for control in controls:
                await asyncio.to_thread(control.kill)
    figures = {
        "minutes": minutes,
        "seed": seed,
        "orders": len(orders.arns),
        "faults": dict(faults.done),
        "control away, s, longest": round(max(faults.away_s, default=0.0), 2),
        "calls repeated": caller.repeated,
        "RunTask, s": _spread(caller.took_s["RunTask"]),
        "StopTask, s": _spread(caller.took_s["StopTask"]),
        "order until its host has it, s": _spread(_until_hosts(hosts, orders)),
        **found,
    }
    print(json.dumps(figures, indent=2))  # noqa: T201 - the answer
    return 1 if any(found.values()) else 0


def _control(name: str, directory: Path, cluster: etcd_nodes.Etcd) -> Control:
    port = free_port()
    words = ["control", "--listen", f"127.0.0.1:{port}", "--data-dir", str(directory / name)]
    words += ["--open", "--store", cluster.address("/fleet")]
    environment = {"ECS_CONTROL_ETCD_QUOTA": str(QUOTA)}
    return Control(name, words, directory, environment, port=port)


async def _tell(orders: Orders, until: float) -> None:
    """Tell every ten seconds how far it is."""
    while True:
        await asyncio.sleep(10)
        left_s = max(0, until - time.monotonic())
        sys.stderr.write(
            f"{time.strftime('%H:%M:%S')} {left_s:.0f} s left: {len(orders.arns)} orders answered\n"
        )


def _until_hosts(hosts: list[Host], orders: Orders) -> list[float]:
    """Return how long each order took from its first call until its host had it."""
    return [
        at - orders.given_at[arn]
        for host in hosts
        for arn, at in host.started_at.items()
        if arn in orders.given_at
    ]


def _spread(times_s: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum."""
    ordered = sorted(times_s) or [0.0]
    places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "most": -1}
    return {name: round(ordered[place], 3) for name, place in places.items()}


async def _settled(caller: Caller, hosts: list[Host], orders: Orders) -> dict[str, int]:
    """Wait until everything has ended, and return what is wrong."""
    wanted = set(orders.arns.values())
    deadline = time.monotonic() + SETTLES_S
    while time.monotonic() < deadline:
        left = await caller.ecs("ListTasks", {})
        if not left["taskArns"]:
            break
        await asyncio.sleep(1)
    started: Counter[str] = Counter()
    for host in hosts:
        started += host.started
    stopped = {arn for host in hosts for arn in host.stopped}
    registered = await caller.ecs("ListContainerInstances", {})
    return {
        # One that is stopped before its host got it only comes as a stop.
        "orders that came to no host": len(wanted - started.keys() - stopped),
        "orders that came twice": sum(count > 1 for count in started.values()),
        "tasks of no order": len((started.keys() | stopped) - wanted),
        "orders with the same task": len(orders.arns) - len(wanted),
        "stops that were not carried out": len(wanted - stopped),
        "tasks left": len(left["taskArns"]),
        "hosts that became others": sum(len(host.arns) != 1 for host in hosts),
        "hosts unregistered": HOSTS - len(registered["containerInstanceArns"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--orders", type=float, default=20, help="in a second")
    parser.add_argument("--directory", type=Path, help="for logs of controls, which stay")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.minutes, given.seed, given.orders, given.directory)))
