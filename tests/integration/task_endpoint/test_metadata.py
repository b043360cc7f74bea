"""What real containers of each network mode are told of themselves, by each version and over each wire."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.integration.e2e.conftest import NETWORK, register, run
from tests.support import metadata_schemas as schemas
from tests.support.fleet import WIRES, eventually, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fleet import Agent, Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
MODES = ("bridge", "host", "awsvpc")
V3, V4, AGENT = (
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
    "ECS_AGENT_URI",
)
NOBODY = "00000000-0000-4000-8000-000000000000"


class Said(NamedTuple):
    """An answer to a request from inside a container."""

    status: int
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Inside(NamedTuple):
    """A running container of a task."""

    task_arn: str
    name: str
    docker_id: str

    def sh(self, command: str) -> str:
        done = subprocess.run(
            ["docker", "exec", self.docker_id, "sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout

    def get(self, url: str, method: str = "GET") -> Said:
        """Ask by hand: busybox's wget shows no body of an error."""
        path = url.removeprefix("http://169.254.170.2") or "/"
        request = f"{method} {path} HTTP/1.0\\r\\nHost: 169.254.170.2\\r\\n\\r\\n"
        talk = f"printf '{request}'; exec cat >&2"
        raw = self.sh(f'nc 169.254.170.2 80 -e sh -c "{talk}" 2>&1')
        head, _, body = raw.partition("\n\n")
        return Said(int(head.split()[1]) if head else 0, body)

    def wget(self, url: str) -> str:
        """Ask with busybox's wget, whose static form crashes with a time limit."""
        return self.sh(f"wget -q -O - {url}")

    def variable(self, name: str) -> str:
        return self.sh(f'printf %s "${name}"')


class Scene(NamedTuple):
    """One host with a running task in each network mode, of two containers."""

    fleet: Fleet
    agent: Agent
    tasks: dict[str, dict[str, Inside]]
    """Containers by name, by network mode."""


@pytest.fixture(scope="module", params=WIRES)
def scene(
    tmp_path_factory: pytest.TempPathFactory,
    busybox_image: str,
    request: pytest.FixtureRequest,
) -> Iterator[Scene]:
    extra: dict[str, Any] = {
        "ECS_AVAILABILITY_ZONE": "rack-1",
        "ECS_ENABLE_CONTAINER_METADATA": "true",
        "ECS_HOST_ADDRESS": "192.0.2.77",
        "ECS_CONTAINER_INSTANCE_TAGS": '{"room": "1"}',
    }
    directory = tmp_path_factory.mktemp("fleet")
    with fleet(directory, agents=1, wire=request.param, **extra) as made:
        client = made.client()
        arns = {mode: _run(client, busybox_image, mode) for mode in MODES}
        client.get_waiter("tasks_running").wait(tasks=list(arns.values()), WaiterConfig=FAST)
        tasks = {}
        for task in client.describe_tasks(tasks=list(arns.values()))["tasks"]:
            mode = next(mode for mode, arn in arns.items() if arn == task["taskArn"])
            tasks[mode] = {
                each["name"]: Inside(task["taskArn"], each["name"], each["runtimeId"])
                for each in task["containers"]
            }
        yield Scene(made, made.agents[0], tasks)


def _figures(inside: Inside, uri: str) -> Any:
    """Return the figures of a container; None until it was sampled."""
    said = inside.get(f"{uri}/stats")
    return said.json if said.status == 200 else None


def _run(client: Any, image: str, mode: str) -> str:
    ports = [{"containerPort": 8080}] if mode != "host" else [{"containerPort": 18080}]
    definition = register(
        client,
        image,
        "echo ready; exec sleep 1000",
        "exec sleep 1000",
        mode=mode,
        family=f"meta-{mode}",
        volumes=[{"name": "scratch"}],
        containers=[
            {
                "portMappings": ports,
                "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/data"}],
                "environment": [{"name": V4, "value": "mine"}, {"name": "OWN", "value": "1"}],
                "healthCheck": {"command": ["CMD-SHELL", "echo fine"], "interval": 5},
                "dockerLabels": {"team": "red"},
                "logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}},
            },
            {"restartPolicy": {"enabled": True}},
        ],
    )
    more: dict[str, Any] = {"networkConfiguration": NETWORK} if mode == "awsvpc" else {}
    (arn,) = run(client, definition, tags=[{"key": "team", "value": "red"}], **more)
    return arn


