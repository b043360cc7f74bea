"""Requests for metadata at a real server: each path, each version, and what is wrong with a request."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.metrics.cgroup import RawTexts
from agent.model.metrics import ContainerSample, HostSample, MetricsBatch, TaskSample
from agent.model.payload import Association, AssociationContent
from agent.model.status import ContainerStatus, NetworkMode, TaskStatus
from agent.model.task import TaskNetwork
from agent.task_endpoint.metadata.endpoint_ids import EndpointIds
from agent.task_endpoint.metadata.parts import HostNames, Later, MetadataParts
from agent.task_endpoint.server import TaskServer
from tests.support import metadata_schemas as schemas
from tests.support.memory_engine import MemoryEngine
from tests.support.tasks import container, new_record
from tests.unit.task_endpoint.conftest import HOST, OTHER, OURS, TASK, THEIRS, place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.task import AgentTask
    from agent.task_endpoint.contract import Caller, Peer
    from agent.task_endpoint.metadata.stats import Samples
    from tests.unit.task_endpoint.conftest import Serve

IDS = EndpointIds(b"secret")
OWN, FOREIGN, LATE = IDS.of(TASK, "web"), IDS.of(OTHER, "web"), IDS.of(TASK, "late")
PLACES = [place(TASK, OURS, NetworkMode.HOST), place(OTHER, THEIRS, NetworkMode.HOST)]
WORDS = {3: "V3", 4: "V4"}


class Tasks:
    """Two tasks, and the tags of everything."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.records: dict[str, AgentTask] = {}
        self.tags: Mapping[str, str] = {"team": "red"}
        self.samples: Samples | None = None

    def known_tasks(self) -> list[str]:
        return list(self.records)

    def record(self, task_arn: str) -> AgentTask | None:
        return self.records.get(task_arn)

    async def ask_tags(self, _arn: str) -> Mapping[str, str]:
        return self.tags

    async def add(self, arn: str, mode: str = "host") -> None:
        gpu = Association(
            name="GPU-1",
            type="gpu",
            containers=["web"],
            content=AssociationContent(encoding="base64", value='{"a": 1}'),
        )
        record = new_record(
            container("web"), container("late"), arn=arn, network_mode=mode, associations=[gpu]
        )
        record.known = TaskStatus.RUNNING
        web = record.containers["web"]
        web.known = ContainerStatus.RUNNING
        web.engine_name = f"ecs-{mode}-{arn[-2:]}"
        body = {"Image": "busybox", "HostConfig": {"NetworkMode": "host"}}
        web.runtime_id = await self.engine.create_container(web.engine_name, body)
        await self.engine.start_container(web.runtime_id)
        self.records[arn] = record


async def zone() -> str:
    return "rack-1"


@pytest.fixture
async def tasks() -> Tasks:
    made = Tasks(MemoryEngine())
    await made.add(TASK)
    await made.add(OTHER)
    return made


def parts(tasks: Tasks) -> MetadataParts:
    return MetadataParts.build(
        b"secret",
        HostNames("default", "owner", lambda: "arn:instance", zone, lambda: "192.0.2.7"),
        tasks.engine,
        Later(tasks=lambda: tasks, ask_tags=lambda: tasks.ask_tags, samples=lambda: tasks.samples),
        file_place=None,
    )


