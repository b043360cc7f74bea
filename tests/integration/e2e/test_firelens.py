"""FireLens end to end: an application's lines reach the log router of its task, and its output.

The router is a receiver of the forward protocol that follows the configuration of Fluent Bit which the
agent writes (``tests/support/forward_receiver.py``); Fluent Bit itself is in no registry that tests reach.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, nothing_left, register, run
from tests.support.fleet import Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = pytest.mark.integration

RECEIVER = Path(__file__).parents[2] / "support" / "forward_receiver.py"
HOST_PYTHON = {"usr": "/usr", "lib": "/usr/lib", "lib64": "/usr/lib64"}
"""Directories of the host with which its Python runs in a container, by the volume's name."""


@pytest.fixture(scope="module")
def shared(sdk: docker.APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A control endpoint and an agent whose data directory has a path as short as a real one."""
    del sdk
    directory = tmp_path_factory.mktemp("firelens")
    with nothing_left(directory), tempfile.TemporaryDirectory(dir="/tmp", prefix="fl") as data:
        made = Fleet(directory)
        made.add_agent(ECS_DATADIR=data)
        try:
            made.start()
            yield made
        finally:
            made.end()


@pytest.fixture
def fleet(shared: Fleet) -> Iterator[Fleet]:
    """The same one for all tests, without a task."""
    yield shared
    shared.stop_tasks()
    data = Path(shared.agents[0].environment["ECS_DATADIR"])
    assert not list(data.glob("firelens/*"))


def pipeline(image: str, tmp_path: Path, *commands: str, late_s: float = 0.0) -> dict[str, Any]:
    """Return the parts of a definition: a router that runs as nobody, and applications.

    The router listens ``late_s`` seconds after it has been started.
    """
    script = tmp_path / "receiver" / "receiver.py"
    script.parent.mkdir(exist_ok=True)
    script.write_bytes(RECEIVER.read_bytes())
    volumes = {**HOST_PYTHON, "script": str(script.parent)}
    router = {
        "name": "router",
        "image": image,
        "memory": 64,
        "memoryReservation": 48,
        "user": "65534:65534",
        "essential": True,
        "stopTimeout": 2,
        "command": [
            *("/usr/bin/python3", "-uI", "/script/receiver.py", "/fluent-bit/etc/fluent-bit.conf"),
            str(late_s),
        ],
        "firelensConfiguration": {"type": "fluentbit"},
        "mountPoints": [
            {"sourceVolume": name, "containerPath": f"/{name}", "readOnly": True}
            for name in volumes
        ],
    }
    applications = [
        {
            "name": f"app{index}",
            "image": image,
            "memory": 32,
            "essential": False,
            "command": ["sh", "-c", command],
            "stopTimeout": 2,
            "logConfiguration": {
                "logDriver": "awsfirelens",
                "options": {"Name": "stdout", "colour": f"c{index}"},
            },
        }
        for index, command in enumerate(commands)
    ]
    return {
        "containerDefinitions": [*applications, router],
        "volumes": [{"name": n, "host": {"sourcePath": path}} for n, path in volumes.items()],
    }


def records(fleet: Fleet, arn: str) -> list[dict[str, Any]]:
    """Return what the router has put out."""
    said = fleet.agents[0].cli("logs", arn, "--container", "router", check=False)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line for line in lines if "record" in line]


def wait_records(fleet: Fleet, arn: str, count: int) -> list[dict[str, Any]]:
    """Return what the router has put out, once there are so many records."""
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = records(fleet, arn)
        return len(found) >= count

    eventually(
        are_there,
        what=f"{count} records",
        shown=lambda: (found, describe(fleet.client(), arn)[0]["containers"]),
    )
    return found


def start(fleet: Fleet, mode: str, parts: dict[str, Any]) -> str:
    client = fleet.client()
    answer = client.register_task_definition(family=f"firelens-{mode}", networkMode=mode, **parts)
    definition = answer["taskDefinition"]["taskDefinitionArn"]
    more: dict[str, Any] = {"networkConfiguration": NETWORK} if mode == "awsvpc" else {}
    (arn,) = run(client, definition, **more)
    return arn


@pytest.mark.parametrize("mode", ["bridge", "awsvpc", "host"])
def test_lines_reach_the_router_with_the_fields_of_their_task(
    fleet: Fleet, busybox_image: str, tmp_path: Path, mode: str
) -> None:
    # Its router has been started, but does not listen yet: nothing may be lost.
    ask = "until nc -w 9 $FLUENT_HOST $FLUENT_PORT </dev/null 2>/dev/null; do sleep 0.2; done"
    said = "echo one; echo two; echo at $FLUENT_HOST:$FLUENT_PORT"
    if mode != "host":
        said = f"{said}; {ask}; echo reachable"
    commands = [f"{said}; exec sleep 600", "echo other; exec sleep 600"]
    arn = start(fleet, mode, pipeline(busybox_image, tmp_path, *commands, late_s=2.0))
    found = wait_records(fleet, arn, 4 if mode == "host" else 5)
    task = arn.rsplit("/", 1)[-1]
    first = [r for r in found if r["tag"] == f"app0-firelens-{task}"]
    logs = [r["record"]["log"] for r in first]
    assert logs[:2] == ["one", "two"]
    if mode == "host":
        assert logs[2] == "at :"
    else:
        assert logs[2].endswith(":24224")
        assert logs[2] != "at :24224"
        assert logs[3] == "reachable"
    (other,) = [r for r in found if r["tag"] == f"app1-firelens-{task}"]
    assert other["record"]["log"] == "other"
    assert other["to"] == {"Name": "stdout", "Match": "app1-firelens*", "colour": "c1"}
    for record in found:
        assert record["record"]["ecs_task_arn"] == arn
        assert record["record"]["ecs_cluster"] == "default"
        assert record["record"]["ecs_task_definition"].startswith(f"firelens-{mode}:")
        assert "ec2_instance_id" not in record["record"]


def test_a_pipeline_outlives_the_agent(fleet: Fleet, busybox_image: str, tmp_path: Path) -> None:
    """The agent is killed while it is prepared, and again while it runs."""
    command = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done"
    arn = start(fleet, "bridge", pipeline(busybox_image, tmp_path, command))
    agent = fleet.agents[0]
    for _ in range(2):
        wait_records(fleet, arn, 1)
        agent.kill()
        agent.start()
        fleet.wait_connected()
    found = wait_records(fleet, arn, len(records(fleet, arn)) + 10)
    logs = [r["record"]["log"] for r in found]
    assert logs == [f"line {n}" for n in range(len(logs))]
    (task,) = describe(fleet.client(), arn)
    assert {c["lastStatus"] for c in task["containers"]} == {"RUNNING"}


def test_a_task_without_a_router_is_refused_when_it_is_registered(
    fleet: Fleet, busybox_image: str
) -> None:
    client = fleet.client()
    with pytest.raises(client.exceptions.ClientException, match="needs a container with firelens"):
        register(
            client, busybox_image, "true",
            containers=[{"logConfiguration": {"logDriver": "awsfirelens"}}],
        )  # fmt: skip