@pytest.mark.parametrize("mode", MODES)
def test_every_path_is_answered_as_the_reference_says(scene: Scene, mode: str) -> None:
    first, second = scene.tasks[mode]["c0"], scene.tasks[mode]["c1"]
    v3, v4 = first.variable(V3), first.variable(V4)
    assert v4.startswith("http://169.254.170.2/v4/"), "the agent's variable wins"
    assert v3.replace("/v3/", "/v4/") == v4
    assert first.variable(AGENT) == v4.replace("/v4/", "/api/")
    assert first.variable("AWS_EXECUTION_ENV") == "AWS_ECS_EC2"
    assert second.variable(V4) not in ("", v4)

    for version, uri in ((3, v3), (4, v4)):
        own = json.loads(first.wget(uri))
        schemas.check(own, schemas.container(version))
        assert (own["Name"], own["DockerId"]) == ("c0", first.docker_id)
        task = json.loads(first.wget(f"{uri}/task"))
        schemas.check(task, schemas.task(version))
        assert task["TaskARN"] == first.task_arn
        assert own in [
            {**each, "Health": own.get("Health")} if "Health" in each else each
            for each in task["Containers"]
        ]
        tagged = json.loads(first.wget(f"{uri}/taskWithTags"))
        schemas.check(tagged, schemas.task(version, with_tags=True))
        assert tagged["TaskTags"] == {"team": "red"}
        assert tagged["ContainerInstanceTags"]["room"] == "1"
        assert first.get(f"{uri}/associations/gpu") == Said(200, '{"Associations":null}')
        for path, status in (("/associations/gpu/", 400), ("/associations/gpu/x", 400)):
            assert first.get(uri + path).status == status
        figures = eventually(partial(_figures, first, uri), what="the container is sampled")
        assert figures["id"] == first.docker_id
        assert figures["cpu_stats"]["cpu_usage"]["total_usage"] > 0
        assert figures["memory_stats"]["usage"] > 0
        together = json.loads(first.wget(f"{uri}/task/stats"))
        assert {first.docker_id, second.docker_id} <= together.keys()
        assert ("eth0" in figures.get("networks", {})) == (mode != "host")
        for path in ("/tasks", "/stats/", "/task/", "/nothing"):
            assert first.get(uri + path) == Said(404, "404 page not found\n")

    container = json.loads(first.wget(v4))
    assert container["Labels"]["team"] == "red"
    assert (container["LogDriver"], container["LogOptions"]) == ("json-file", {"max-size": "1m"})
    assert "/data" in [volume["Destination"] for volume in container["Volumes"]]
    assert json.loads(second.wget(second.variable(V4)))["RestartCount"] == 0
    task = json.loads(first.wget(f"{v4}/task"))
    assert (task["Cluster"], task["Family"]) == ("default", f"meta-{mode}")
    assert task["LaunchType"] == "EC2"
    if scene.fleet.wire == WIRES[0]:
        assert task["AvailabilityZone"] == "rack-1"


@pytest.mark.parametrize("mode", MODES)
def test_networks_and_ports_are_those_of_the_kernel(scene: Scene, mode: str) -> None:
    inside = scene.tasks[mode]["c0"]
    container = json.loads(inside.wget(inside.variable(V4)))
    (network,) = container["Networks"]
    assert network["NetworkMode"] == mode
    (address,) = network["IPv4Addresses"]
    if mode == "host":
        assert address == ""
        assert [port["HostPort"] for port in container["Ports"]] == [18080]
        return
    interface = inside.sh("ip addr show eth0")
    assert f"inet {address}/" in interface
    assert container["Ports"][0]["ContainerPort"] == 8080
    if mode == "bridge":
        assert "0.0.0.0" in [port["HostIp"] for port in container["Ports"]]
        return
    assert network["MACAddress"] in interface
    gateway, _, prefix = network["SubnetGatewayIpv4Address"].partition("/")
    assert f"default via {gateway} " in inside.sh("ip route")
    assert f"inet {address}/{prefix}" in interface
    resolv = inside.sh("cat /etc/resolv.conf")
    assert all(f"nameserver {each}" in resolv for each in network.get("DomainNameServers", ()))
    names = [
        each["Type"]
        for each in json.loads(inside.wget(f"{inside.variable(V4)}/task"))["Containers"]
    ]
    assert sorted(names) == ["CNI_PAUSE", "NORMAL", "NORMAL"]


