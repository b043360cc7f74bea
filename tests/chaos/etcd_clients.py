"""Who calls the controls of an etcd fleet: simulated hosts, which answer as agents do, and operators with their orders."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from typing import Any, Final

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
from tests.support.control_endpoint import CAPABILITIES

LIVES_S: Final = 4.0
"""How long a task runs before it is stopped."""
AT_ONCE: Final = 50
"""Calls that operators make at once, as they do with a pool of connections; what comes meanwhile waits with them."""
_RETRY_S: Final = 0.2
_RETRY_MOST_S: Final = 5.0
_HOST_RETRY_MOST_S: Final = 2.0
"""As agents do."""
_TARGET: Final = "AmazonEC2ContainerServiceV20141113."
_GONE: Final = (400, 404, 409, 410)

_ids = itertools.count()


class Patience:
    """Waits between tries of one call: longer after each, and not all callers alike."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._most_s = _RETRY_S

    async def wait(self) -> None:
        """Return when it is time for the next try."""
        await asyncio.sleep(random.uniform(_RETRY_S / 2, self._most_s))
        self._most_s = min(2 * self._most_s, self._limit_s)


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
        began, patience = time.monotonic(), Patience(_RETRY_MOST_S)
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
        after, patience = 0, Patience(_HOST_RETRY_MOST_S)
        while True:
            path = f"/assignments?after={after}&wait=20&credentials=0"
            status, body = await self._call("GET", path, b"")
            if status == 200:
                told = msgspec.json.decode(body, type=Assignments)
                after, patience = told.revision, Patience(_HOST_RETRY_MOST_S)
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
        body, patience = (
            b'{"changes":[' + change_model.encode(change) + b"]}",
            Patience(_HOST_RETRY_MOST_S),
        )
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
        key, patience = {HOST_KEY_HEADER: f"{number:064}"}, Patience(_HOST_RETRY_MOST_S)
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
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                due = began + number / per_s
                if due >= until:
                    return
                await asyncio.sleep(due - time.monotonic())
                group.create_task(self._one(f"order-{number}"))

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