@pytest.mark.parametrize("version", [3, 4])
async def test_a_container_is_told_of_itself_and_its_task(
    serve: Serve, tasks: Tasks, version: int
) -> None:
    async with serve(parts(tasks).routes(), PLACES) as server:

        async def get(rest: str) -> Any:
            said = await server.get(f"/v{version}/{OWN}{rest}")
            assert (said.status, said.headers["Content-Type"]) == (200, "application/json")
            return json.loads(said.body)

        own = await get("")
        schemas.check(own, schemas.container(version))
        assert own["Name"] == "web"
        task = await get("/task")
        schemas.check(task, schemas.task(version))
        assert (task["TaskARN"], task["AvailabilityZone"]) == (TASK, "rack-1")
        assert task["Containers"] == [own]
        tagged = await get("/taskWithTags")
        schemas.check(tagged, schemas.task(version, with_tags=True))
        assert tagged == {
            **task,
            "TaskTags": {"team": "red"},
            "ContainerInstanceTags": {"team": "red"},
        }
        assert await get("/associations/gpu") == {"Associations": ["GPU-1"]}
        assert await get("/associations/other") == {"Associations": None}
        assert await get("/associations/gpu/GPU-1") == {"a": 1}
        posted = await server.get(f"/v{version}/{OWN}", method="POST", data=b"x")
        assert json.loads(posted.body) == own


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("endpoint_id", ["", "unknown", FOREIGN, LATE])
async def test_an_id_that_is_nobodys_or_of_another_task(
    serve: Serve, tasks: Tasks, version: int, endpoint_id: str
) -> None:
    by_container = f"unable to get docker ID from v3 endpoint ID: {endpoint_id}"
    by_task = f"unable to get task Arn from v3 endpoint ID: {endpoint_id}"
    handler = f"{WORDS[version]} %s handler: unable to get %s from request: "
    metadata, figures = (500, 400) if version == 3 else (404, 404)
    async with serve(parts(tasks).routes(), PLACES) as server:
        for rest, status, text in (
            ("", metadata, handler % ("container metadata", "container ID") + by_container),
            ("/task", metadata, handler % ("task metadata", "task arn") + by_task),
            ("/taskWithTags", metadata, handler % ("task metadata", "task arn") + by_task),
            ("/stats", figures, handler % ("container stats", "task arn") + by_task),
            ("/task/stats", figures, handler % ("task stats", "task arn") + by_task),
            (
                "/associations/gpu",
                400,
                handler % ("container associations", "container id") + by_container,
            ),
        ):
            path = f"/v{version}/{endpoint_id}{rest}"
            if not endpoint_id and rest:
                continue  # cleaned to another path
            said = await server.get(path)
            assert (said.status, json.loads(said.body)) == (status, text), path


async def test_a_caller_that_nobody_knows_needs_the_id(serve: Serve, tasks: Tasks) -> None:
    async with serve(parts(tasks).routes(), ()) as server:
        assert (await server.get(f"/v4/{OWN}")).status == 200
        assert (await server.get("/v4/unknown")).status == 404


@pytest.mark.parametrize("version", [3, 4])
async def test_associations_that_are_not_there(serve: Serve, tasks: Tasks, version: int) -> None:
    base = f"/v{version}/{OWN}/associations/gpu/"
    async with serve(parts(tasks).routes(), PLACES) as server:
        for name, text in (
            (
                "",
                (
                    f"{WORDS[version]} container associations handler: unable to get association name "
                    "from request"
                ),
            ),
            (
                "other",
                (
                    "Unable to write container association response: unable to get association from "
                    "association type gpu and association name other"
                ),
            ),
        ):
            said = await server.get(base + name)
            assert (said.status, json.loads(said.body)) == (400, text)


async def test_version_2_needs_an_address_of_the_task(serve: Serve, tasks: Tasks) -> None:
    async with serve(parts(tasks).routes(), PLACES) as server:
        for path in ("/v2/metadata", "/v2/metadata/", "/v2/metadataWithTags", "/v2/stats"):
            said = await server.get(path)
            assert (said.status, json.loads(said.body)) == (
                400,
                "Unable to get task arn from request: unable to associate '127.0.0.1' with task",
            )


class Knows:
    """Says of every caller that it is this task."""

    async def of(self, _peer: Peer) -> Caller:
        raise AssertionError("a look at every container takes long")

    async def is_of(self, _peer: Peer, task_arn: str) -> bool:
        return task_arn == TASK

    async def is_host(self, _peer: Peer) -> bool:
        return False


