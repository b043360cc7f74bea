"""Two controls over three nodes of etcd, simulated hosts and a stream of orders, and random faults: what is lost.

``python -m tests.chaos.etcd_fleet --minutes 10 --seed 1 --orders 20``

Controls and nodes are real processes; each control has an address of its own, as on a machine of its own. Hosts
answer as agents do and have no engine; hosts and operators call the other control when one does not answer, and wait
longer after each failure. Faults: kill -9 of the control
that leads, kill -9 of a node of etcd (its leader too), SIGSTOP of one, and a full etcd. In the end each order must
have come to exactly one host, exactly once, each stop must have been carried out, and every host must still be the
container instance that it was. Prints figures; exits with 1 if anything was lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from agent.model import changes as change_model
from agent.model.changes import ContainerChange, TaskChange
from agent.model.resources import HostResources
from agent.model.wire import (
    GENERATION_HEADER,
    HOST_KEY_HEADER,
    SESSION_HEADER,
    Assignments,
    Register,
    Registered,
)
from tests.support import etcd_nodes
from tests.support.control_endpoint import CAPABILITIES, definition
from tests.support.fleet import Control, free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOSTS: Final = 20
QUOTA: Final = 64 << 20
LIVES_S: Final = 4.0
"""How long a task runs before it is stopped."""
SETTLES_S: Final = 90.0
AT_ONCE: Final = 50
"""Calls that operators make at once, as they do with a pool of connections; what comes meanwhile waits with them."""
_RETRY_S: Final = 0.2
_RETRY_MOST_S: Final = 20.0
"""As in SDKs of AWS."""
_TARGET: Final = "AmazonEC2ContainerServiceV20141113."
_GONE: Final = (400, 404, 409, 410)

_ids = itertools.count()


class Patience:
    """Waits between tries of one call: longer after each, and not all callers alike."""

    def __init__(self) -> None:
        self._most_s = _RETRY_S

    async def wait(self) -> None:
        """Return when it is time for the next try."""
        await asyncio.sleep(random.uniform(_RETRY_S / 2, self._most_s))
        self._most_s = min(2 * self._most_s, _RETRY_MOST_S)


class Caller:
    """Makes calls of control, of whichever one answers."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.session = session
        self._urls = urls
        """First the one that is called."""
        self.repeated = 0
        self.took_s: dict[str, list[float]] = defaultdict(list)
        """How long each call took until it was answered, by operation."""

    async def call(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Make a call once; returns its status and answer, 0 if there is none."""
        url = self._urls[0]
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self.session.request(
                method, url + path, data=body, headers=headers
            ) as answer:
                return answer.status, await answer.read()
        if self._urls[0] == url:  # Of many calls that fail at once, the first one turns.
            self._urls.append(self._urls.pop(0))
        return 0, b""

    async def ecs(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make a call of the ECS API; one of unknown outcome is repeated."""
        headers = {
            "X-Amz-Target": _TARGET + operation,
            "Content-Type": "application/x-amz-json-1.1",
        }
        began, patience = time.monotonic(), Patience()
        while True:
            status, text = await self.call("POST", "/", json.dumps(body).encode(), headers)
            if status == 200:
                self.took_s[operation].append(time.monotonic() - began)
                told: dict[str, Any] = json.loads(text)
                return told
            assert status == 0 or status >= 500 or b"ThrottlingException" in text, (operation, text)
            self.repeated += 1
            await patience.wait()

    async def answers(self) -> bool:
        """Tell whether a control answers."""
        return (await self.call("GET", "/healthz", b"", {}))[0] == 200


class Host:
    """One simulated host."""

    def __init__(self, caller: Caller, number: int) -> None:
        self._caller = caller
        self._number = number
        self._headers: dict[str, str] = {}
        self.arns: set[str] = set()
        """Of the container instances that it has been: more than one is a fault."""
        self.started: Counter[str] = Counter()
        self.started_at: dict[str, float] = {}
        """When each task came, on the monotonic clock."""
        self.stopped: set[str] = set()
        self._work: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Register, poll and obey, until cancelled."""
        await self._register()
        after, patience = 0, Patience()
        while True:
            path = f"/assignments?after={after}&wait=20&credentials=0"
            status, body = await self._call("GET", path, b"")
            if status == 200:
                told = msgspec.json.decode(body, type=Assignments)
                after, patience = told.revision, Patience()
                for order in told.tasks:
                    self._obey(order.task_arn, order.desired_status)
            elif b"RevisionCompacted" in body:
                after = 0
            elif status in _GONE:
                await self._register()
            elif status != 204:
                await patience.wait()

    def _obey(self, arn: str, desired: str) -> None:
        if desired == "STOPPED":
            if arn not in self.stopped:
                self.stopped.add(arn)
                self._start(self._report(arn, "STOPPED"))
        elif arn not in self.started:
            self.started[arn] += 1
            self.started_at[arn] = time.monotonic()
            self._start(self._report(arn, "RUNNING"))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _report(self, arn: str, status: str) -> None:
        container = ContainerChange(
            container_name="main",
            status=status,
            runtime_id=f"{next(_ids):064x}",
            exit_code=0 if status == "STOPPED" else None,
        )
        change = TaskChange(
            id=f"c-{next(_ids)}",
            task_arn=arn,
            status=status,
            at=time.time(),
            containers=[container],
        )
        body, patience = b'{"changes":[' + change_model.encode(change) + b"]}", Patience()
        while True:
            answered, told = await self._call("POST", "/changes", body)
            if answered == 200 and b'"retry"' not in told:
                return
            await patience.wait()

    async def _register(self) -> None:
        number = self._number
        call = Register(
            cluster="default",
            client_token=f"host-{number}",
            process_id=f"process-{number}",
            machine_id=f"machine-{number}",
            machine_key=f"{number:032}",
            agent_version="1.2.3",
            attributes=CAPABILITIES | {"ecs.os-type": "linux", "ecs.cpu-architecture": "x86_64"},
            resources=HostResources(
                cpu_units=65_536,
                memory_mib=131_072,
                hostname=f"host-{number}",
                boot_id=f"boot-{number}",
            ),
        )
        key, patience = {HOST_KEY_HEADER: f"{number:064}"}, Patience()
        while True:
            self._headers = key
            status, body = await self._call("POST", None, msgspec.json.encode(call))
            if status == 200:
                break
            await patience.wait()
        told = msgspec.json.decode(body, type=Registered)
        self.arns.add(told.instance_arn)
        self._headers = key | {
            GENERATION_HEADER: str(told.generation),
            SESSION_HEADER: told.session,
        }

    async def _call(self, method: str, path: str | None, body: bytes) -> tuple[int, bytes]:
        place = "/v1/instances"
        if path is not None:
            place += "/" + next(iter(self.arns)).rpartition("/")[2] + path
        return await self._caller.call(method, place, body, self._headers)


class Faults:
    """Breaks one thing after the other."""

    def __init__(
        self, cluster: etcd_nodes.Etcd, controls: list[Control], caller: Caller, seed: int
    ) -> None:
        self._cluster = cluster
        self._controls = controls
        self._caller = caller
        self._source = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.away_s: list[float] = []
        """How long control was away each time that the one that led was killed."""

    async def supervise(self) -> None:
        """Start controls that have ended by themselves again, as their service does."""
        while True:
            await asyncio.sleep(0.5)
            for control in self._controls:
                if control.popen is not None and not control.is_alive():
                    self.done["control started again"] += 1
                    await asyncio.sleep(2)
                    control.start()

    async def run(self, until: float) -> None:
        """Break things until a time, and leave nothing broken."""
        kinds: list[Callable[[], Awaitable[None]]]
        kinds = [self.kill_control, self.kill_node, self.kill_leader, self.stop_node, self.fill]
        while time.monotonic() < until:
            await asyncio.sleep(self._source.uniform(3, 8))
            kind = self._source.choice(kinds)
            began = time.monotonic()
            await kind()
            self.done[kind.__name__] += 1
            sys.stderr.write(
                f"{time.strftime('%H:%M:%S')} {kind.__name__}: {time.monotonic() - began:.1f} s\n"
            )

    async def kill_control(self) -> None:
        """Kill the control that leads; it comes back and stands by."""
        leading = await asyncio.to_thread(self._leading)
        await asyncio.to_thread(leading.kill)
        began = time.monotonic()
        await asyncio.sleep(1)
        leading.start()
        while not await self._caller.answers():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.05)
        self.away_s.append(time.monotonic() - began)

    async def kill_node(self) -> None:
        """Kill a node of etcd."""
        await self._killed(self._source.choice(self._cluster.nodes))

    async def kill_leader(self) -> None:
        """Kill the node of etcd that leads."""
        await self._killed(await asyncio.to_thread(self._cluster.leader))

    async def _killed(self, node: etcd_nodes.EtcdNode) -> None:
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(self._source.uniform(0.5, 3))
        node.start()
        await asyncio.to_thread(node.wait_until_up)

    async def stop_node(self) -> None:
        """Have a node of etcd hang."""
        node = self._source.choice(self._cluster.nodes)
        node.stop()
        await asyncio.sleep(self._source.uniform(1, 5))
        node.go_on()

    async def fill(self) -> None:
        """Fill etcd with keys of somebody else, who then deletes them."""
        node = await asyncio.to_thread(self._cluster.leader)
        url = f"http://{node.host}/v3/kv"
        for number in range(200):
            body = {"key": _b64(f"/junk/{number}"), "value": _b64("x" * 700_000)}
            status, _ = await self._post(f"{url}/put", body)
            if status != 200:
                break
        await asyncio.sleep(2)
        for _ in range(20):
            status, _ = await self._post(
                f"{url}/deleterange", {"key": _b64("/junk/"), "range_end": _b64("/junk0")}
            )
            if status == 200:
                return
            await asyncio.sleep(0.5)

    async def _post(self, url: str, body: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with self._caller.session.post(url, json=body) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, b""

    def _leading(self) -> Control:
        """Return the control that serves: the one that has said so since its last start."""
        return next((one for one in self._controls if _serves(one)), self._controls[0])


def _serves(control: Control) -> bool:
    text = control.log.read_text(errors="replace")
    return text.rfind("control endpoint ready") > text.rfind("standing by")


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Orders:
    """A stream of orders, each with a token, and their ends."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._places = asyncio.Semaphore(AT_ONCE)
        self.arns: dict[str, str] = {}
        """The task of each order."""
        self.given_at: dict[str, float] = {}
        """When the order for each task was given, on the monotonic clock."""

    async def run(self, per_s: float, until: float) -> None:
        """Give orders until a time; returns when all are answered and stopped."""
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if time.monotonic() >= until:
                    return
                group.create_task(self._one(f"order-{number}"))
                await asyncio.sleep(1 / per_s)

    async def _one(self, token: str) -> None:
        began = time.monotonic()
        body = {"taskDefinition": "web", "clientToken": token, "startedBy": token}
        while True:
            async with self._places:
                answer = await self._caller.ecs("RunTask", body)
            if answer["tasks"]:
                break
            # No host was connected at that time; nothing was made, so the order is given anew.
            token += "+"
            body |= {"clientToken": token, "startedBy": token}
            await asyncio.sleep(1)
        (task,) = answer["tasks"]
        self.arns[token] = task["taskArn"]
        self.given_at[task["taskArn"]] = began
        await asyncio.sleep(LIVES_S)
        async with self._places:
            await self._caller.ecs("StopTask", {"task": task["taskArn"]})


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
