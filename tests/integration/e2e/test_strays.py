"""Containers that somebody starts again with Docker after the agent has seen their end."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, nothing_left, register, run
from tests.support.fleet import Fleet, eventually, fleet, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import APIClient

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
LINGER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def one_host(sdk: APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A host that keeps stopped containers for a while, as hosts do."""
    del sdk
    directory = tmp_path_factory.mktemp("strays")
    with (
        nothing_left(directory),
        fleet(directory, ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION="25s") as made,
    ):
        yield made


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout.strip()


def runs(container_id: str) -> bool:
    return docker("inspect", "-f", "{{.State.Running}}", container_id) == "true"


def stays(check: Callable[[], bool], seconds: float = 2.0) -> bool:
    """Tell whether something holds for a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not check():
            return False
        time.sleep(0.05)
    return True


def a_stopped_task(host: Fleet, definition: str) -> tuple[str, str]:
    client = host.client()
    (arn,) = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    client.stop_task(task=arn)
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    return arn, str(describe(client, arn)[0]["containers"][0]["runtimeId"])


def test_a_container_of_a_stopped_task_is_stopped_again_once(
    one_host: Fleet, busybox_image: str
) -> None:
    client, agent = one_host.client(), one_host.agents[0]
    port = free_port()
    mapping = [{"containerPort": port, "hostPort": port}]
    definition = register(
        client,
        busybox_image,
        f"httpd -p {port}; {LINGER}",
        mode="host",
        containers=[{"portMappings": mapping}],
    )
    arn, container = a_stopped_task(one_host, definition)
    before = describe(client, arn)
    docker("start", container)
    began = time.monotonic()
    eventually(lambda: not runs(container), within_s=10, what="it is stopped again")
    assert time.monotonic() - began < 3
    assert "a container that had ended was started again; stopping it" in agent.tail(200)
    assert describe(client, arn) == before, "control has nothing new to hear"

    (other,) = run(client, definition)  # on the same port
    client.get_waiter("tasks_running").wait(tasks=[other], WaiterConfig=FAST)
    assert stays(lambda: describe(client, other)[0]["lastStatus"] == "RUNNING", 1.0)
    client.stop_task(task=other)
    client.get_waiter("tasks_stopped").wait(tasks=[other], WaiterConfig=FAST)

    docker("start", container)
    assert stays(lambda: runs(container)), "whoever insists is left alone"
    task_id = arn.rpartition("/")[2]
    assert "somebody started it again" in agent.cli("why", task_id)
    assert any(task_id in text for text in agent.json("status")["degraded"])
    docker("kill", container)
    eventually(lambda: not agent.json("status")["degraded"], what="all is well again")


def test_an_agent_that_was_away_finds_it(one_host: Fleet, busybox_image: str) -> None:
    client, agent = one_host.client(), one_host.agents[0]
    _, container = a_stopped_task(one_host, register(client, busybox_image, LINGER))
    agent.kill()
    docker("start", container)
    agent.start()
    eventually(lambda: not runs(container), what="it is stopped")


def test_a_restart_by_hand_of_a_running_container_leaves_nothing_unknown(
    one_host: Fleet, busybox_image: str
) -> None:
    """The agent may see the end before the start: then the task has stopped, and so has all of it."""
    client = one_host.client()
    (arn,) = run(client, register(client, busybox_image, LINGER))
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    container = str(describe(client, arn)[0]["containers"][0]["runtimeId"])
    # An agent that sees the end in the middle of it stops the container once more, and the engine may refuse.
    subprocess.run(["docker", "restart", "-t", "1", container], capture_output=True, check=False)

    def agrees() -> Any:
        return runs(container) == (describe(client, arn)[0]["lastStatus"] == "RUNNING")

    eventually(agrees, what="what is shown is what there is")
    assert stays(agrees)


def test_a_restart_policy_that_somebody_gave_the_engine(
    one_host: Fleet, busybox_image: str
) -> None:
    client = one_host.client()
    (arn,) = run(client, register(client, busybox_image, LINGER))
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    container = str(describe(client, arn)[0]["containers"][0]["runtimeId"])
    docker("update", "--restart", "always", container)
    client.stop_task(task=arn)
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    assert stays(lambda: not runs(container))
