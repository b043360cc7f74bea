"""A real control endpoint on a free port, and a scripted agent that speaks the wire to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from agent.controlplane.server.serving import serve
from agent.controlplane.server.settings import ControlSettings
from agent.model import changes as change_model
from agent.model.changes import ContainerChange, TaskChange
from agent.model.resources import Gpu, HostResources
from agent.model.wire import (
    GENERATION_HEADER,
    HOST_KEY_HEADER,
    SESSION_HEADER,
    Assignments,
    Changes,
    ChangesAnswer,
    Register,
    Registered,
)
from tests.support.ecs_shapes import TARGET_PREFIX, errors_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_encode = msgspec.json.Encoder().encode
_tokens = itertools.count(1)
_change_ids = itertools.count(1)


class ApiFailure(Exception):
    """An error response of the ECS API."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.name = body.get("__type", "")
        self.message = body.get("message", "")


class Endpoint:
    """A running control endpoint and a client of its ECS API."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make one ECS API call."""
        headers = {
            "X-Amz-Target": f"{TARGET_PREFIX}.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        async with self.session.post(self.url, data=_encode(request), headers=headers) as answer:
            body: dict[str, Any] = msgspec.json.decode(await answer.read())
            if answer.status != 200:
                failure = ApiFailure(answer.status, body)
                assert failure.name in errors_of(operation), "an error that this call does not have"
                raise failure
            return body

    async def task(self, arn: str, **more: Any) -> dict[str, Any]:
        """Describe one task."""
        (task,) = (await self.call("DescribeTasks", tasks=[arn], **more))["tasks"]
        shown: dict[str, Any] = task
        return shown


@contextlib.asynccontextmanager
async def control_endpoint(data_dir: Path, **settings: Any) -> AsyncIterator[Endpoint]:
    """Run a control endpoint; it must stop within two seconds when told to.

    The setting ``reload`` is an event that makes it read its token file again.
    """
    reload: asyncio.Event | None = settings.pop("reload", None)
    address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    values: dict[str, Any] = {"listen": "127.0.0.1:0", "data_dir": data_dir}
    told = ControlSettings(**(values | settings))
    async with asyncio.TaskGroup() as group:
        server = group.create_task(
            serve(
                told,
                ready=lambda host, port: address.set_result((host, port)),
                stop=stop,
                reload=reload,
            )
        )
        server.add_done_callback(lambda _: address.cancel())
        host, port = await address
        async with aiohttp.ClientSession() as session:
            try:
                yield Endpoint(f"http://{host}:{port}", session)
            finally:
                began = time.monotonic()
                stop.set()
                await server
                assert time.monotonic() - began < 2.0


class ScriptedAgent:
    """Speaks the wire like an agent, but does only what a test says."""

    def __init__(
        self, endpoint: Endpoint, *, token: str = "", key: str = "", **register: Any
    ) -> None:
        """Without ``key``, it is an agent of the time before host keys."""
        self._endpoint = endpoint
        self._carried = {"Authorization": f"Bearer {token}"} if token else {}
        self._carried |= {HOST_KEY_HEADER: key} if key else {}
        resources = HostResources(
            cpu_units=2048,
            memory_mib=2048,
            reserved_tcp=frozenset({22}),
            hostname="host-1",
            architecture="x86_64",
            gpus=register.pop("gpus", ()),
        )
        self.info: dict[str, Any] = {
            "cluster": "default",
            "client_token": f"token-{next(_tokens)}",
            "resources": resources,
            "attributes": CAPABILITIES,
            "agent_version": "1.2.3",
        } | register
        self.arn = ""
        self.generation = 0
        self.revision = 0
        self.held: dict[str, str] = {}

    @property
    def id(self) -> str:
        """Id of the instance."""
        return self.arn.rsplit("/", 1)[-1]

    async def register(self, **more: Any) -> Registered:
        """Register; later calls have the new generation."""
        status, body = await self.send("POST", "/v1/instances", Register(**(self.info | more)))
        assert status == 200, body
        answer = msgspec.json.decode(body, type=Registered)
        self.arn, self.generation = answer.instance_arn, answer.generation
        self._carried.pop(SESSION_HEADER, None)
        self._carried |= {SESSION_HEADER: answer.session} if answer.session else {}
        return answer

    @property
    def shown(self) -> dict[str, str]:
        """Headers that show control whose calls these are."""
        return {GENERATION_HEADER: str(self.generation)} | self._carried

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        generation: int | None = None,
    ) -> tuple[int, bytes]:
        """Make one call; the body is encoded unless it is bytes."""
        data = body if body is None or isinstance(body, bytes) else _encode(body)
        number = self.generation if generation is None else generation
        async with self._endpoint.session.request(
            method,
            f"{self._endpoint.url}{path}",
            data=data,
            headers=self.shown | {GENERATION_HEADER: str(number)} | (headers or {}),
        ) as answer:
            return answer.status, await answer.read()

    async def poll(self, *, wait_s: int = 5, after: int | None = None) -> Assignments | None:
        """Poll once, and continue from the answer's revision."""
        asked = self.revision if after is None else after
        path = f"/v1/instances/{self.id}/assignments?after={asked}&wait={wait_s}"
        status, body = await self.send("GET", path)
        if status == 204:
            return None
        assert status == 200, (status, body)
        answer = msgspec.json.decode(body, type=Assignments)
        self.revision = answer.revision
        for task in answer.tasks:
            self.held[task.task_arn] = task.desired_status
        return answer

    async def report(self, *changes: TaskChange) -> ChangesAnswer:
        """Send a batch of reports."""
        status, body = await self.send(
            "POST", f"/v1/instances/{self.id}/changes", Changes(changes=list(changes))
        )
        assert status == 200, (status, body)
        return msgspec.json.decode(body, type=ChangesAnswer)

    async def obey(self) -> None:
        """Poll and report for ever: tasks wanted RUNNING run, tasks wanted STOPPED stop."""
        reported: dict[str, str] = {}
        while True:
            await self.poll(wait_s=5)
            for arn, wanted in self.held.items():
                if reported.get(arn) != wanted:
                    await self.report(a_report(arn, wanted))
                    reported[arn] = wanted


def a_report(arn: str, status: str, **more: Any) -> TaskChange:
    """A report with a fresh id; a container ``main`` has the task's status."""
    container: dict[str, Any] = {"container_name": "main", "status": status, "runtime_id": "r1"}
    if status == "STOPPED":
        container["exit_code"] = 0
    values: dict[str, Any] = {
        "id": f"change-{next(_change_ids)}",
        "task_arn": arn,
        "status": status,
        "at": time.time(),
        "containers": [ContainerChange(**container)],
    }
    change = TaskChange(**(values | more))
    assert change_model.decode(change_model.encode(change)) == change
    return change


def gpus(count: int) -> tuple[Gpu, ...]:
    """GPUs named GPU-0 and so on."""
    return tuple(Gpu(uuid=f"GPU-{n}") for n in range(count))


CAPABILITIES = {
    "ecs.capability.task-eni": "",
    "ecs.capability.container-health-check": "",
    "ecs.capability.task-cpu-mem-limit": "",
}


def definition(**more: Any) -> dict[str, Any]:
    """A RegisterTaskDefinition request with one container ``main``."""
    values: dict[str, Any] = {
        "family": "web",
        "containerDefinitions": [{"name": "main", "image": "img", "cpu": 256, "memory": 128}],
    }
    return values | more
