"""The paths of faults, called through the real server; the kernel is played by a table of faults."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.errors import NetworkFailure
from agent.model.payload import TaskPayload
from agent.model.task import AgentTask, TaskNetwork
from agent.network.faults.injection import AlreadyRunning, FaultPlace
from agent.task_endpoint import fault_injection
from agent.task_endpoint.contract import Caller, Peer
from agent.task_endpoint.fault_injection import FaultInjection
from agent.task_endpoint.server import TaskServer
from agent.task_endpoint.throttle import RequestRate, Throttle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.network.faults.fault import Blackhole, Impairment, Kind

TASK = "arn:aws:ecs:us-east-1:1:task/c/0123"
HOLE = {"Port": 1234, "Protocol": "tcp", "TrafficType": "egress"}
LATENCY = {"DelayMilliseconds": 5, "JitterMilliseconds": 0, "Sources": ["10.0.0.0/8"]}
LOSS = {"LossPercent": 5, "Sources": ["10.0.0.0/8"]}


class Kernel:
    """The faults of one namespace, and how the kernel fails."""

    def __init__(self) -> None:
        self.holes: set[str] = set()
        self.kind: Kind | None = None
        self.failure: Exception | None = None
        self.hangs = False
        self.places: list[FaultPlace] = []
        self.removed: list[FaultPlace] = []

    async def _look(self, place: FaultPlace) -> None:
        self.places.append(place)
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure

    async def start_blackhole(self, place: FaultPlace, fault: Blackhole) -> None:
        await self._look(place)
        self.holes.add(fault.name)

    async def stop_blackhole(self, place: FaultPlace, name: str) -> None:
        await self._look(place)
        self.holes.discard(name)

    async def has_blackhole(self, place: FaultPlace, name: str) -> bool:
        await self._look(place)
        return name in self.holes

    async def start_impairment(self, place: FaultPlace, fault: Impairment) -> None:
        await self._look(place)
        if self.kind is not None:
            raise AlreadyRunning(self.kind)
        self.kind = fault.kind

    async def stop_impairment(self, place: FaultPlace, kind: Kind) -> None:
        await self._look(place)
        self.kind = None if self.kind is kind else self.kind

    async def impairment(self, place: FaultPlace) -> Kind | None:
        await self._look(place)
        return self.kind

    async def remove_all(self, place: FaultPlace) -> None:
        self.removed.append(place)


class Task:
    """A container that asks, and the only task of the host."""

    task_arn = TASK

    def __init__(self) -> None:
        self.url = ""
        self.kernel = Kernel()
        self.mode, self.enabled = "awsvpc", True
        self.is_done = False

    def known_tasks(self) -> list[str]:
        return [TASK]

    def record(self, task_arn: str) -> AgentTask | None:
        network = TaskNetwork(
            attachment_id="eni-1", mac="", ipv4="10.0.0.2", prefix_len=24, gateway="", hostname="",
            sandbox_pid=42,
        )  # fmt: skip
        payload = TaskPayload(
            arn=task_arn, network_mode=self.mode, enable_fault_injection=self.enabled
        )
        record = AgentTask(payload=payload)
        if self.mode == "awsvpc":
            record.network, record.network_held = network, True
        return record

    async def of(self, _peer: Peer) -> Caller:
        return Caller(self.task_arn)

    async def is_of(self, _peer: Peer, task_arn: str) -> bool:
        return task_arn == self.task_arn

    async def is_host(self, _peer: Peer) -> bool:
        return False

    async def call(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        method: str = "POST",
        name: str = "e-1",
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        url = f"{self.url}/api/{name}/fault/v1/{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=data) as response,
        ):
            raw = await response.text()
            if response.content_type != "application/json":
                return response.status, raw
            return response.status, json.loads(raw)


@pytest.fixture
async def task(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Task]:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    made = Task()
    made.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    injection = FaultInjection({"e-1": TASK}.get, lambda: made, "ecs")  # type: ignore[arg-type]
    monkeypatch.setattr(injection, "_faults", lambda: made.kernel)
    monkeypatch.setattr(injection, "_throttle", Throttle(RequestRate(1000, 1000)))
    server = await TaskServer.open(bound, routes=injection.routes(), callers=made)
    yield made
    await server.close()
    await injection.close()


async def test_a_black_hole_from_start_to_stop(task: Task) -> None:
    path = "network-blackhole-port"
    assert await task.call(f"{path}/status", HOLE) == (200, {"Status": "not-running"})
    for _ in range(2):
        assert await task.call(f"{path}/start", HOLE) == (200, {"Status": "running"})
    assert task.kernel.holes == {"egress-tcp-1234"}
    assert await task.call(f"{path}/status", HOLE) == (200, {"Status": "running"})
    assert await task.call(f"{path}/stop", HOLE) == (200, {"Status": "stopped"})
    assert await task.call(f"{path}/status") == (400, {"Error": "required request body is missing"})
    assert set(task.kernel.places) == {FaultPlace(42)}


async def test_one_of_latency_and_loss_at_a_time(task: Task) -> None:
    assert await task.call("network-latency/start", LATENCY) == (200, {"Status": "running"})
    refused = (409, {"Error": "There is already one network latency fault running"})
    assert await task.call("network-latency/start", LATENCY) == refused
    assert await task.call("network-packet-loss/start", LOSS) == refused
    assert await task.call("network-packet-loss/status") == (200, {"Status": "not-running"})
    assert await task.call("network-packet-loss/stop") == (200, {"Status": "stopped"})
    assert await task.call("network-latency/status") == (200, {"Status": "running"})
    assert await task.call("network-latency/stop") == (200, {"Status": "stopped"})
    assert await task.call("network-packet-loss/start", LOSS) == (200, {"Status": "running"})


async def test_who_may_have_no_faults_is_told_why(task: Task) -> None:
    unknown = "unable to get task arn from request: unable to get task Arn from v3 endpoint ID: e-2"
    assert await task.call("network-latency/status", name="e-2") == (404, {"Error": unknown})
    task.task_arn = "another"
    assert (await task.call("network-latency/status"))[0] == 404
    task.task_arn, task.enabled = TASK, False
    text = f"enableFaultInjection is not enabled for task: {TASK}"
    assert await task.call("network-latency/status") == (400, {"Error": text})
    task.enabled, task.mode = True, "bridge"
    text = "bridge mode is not supported. Please use either host or awsvpc mode."
    assert await task.call("network-latency/status") == (400, {"Error": text})
    task.mode = "host"
    assert (await task.call("network-latency/status"))[0] == 200
    assert task.kernel.places == [FaultPlace()]
    assert (await task.call("network-latency/status", method="GET"))[0] == 405
    assert (await task.call("network-jitter/status"))[0] == 404


async def test_what_the_kernel_refuses_is_told(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    task.kernel.failure = NetworkFailure("the kernel has no network emulation")
    assert await task.call("network-latency/start", LATENCY) == (
        500, {"Error": "start network-latency: the kernel has no network emulation"},
    )  # fmt: skip
    monkeypatch.setattr(fault_injection, "BUDGET_S", 0.05)
    task.kernel.hangs = True
    assert await task.call("network-latency/status") == (
        500, {"Error": "check status network-latency: request timed out"},
    )  # fmt: skip


async def test_each_path_is_asked_once_in_five_seconds(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    injection = FaultInjection({"e-1": TASK}.get, lambda: task, "ecs")  # type: ignore[arg-type]
    monkeypatch.setattr(injection, "_faults", lambda: task.kernel)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    task.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    server = await TaskServer.open(bound, routes=injection.routes(), callers=task)
    assert (await task.call("network-latency/status"))[0] == 200
    refused = (429, "You have reached maximum request limit")
    assert await task.call("network-latency/status") == refused
    assert (await task.call("network-latency/stop"))[0] == 200
    await server.close()


async def test_faults_of_the_host_end_with_the_last_task_that_may_have_them(task: Task) -> None:
    injection = FaultInjection({"e-1": TASK}.get, lambda: task, "ecs")  # type: ignore[arg-type]
    injection._faults = lambda: task.kernel  # type: ignore[method-assign,assignment,return-value]
    task.mode = "awsvpc"
    await injection.reconcile()
    assert task.kernel.removed == []
    task.mode = "host"
    await injection.reconcile()
    assert task.kernel.removed == []
    task.known_tasks = list  # type: ignore[method-assign]
    await injection.reconcile()
    await injection.reconcile()
    assert task.kernel.removed == [FaultPlace()]
