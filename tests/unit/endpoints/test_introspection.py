"""Port 51678: paths, statuses and bodies, over a real connection."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from msgspec import UNSET

from agent.endpoints import introspection, introspection_view
from agent.endpoints.introspection import Introspection
from agent.errors import EngineUnavailable
from agent.model.payload import HostVolume, MountPoint, PortMapping, RestartPolicy, Volume
from agent.model.status import ContainerStatus, DesiredStatus, TaskStatus
from agent.model.task import NetworkBinding, TaskNetwork
from agent.model.views import AgentView
from agent.runtime.protocol import ContainerSummary
from tests.support.tasks import ARN, NOW, container, new_record, put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.model.task import AgentTask

EMPTY = {"Arn": "", "KnownStatus": "", "Family": "", "Version": "", "Containers": None}
OTHER = ARN.replace("0123456789abcdef0123456789abcdef", "f" * 32)


class Host:
    """An agent with two tasks."""

    def __init__(self) -> None:
        self.tasks: list[AgentTask] | None = [_web(), _batch()]
        self.view = AgentView(version="1", cluster="prod", instance_arn="arn:i")
        self.engine_hangs = False
        self.lists = 0

    def agent_view(self) -> AgentView:
        if self.view.cluster == "broken":
            raise ValueError("broken")
        return self.view

    def records(self) -> list[AgentTask]:
        if self.tasks is None:
            raise EngineUnavailable("starting")
        return self.tasks

    async def containers(self) -> list[ContainerSummary]:
        self.lists += 1
        if self.engine_hangs:
            await asyncio.get_running_loop().create_future()
        return [ContainerSummary(id="abc1" * 16, name="n", state="running", image_id="sha256:1")]


def _web() -> AgentTask:
    record = new_record(
        container(
            "app",
            port_mappings=[PortMapping(container_port=80, host_port=0)],
            mount_points=[
                MountPoint(source_volume="data", container_path="/data"),
                MountPoint(source_volume="scratch", container_path="/tmp/s"),
            ],
            restart_policy=RestartPolicy(enabled=True),
        ),
        volumes=[Volume(name="data", host=HostVolume(source_path="/srv")), Volume(name="scratch")],
        network_mode="bridge",
    )
    record.known = TaskStatus.RUNNING
    put(record, "app", ContainerStatus.RUNNING, runtime_id="abc1" * 16, engine_name="ecs-web-app")
    record.containers["app"].bindings = [NetworkBinding(container_port=80, host_port=32768)]
    record.containers["app"].created_at = NOW - 1
    return record


def _batch() -> AgentTask:
    record = new_record(
        container("job", port_mappings=[PortMapping(container_port=9000, host_port=9000)]),
        arn=OTHER,
        network_mode="awsvpc",
    )
    record.network = TaskNetwork(
        attachment_id="e",
        mac="0a",
        ipv4="10.0.0.2",
        prefix_len=24,
        gateway="10.0.0.1",
        hostname="h",
    )
    put(record, "job", ContainerStatus.CREATED, runtime_id="abc2" * 16)
    return record


@pytest.fixture
def host() -> Host:
    return Host()


@asynccontextmanager
async def serving(host: Host, port: int = 0) -> AsyncIterator[Introspection]:
    served = Introspection(host, port=port, hosts=("127.0.0.1", "::1"))
    running = asyncio.create_task(served.run())
    try:
        yield served
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until_listening(served: Introspection) -> str:
    async with asyncio.timeout(20):
        while not served.port:  # noqa: ASYNC110 - nothing else tells a test
            await asyncio.sleep(0.005)
    return f"http://127.0.0.1:{served.port}"


@pytest.fixture
async def http(host: Host) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(host) as served:
        url = await until_listening(served)
        async with aiohttp.ClientSession(url) as session:
            yield session


async def asked(http: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with http.get(path) as answer:
        assert answer.content_type == "application/json"
        return answer.status, await answer.json()


async def test_metadata(http: aiohttp.ClientSession, host: Host) -> None:
    status, body = await asked(http, "/v1/metadata")
    assert status == 200
    assert body["Cluster"] == "prod"
    assert body["ContainerInstanceArn"] == "arn:i"
    assert body["Version"].startswith("ECS Host Agent - v")
    host.view = AgentView(version="1", cluster="prod")
    assert (await asked(http, "/v1/metadata"))[1]["ContainerInstanceArn"] is None
    host.view = AgentView(version="1", cluster="broken")
    assert await asked(http, "/v1/metadata") == (
        500,
        {"Cluster": "", "ContainerInstanceArn": None, "Version": ""},
    )


async def test_a_task_in_full(http: aiohttp.ClientSession) -> None:
    status, body = await asked(http, f"/v1/tasks?taskarn={ARN}")
    assert status == 200
    assert body == {
        "Arn": ARN,
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Family": "web",
        "Version": "1",
        "Containers": [
            {
                "DockerId": "abc1" * 16,
                "DockerName": "ecs-web-app",
                "Name": "app",
                "Image": "busybox",
                "ImageID": "sha256:1",
                "CreatedAt": "2023-11-14T22:13:19Z",
                "StartedAt": "2023-11-14T22:13:20Z",
                "Ports": [{"ContainerPort": 80, "Protocol": "tcp", "HostPort": 32768}],
                "Volumes": [
                    {"Source": "/srv", "Destination": "/data"},
                    {"DockerName": "scratch", "Destination": "/tmp/s"},
                ],
                "RestartCount": 0,
            }
        ],
    }


async def test_all_tasks_and_an_own_address(http: aiohttp.ClientSession) -> None:
    _, body = await asked(http, "/v1/tasks")
    assert [task["Arn"] for task in body["Tasks"]] == [ARN, OTHER]
    job = body["Tasks"][1]["Containers"][0]
    assert job["Networks"] == [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.0.2"]}]
    assert job["Ports"] == [{"ContainerPort": 9000, "Protocol": "tcp", "HostPort": 9000}]
    assert "StartedAt" not in job
    assert "RestartCount" not in job
    assert body["Tasks"][1]["KnownStatus"] == "PENDING"


@pytest.mark.parametrize(
    ("query", "status", "arn"),
    [
        ("dockerid=abc1", 200, ARN),
        (f"dockerid={'abc2' * 16}", 200, OTHER),
        ("dockerid=abc2abc2abc2a", 404, ""),  # too long for a beginning
        ("dockerid=abc", 400, ""),
        ("dockerid=fff", 404, ""),
        (f"taskarn={OTHER}", 200, OTHER),
        ("taskarn=arn:x", 404, ""),
        (f"taskarn={ARN}&dockerid=abc1", 400, ""),
    ],
)
async def test_questions_about_one_task(
    http: aiohttp.ClientSession, query: str, status: int, arn: str
) -> None:
    found, body = await asked(http, f"/v1/tasks?{query}")
    assert (found, body["Arn"]) == (status, arn)
    if status != 200:
        assert body == EMPTY


async def test_paths_and_methods_that_do_not_exist(http: aiohttp.ClientSession) -> None:
    commands = {"AvailableCommands": ["/v1/metadata", "/v1/tasks", "/license"]}
    assert await asked(http, "/") == (200, commands)
    for path in ("/v1", "/v1/tasks/x", "/debug/pprof/"):
        assert await asked(http, path) == (404, commands)
    async with http.post("/v1/tasks") as refused:
        assert refused.status == 405
        assert refused.headers["Allow"] == "GET, HEAD"
        assert await refused.read() == b""
    async with http.head("/v1/metadata") as head:
        assert (head.status, await head.read()) == (200, b"")
    async with http.get("/license") as text:
        assert text.content_type == "text/plain"
        assert "Apache License" in await text.text()


async def test_an_agent_that_starts_or_has_no_engine(
    http: aiohttp.ClientSession, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "_LIST_LIMIT_S", 0.01)
    host.engine_hangs = True
    _, body = await asked(http, f"/v1/tasks?taskarn={ARN}")
    assert body["Containers"][0]["ImageID"] == ""
    host.tasks = None
    assert await asked(http, "/v1/tasks") == (500, {"Tasks": None})


async def test_many_questions_are_one_for_the_engine(
    http: aiohttp.ClientSession, host: Host
) -> None:
    await asyncio.gather(*(asked(http, "/v1/tasks") for _ in range(20)))
    assert host.lists == 1


async def test_a_port_that_is_taken_is_taken_later(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "RETRY_S", (0.01, 0.02))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        async with serving(host, port=other.getsockname()[1]) as served:
            async with asyncio.timeout(20):
                while not served.problem:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.005)
            assert "ECS_INTROSPECTION_PORT" in served.problem
            other.close()
            await until_listening(served)
            assert served.problem == ""


def test_a_wish_that_says_nothing_new_is_left_out() -> None:
    record = _web()
    record.known = TaskStatus.STOPPED
    shown = introspection_view.task(record, {})
    assert shown.desired_status is UNSET
    record.desired = DesiredStatus.STOPPED
    assert introspection_view.task(record, {}).desired_status == "STOPPED"
