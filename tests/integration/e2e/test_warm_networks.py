"""Containers in sandboxes that were ready: on a real engine, over an agent's crash, without a leak."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, register, run
from tests.support import fleet, images

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

FAST = {"Delay": 1, "MaxAttempts": 60}


def test_the_second_task_joins_a_ready_sandbox_and_keeps_it_over_a_crash(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    with fleet.fleet(tmp_path, ECS_IMAGE_PULL_BEHAVIOR="prefer-cached") as made:
        client, agent = made.client(), made.agents[0]
        definition = register(
            client,
            busybox_image,
            images.LINGER[2],
            "ip link; exit 3",
            containers=[
                {},
                {
                    "essential": False,
                    "restartPolicy": {"enabled": True, "restartAttemptPeriod": 60},
                },
            ],
        )
        (first,) = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=[first], WaiterConfig=FAST)
        fleet.eventually(lambda: len(_ready()) >= 2, what="sandboxes are ready")
        (second,) = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=[second], WaiterConfig=FAST)
        own = {name: inspect(name) for name in _containers(client, second)}
        modes = {each["HostConfig"]["NetworkMode"] for each in own.values()}
        assert len(modes) == 2
        assert all(mode.startswith("container:") for mode in modes)
        agent.kill()
        agent.start()
        (third,) = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=[third], WaiterConfig=FAST)
        again = {name: inspect(name) for name in _containers(client, second)}
        for name, before in own.items():
            assert again[name]["HostConfig"]["NetworkMode"] == before["HostConfig"]["NetworkMode"]
        for arn in (first, second, third):
            client.stop_task(task=arn)
        client.get_waiter("tasks_stopped").wait(tasks=[first, second, third], WaiterConfig=FAST)


def inspect(name: str) -> dict[str, Any]:
    """Return what the engine says of a container."""
    done = subprocess.run(["docker", "inspect", name], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout)[0])


def _containers(client: Any, arn: str) -> list[str]:
    (task,) = describe(client, arn)
    return [container["runtimeId"] for container in task["containers"]]


def _ready() -> list[str]:
    done = subprocess.run(
        ["docker", "ps", "-q", "--filter", "label=ecs-host-agent.container-sandbox"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()
