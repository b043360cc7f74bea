"""Whatever is sent to anything that speaks HTTP, it answers or closes the connection, and never fails."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.controlplane.console.admission import Console
from agent.endpoints.operator import OperatorSocket
from agent.endpoints.prometheus import PrometheusServer
from tests.fuzz.raw_requests import made, send
from tests.support.control_endpoint import ScriptedAgent, control_endpoint
from tests.support.memory_engine import MemoryEngine
from tests.unit.endpoints.conftest import FakeAgent
from tests.unit.endpoints.test_introspection import Host, serving, until_listening
from tests.unit.task_endpoint.conftest import TASK
from tests.unit.task_endpoint.metadata import test_answers as metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.fuzz.raw_requests import Connect
    from tests.unit.task_endpoint.conftest import Serve

REQUESTS = 100
CONTROL = [
    *("/", "/healthz", "/metrics", "/prometheus/tasks", "/prometheus/agents", "/console/", "/console/app.js"),
    *("/control/events", "/control/changes", "/control/usage", "/control/rotate-secret-keys", "/control/pki"),
    *("/control/pki/revoke", "/execute-command/a", "/acs/ws", "/tcs/ws", "/v1/hello", "/v1/instances", "/v1/authority"),
    *("/v1/identities", "/v1/secrets", "/v1/tags", "/v1/logs", "/v1/logs/streams", "/v1/ingresses/a"),
    *("/v1/ingresses/a/health", "/schedules/a", "/tags/a", "/service/GraniteServiceVersion20100801/operation/ListMetrics"),
]  # fmt: skip
OF_INSTANCE = [
    "assignments",
    "changes",
    "usage",
    "held",
    "brought",
    "status",
    "protection",
    "commands/a",
]


async def thrown(
    connect: Connect, paths: Sequence[str], requests: int = REQUESTS, also: Sequence[int] = ()
) -> Counter[int]:
    """Send random requests; return how often each status came. Nothing may be logged as an error."""
    rng, statuses = random.Random(len(paths)), Counter[int]()
    with structlog.testing.capture_logs() as logged:
        for _ in range(requests):
            statuses[await send(connect, made(paths, rng), also)] += 1
    assert not [entry for entry in logged if entry["log_level"] in {"error", "critical"}]
    return statuses


async def test_control(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, console=Console.READ_ONLY) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        own = [f"/v1/instances/{agent.id}/{rest}" for rest in OF_INSTANCE]
        port = int(endpoint.url.rpartition(":")[2])
        connect = partial(asyncio.open_connection, "127.0.0.1", port)
        statuses = await thrown(connect, [*CONTROL, *own], 2 * REQUESTS)
        async with endpoint.session.get(f"{endpoint.url}/healthz") as answer:
            assert answer.status == 200
    assert {200, 400, 404} <= statuses.keys()


async def test_socket_of_operators(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    server = await OperatorSocket.open(path, FakeAgent())
    tasks = [f"/v1/tasks/aa11{rest}" for rest in ("", "/stop", "/logs", "/exec", "/trace")]
    others = [
        "/v1/agent",
        "/v1/drain",
        "/v1/usage",
        "/v1/network",
        "/v1/network/check",
        "/v1/tasks",
    ]
    try:
        statuses = await thrown(partial(asyncio.open_unix_connection, path), [*tasks, *others])
    finally:
        await server.close()
    assert {200, 404} <= statuses.keys()


async def test_introspection_and_metrics() -> None:
    async with serving(Host()) as served:
        await until_listening(served)
        paths = ["/", "/v1/metadata", "/v1/tasks", "/v1/tasks?dockerid=abc1", "/license"]
        connect = partial(asyncio.open_connection, "127.0.0.1", served.port)
        assert 200 in await thrown(connect, paths)
    prometheus = await PrometheusServer.open(FakeAgent(), None, port=0)
    try:
        connect = partial(asyncio.open_connection, "127.0.0.1", prometheus.port)
        assert 200 in await thrown(connect, ["/metrics"], 50)
    finally:
        await prometheus.close()


async def test_endpoint_of_tasks(serve: Serve) -> None:
    tasks = metadata.Tasks(MemoryEngine())
    await tasks.add(TASK)
    # What is not known is a 500 in version 3, as of Amazon's agent; what failed would be in the log.
    rests = ("", "/task", "/stats", "/task/stats", "/associations/gpu", "/associations/gpu/GPU-1")
    own = [f"/v{version}/{metadata.OWN}{rest}" for version in (3, 4) for rest in rests]
    paths = [*own, "/v2/metadata", "/v2/credentials/a", "/api/a/task-protection/v1/state"]
    async with serve(metadata.parts(tasks).routes(), metadata.PLACES) as server:
        connect = partial(asyncio.open_connection, "127.0.0.1", server.port)
        assert {200, 404} <= (await thrown(connect, paths, also=[500])).keys()