async def test_version_2_in_awsvpc_mode(tasks: Tasks) -> None:
    await tasks.add(TASK, "awsvpc")
    record = tasks.records[TASK]
    docker_id = record.containers["web"].runtime_id
    foreign = tasks.records[OTHER].containers["web"].runtime_id
    bound = socket.create_server((HOST, 0))
    url = f"http://{HOST}:{bound.getsockname()[1]}"
    server = await TaskServer.open(bound, routes=parts(tasks).routes(), callers=Knows())
    async with aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, Any]:
            async with session.get(url + path) as answer:
                return answer.status, await answer.json()

        assert (await get("/v2/metadata"))[0] == 400
        record.network = TaskNetwork(
            attachment_id="eni-1",
            mac="0a:00:7f:00:00:01",
            ipv4=HOST,
            prefix_len=8,
            gateway=HOST,
            hostname="t1",
            sandbox_id="",
        )
        assert (await get("/v2/metadata"))[0] == 400, "the address is of another task by now"
        record.network_held = True
        status, task = await get("/v2/metadata")
        schemas.check(task, schemas.task(2))
        assert (status, task["TaskARN"]) == (200, TASK)
        status, own = await get(f"/v2/metadata/{docker_id}")
        assert (status, own["DockerId"]) == (200, docker_id)
        for other in (foreign, "unknown"):
            assert await get(f"/v2/metadata/{other}") == (
                400,
                f"Unable to generate metadata for container '{other}'",
            )
    await server.close()


@pytest.mark.parametrize(("version", "status"), [(3, 500), (4, 500)])
async def test_a_container_that_the_engine_does_not_describe(
    serve: Serve, tasks: Tasks, version: int, status: int
) -> None:
    await tasks.engine.remove_container(
        tasks.records[TASK].containers["web"].runtime_id, force=True
    )
    async with serve(parts(tasks).routes(), PLACES) as server:
        said = await server.get(f"/v{version}/{OWN}")
        assert said.status == status
        assert "generate network response for container" in json.loads(said.body)
        task = await server.get(f"/v{version}/{OWN}/task")
        assert task.status == (200 if version == 4 else 500)


class Sampled:
    """One round, in which one container was seen."""

    def __init__(self, task_arn: str, runtime_id: str) -> None:
        seen = ContainerSample(name="web", runtime_id=runtime_id, cpu_ns=5, memory_usage_bytes=7)
        task = TaskSample(task_arn=task_arn, containers=[seen])
        self.before: MetricsBatch | None = None
        self.latest: MetricsBatch | None = MetricsBatch(
            host=HostSample(at=1_700_000_000.0), tasks=[task]
        )

    def raw_texts(self, _runtime_id: str) -> RawTexts:
        return RawTexts()


@pytest.mark.parametrize(("version", "nothing"), [(3, None), (4, {})])
async def test_figures_are_those_of_the_last_round(
    serve: Serve, tasks: Tasks, version: int, nothing: Any
) -> None:
    docker_id = tasks.records[TASK].containers["web"].runtime_id
    status = 400 if version == 3 else 500
    base = f"/v{version}/{OWN}"
    async with serve(parts(tasks).routes(), PLACES) as server:
        said = await server.get(f"{base}/stats")
        assert (said.status, json.loads(said.body)) == (
            status,
            f"Unable to get container stats for: {docker_id}",
        )
        assert json.loads((await server.get(f"{base}/task/stats")).body) == {docker_id: nothing}
        tasks.samples = Sampled(TASK, docker_id)
        own = json.loads((await server.get(f"{base}/stats")).body)
        assert (own["id"], own["cpu_stats"]["cpu_usage"]["total_usage"]) == (docker_id, 5)
        assert own["memory_stats"]["usage"] == 7
        assert json.loads((await server.get(f"{base}/task/stats")).body) == {docker_id: own}


async def test_paths_that_are_none(serve: Serve, tasks: Tasks) -> None:
    async with serve(parts(tasks).routes(), PLACES) as server:
        for path in (
            *("/v4", "/v5/x", f"/v4/{OWN}/", f"/v4/{OWN}/tasks", f"/v4/{OWN}/task/"),
            *("/v2", "/v2/", "/v2/other", "/v2/metadataWithTags/x", f"/v4/{OWN}/stats/x"),
        ):
            said = await server.get(path)
            assert (said.status, said.body) == (404, b"404 page not found\n"), path


async def test_files_are_told_what_the_host_is_called() -> None:
    names = HostNames("default", "owner", lambda: "arn:instance", zone, lambda: "192.0.2.7")
    told = await names.file_facts()
    assert (told.availability_zone, told.private_ipv4) == ("rack-1", "192.0.2.7")
