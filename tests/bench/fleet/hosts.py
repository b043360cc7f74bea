"""Simulated hosts: each registers, holds a long poll over its own connection, and reports what it was told to do.

They answer as an agent does: every order is taken, a task runs or ends a moment later, and each of that is reported.
What they do not have is an engine.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import TYPE_CHECKING, Final

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
from tests.bench.fleet.wire import Line, Pool, request
from tests.support.control_endpoint import CAPABILITIES
from tests.support.fleet import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

REPORTING_LINES: Final = 32
"""Connections over which all hosts register and report."""
LAUNCH_S: Final = (0.2, 0.6)
"""How long a container takes to start, least and most; on one machine a Docker Engine takes as long."""
ZONES: Final = 3
CPU_UNITS: Final = 65_536
MEMORY_MIB: Final = 131_072
_WAIT_S: Final = 30.0
"""How long an agent lets control hold a poll (``LongPollSettings.wait_s``)."""

_encode = msgspec.json.Encoder().encode
_told = msgspec.json.Decoder(Assignments)
_ids = itertools.count()


class Fleet:
    """All simulated hosts of one control."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._pool = Pool()
        self._pool.open(REPORTING_LINES, port)
        self.hosts = [Host(self, each) for each in range(number)]
        self.ordered: dict[str, float] = {}
        """When the order to start each task arrived at its host, by ARN; monotonic seconds."""
        self.running: dict[str, float] = {}
        """When the report of each task that runs was answered."""
        self.stopped: set[str] = set()
        self.polls = 0
        """How many polls were answered."""
        self.refused = 0
        self.changed = asyncio.Event()
        """Set by each report that was answered."""
        self._work: set[asyncio.Task[None]] = set()

    async def register(self, hosts: Sequence[Host]) -> float:
        """Register hosts; returns the seconds that it took. Have them poll soon: their leases run."""
        began = time.monotonic()
        await self._all(hosts, Host.register)
        return time.monotonic() - began

    async def open(self, hosts: Sequence[Host]) -> None:
        """Have hosts poll for ever; returns once each has had its first answer."""
        await self._all(hosts, lambda host: host.connect(self._port))

    async def _all(
        self, hosts: Sequence[Host], act: Callable[[Host], Coroutine[None, None, None]]
    ) -> None:
        """Have each host do something, a few at once: control closes connections of many strangers."""
        queue = iter(hosts)

        async def some() -> None:
            for host in queue:
                await act(host)

        async with asyncio.TaskGroup() as group:
            for _ in range(REPORTING_LINES):
                group.create_task(some())

    async def call(self, data: bytes) -> tuple[int, bytes]:
        """Make a call that is no poll."""
        return await self._pool.call(data)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Let something go on beside."""
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.refused += 1

    @property
    def are_told(self) -> bool:
        """Whether every host holds its second poll or a later one."""
        return all(host.revision for host in self.hosts)

    def close(self) -> None:
        """End everything."""
        for task in self._work:
            task.cancel()
        for host in self.hosts:
            host.close()
        self._pool.close()


class Host:
    """One host."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        self._number = number
        self._line = Line(self._take, self._fail)
        self._id = ""
        self._headers = ""
        self.revision = 0
        self._answered = asyncio.Event()
        self._closing = False

    async def register(self) -> None:
        """Register as an agent does."""
        number = self._number
        call = Register(
            cluster="default",
            client_token=f"host-{number}",
            process_id=f"process-{number}",
            machine_id=f"machine-{number}",
            machine_key=f"{number:032}",
            agent_version="1.2.3",
            attributes=CAPABILITIES
            | {
                "ecs.os-type": "linux",
                "ecs.cpu-architecture": "x86_64",
                "ecs.availability-zone": f"zone-{number % ZONES}",
                "rack": f"rack-{number // 20}",
            },
            resources=HostResources(
                cpu_units=CPU_UNITS,
                memory_mib=MEMORY_MIB,
                hostname=f"host-{number}",
                boot_id=f"boot-{number}",
            ),
        )
        headers = f"Authorization: Bearer {TOKEN}\r\n{HOST_KEY_HEADER}: {number:064}\r\n"
        status, body = await self._fleet.call(
            request("POST", "/v1/instances", headers, _encode(call))
        )
        assert status == 200, body
        told = msgspec.json.decode(body, type=Registered)
        self._id = told.instance_arn.rpartition("/")[2]
        self._headers = f"{headers}{GENERATION_HEADER}: {told.generation}\r\n{SESSION_HEADER}: {told.session}\r\n"

    async def connect(self, port: int) -> None:
        """Connect, and poll for the first time; returns once that is answered."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._line, "127.0.0.1", port)
        self._poll()
        await self._answered.wait()

    def close(self) -> None:
        """Close the connection."""
        self._closing = True
        self._line.close()

    def _poll(self) -> None:
        path = (
            f"/v1/instances/{self._id}/assignments?after={self.revision}&wait={_WAIT_S:g}"
            "&credentials=0"
        )
        self._line.send(request("GET", path, self._headers))

    def _take(self, status: int, body: bytes) -> None:
        self._fleet.polls += 1
        if status == 200:
            told = _told.decode(body)
            self.revision = told.revision
            self._answered.set()
            now = time.monotonic()
            for order in told.tasks:
                self._obey(order.task_arn, order.desired_status, now)
        elif status != 204:
            self._fleet.refused += 1
        self._poll()

    def _fail(self) -> None:
        if not self._closing:
            self._fleet.refused += 1

    def _obey(self, arn: str, desired: str, now: float) -> None:
        fleet = self._fleet
        if desired == "STOPPED":
            if arn not in fleet.stopped:
                fleet.stopped.add(arn)
                fleet.start(self._report(arn, "STOPPED", 0.0))
        elif arn not in fleet.ordered:
            fleet.ordered[arn] = now
            fleet.start(self._report(arn, "RUNNING", random.uniform(*LAUNCH_S)))

    async def _report(self, arn: str, status: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        container = ContainerChange(
            container_name="main",
            status=status,
            runtime_id=f"{next(_ids):064x}",
            exit_code=0 if status == "STOPPED" else None,
        )
        change = TaskChange(
            id=f"change-{next(_ids)}",
            task_arn=arn,
            status=status,
            at=time.time(),
            containers=[container],
        )
        body = b'{"changes":[' + change_model.encode(change) + b"]}"
        path = f"/v1/instances/{self._id}/changes"
        answered, told = await self._fleet.call(request("POST", path, self._headers, body))
        if answered != 200 or b'"ok"' not in told:
            self._fleet.refused += 1
        elif status == "RUNNING":
            self._fleet.running[arn] = time.monotonic()
        self._fleet.changed.set()