def test_version_2_knows_the_tasks_that_have_an_address(scene: Scene) -> None:
    inside = scene.tasks["awsvpc"]["c0"]
    base = "http://169.254.170.2/v2"
    for path in ("/metadata", "/metadata/"):
        task = json.loads(inside.wget(base + path))
        schemas.check(task, schemas.task(2))
        assert task["TaskARN"] == inside.task_arn
    tagged = json.loads(inside.wget(f"{base}/metadataWithTags"))
    assert tagged["TaskTags"] == {"team": "red"}
    own = json.loads(inside.wget(f"{base}/metadata/{inside.docker_id}"))
    schemas.check(own, schemas.container(2))
    assert own["Name"] == "c0"
    for docker_id in ("unknown", scene.tasks["bridge"]["c0"].docker_id):
        said = inside.get(f"{base}/metadata/{docker_id}")
        assert (said.status, said.json) == (
            400,
            f"Unable to generate metadata for container '{docker_id}'",
        )
    of_one = f"{base}/stats/{inside.docker_id}"
    eventually(lambda: inside.get(of_one).status == 200, what="the container is sampled")
    figures = json.loads(inside.wget(of_one))
    assert figures["id"] == inside.docker_id
    assert figures["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    for path in ("/stats", "/stats/"):
        together = json.loads(inside.wget(base + path))
        assert together[inside.docker_id]["memory_stats"]["usage"] > 0
        assert scene.tasks["awsvpc"]["c1"].docker_id in together
    for docker_id in ("unknown", scene.tasks["bridge"]["c0"].docker_id):
        said = inside.get(f"{base}/stats/{docker_id}")
        assert (said.status, said.json) == (400, f"Unable to get container stats for: {docker_id}")
    for path in ("/metadata", "/stats"):
        said = scene.tasks["bridge"]["c0"].get(base + path)
        assert said.status == 400
    assert said.json.startswith("Unable to get task arn from request: unable to associate '")


@pytest.mark.parametrize("mode", MODES)
def test_an_id_is_of_use_to_its_own_task_alone(scene: Scene, mode: str) -> None:
    inside = scene.tasks[mode]["c0"]
    sibling = scene.tasks[mode]["c1"].variable(V4)
    assert json.loads(inside.wget(sibling))["Name"] == "c1"
    others = [NOBODY, ""]
    others += [
        scene.tasks[other]["c0"].variable(V4).rsplit("/", 1)[1] for other in MODES if other != mode
    ]
    for endpoint_id in others:
        said = inside.get(f"http://169.254.170.2/v4/{endpoint_id}")
        assert (said.status, said.json) == (
            404,
            (
                "V4 container metadata handler: unable to get container ID from request: "
                f"unable to get docker ID from v3 endpoint ID: {endpoint_id}"
            ),
        )
        if not endpoint_id:
            continue  # what follows is cleaned to another path
        said = inside.get(f"http://169.254.170.2/v3/{endpoint_id}/task")
        assert (said.status, said.json) == (
            500,
            (
                "V3 task metadata handler: unable to get task arn from request: "
                f"unable to get task Arn from v3 endpoint ID: {endpoint_id}"
            ),
        )
        assert inside.get(f"http://169.254.170.2/v3/{endpoint_id}/stats").status == 400
        assert inside.get(f"http://169.254.170.2/v4/{endpoint_id}/task/stats").status == 404


def test_the_file_becomes_whole_and_goes_with_its_task(scene: Scene) -> None:
    inside = scene.tasks["bridge"]["c0"]
    path = inside.variable("ECS_CONTAINER_METADATA_FILE")
    assert path.startswith("/opt/ecs/metadata/")
    whole = eventually(
        lambda: (value := json.loads(inside.sh(f"cat {path}"))).get("MetadataFileStatus") and value,
        what="the file is complete",
    )
    schemas.check(whole, schemas.FILE)
    assert (whole["TaskARN"], whole["ContainerID"]) == (inside.task_arn, inside.docker_id)
    assert whole["PortMappings"][0]["ContainerPort"] == 8080
    assert whole["HostPrivateIPv4Address"] == "192.0.2.77"
    assert "Read-only" in inside.sh(f"touch {path} 2>&1")


def test_ids_and_answers_are_the_same_after_a_crash(scene: Scene) -> None:
    inside = scene.tasks["bridge"]["c0"]
    uri = inside.variable(V4)
    before = json.loads(inside.wget(uri))
    scene.agent.kill()
    scene.agent.start()
    scene.fleet.wait_connected()

    def answered() -> Any:
        said = inside.wget(uri)
        return json.loads(said) if said else None

    after = eventually(answered, what="the agent answers again")
    before.pop("Health", None), after.pop("Health", None)
    assert after == before
