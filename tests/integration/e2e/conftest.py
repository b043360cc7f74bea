"""A control endpoint and agents as real processes, driven by boto3 and the AWS command line."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import WIRES, Fleet, fleet
from tests.support.leaks import HostSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
"""What ECS insists on for awsvpc; on hosts of one's own the subnet is only a name."""

Definition = dict[str, Any]
Register = "Callable[..., str]"


@pytest.fixture(params=WIRES)
def one_host(leak_check: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """One control endpoint and one agent, over each wire; nothing of either may stay on the host."""
    del leak_check
    with fleet(tmp_path, wire=request.param) as made:
        yield made


@contextlib.contextmanager
def nothing_left(directory: Path) -> Iterator[None]:
    """Fail if there is more on the host in the end than before; ``directory`` is of the agents."""
    before = HostSnapshot.take()
    yield
    left = before.wait_until_clean(agents=directory)
    assert not left, "left behind on the host:\n  " + "\n  ".join(left)


@pytest.fixture(scope="module", params=WIRES)
def shared_fleet(
    sdk: docker.APIClient, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Fleet]:
    """As ``one_host``, for the tests of a module that leave both processes running."""
    del sdk
    directory = tmp_path_factory.mktemp("shared")
    with nothing_left(directory), fleet(directory, wire=request.param) as made:
        yield made


@pytest.fixture
def shared_host(shared_fleet: Fleet) -> Iterator[Fleet]:
    """``shared_fleet`` without a task: to start processes takes longer than most tests."""
    yield shared_fleet
    shared_fleet.stop_tasks()


@pytest.fixture
def containers_of() -> Callable[[str], list[str]]:
    """Return the engine's ids of a task's containers, the running ones."""

    def find(task_arn: str) -> list[str]:
        done = subprocess.run(
            [
                "docker",
                "ps",
                "-q",
                "--no-trunc",
                "--filter",
                f"label=com.amazonaws.ecs.task-arn={task_arn}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return sorted(done.stdout.split())

    return find


def pid_of(container_id: str) -> int:
    """Return the process id of a container's first process."""
    done = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.Pid}}", container_id],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def register(client: Any, image: str, *commands: str, mode: str = "none", **more: Any) -> str:
    """Register a task definition with one container per command and return its ARN."""
    containers: list[Definition] = [
        {
            "name": f"c{index}",
            "image": image,
            "memory": 32,
            "cpu": 10,
            "essential": True,
            "command": ["sh", "-c", command],
            "stopTimeout": 2,
        }
        for index, command in enumerate(commands)
    ]
    for container, change in zip(containers, more.pop("containers", []), strict=False):
        container.update(change)
    answer = client.register_task_definition(
        family=more.pop("family", f"t-{uuid.uuid4().hex[:8]}"),
        networkMode=mode,
        containerDefinitions=containers,
        **more,
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


def run(client: Any, definition: str, *, count: int = 1, **more: Any) -> list[str]:
    """Run copies of a task definition and return their ARNs."""
    answer = client.run_task(taskDefinition=definition, count=count, **more)
    assert not answer["failures"], answer["failures"]
    return [t["taskArn"] for t in answer["tasks"]]


def describe(client: Any, *arns: str) -> list[dict[str, Any]]:
    """Return what DescribeTasks says of tasks, in the order asked."""
    by_arn: dict[str, dict[str, Any]] = {}
    for start in range(0, len(arns), 100):
        answer = client.describe_tasks(tasks=list(arns[start : start + 100]))
        by_arn |= {t["taskArn"]: t for t in answer["tasks"]}
    return [by_arn[a] for a in arns]
