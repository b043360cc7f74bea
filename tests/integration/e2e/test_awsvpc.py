"""Tasks with an address of their own, end to end: what they see, who reaches them, what is left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
SERVE = "mkdir -p /www; echo hello from $(hostname) > /www/index.html; httpd -p 80 -h /www"


def output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip()


def address_of(client: Any, arn: str) -> str:
    details = describe(client, arn)[0]["attachments"][0]["details"]
    return str(next(d["value"] for d in details if d["name"] == "privateIPv4Address"))


def test_a_task_sees_only_itself_and_is_reached_from_host_and_other_tasks(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    agent = shared_host.agents[0]
    server = register(
        client,
        busybox_image,
        f"{SERVE}; ip -o link; exec sleep 1000",
        "wget -q -O - http://127.0.0.1/; sleep 1000",
        mode="awsvpc",
        containers=[{}, {"dependsOn": [{"containerName": "c0", "condition": "START"}]}],
    )
    first = run(client, server, networkConfiguration=NETWORK)[0]
    client.get_waiter("tasks_running").wait(tasks=[first], WaiterConfig=FAST)
    ip = address_of(client, first)
    hostname = "ip-" + ip.replace(".", "-")
    task_id = first.rsplit("/", 1)[-1]

    links = eventually(lambda: agent.cli("logs", task_id, "--container", "c0"), what="its links")
    names = [line.split(":")[1].strip().split("@")[0] for line in links.splitlines()]
    assert sorted(names) == ["eth0", "lo"]

    page = eventually(lambda: output("busybox", "wget", "-q", "-O", "-", f"http://{ip}/"))
    assert page == f"hello from {hostname}"

    peer = register(client, busybox_image, f"wget -q -O - http://{ip}/; sleep 1000", mode="awsvpc")
    second = run(client, peer, networkConfiguration=NETWORK)[0]
    client.get_waiter("tasks_running").wait(tasks=[second], WaiterConfig=FAST)
    other_id = second.rsplit("/", 1)[-1]
    assert eventually(lambda: agent.cli("logs", other_id)).strip() == page
    assert address_of(client, second) != ip


def test_nothing_of_a_task_is_left_once_it_has_stopped(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    agent = shared_host.agents[0]
    definition = register(
        client,
        busybox_image,
        "echo x > /data/file; sleep 1000",
        mode="awsvpc",
        volumes=[{"name": "scratch"}],
        containers=[{"mountPoints": [{"sourceVolume": "scratch", "containerPath": "/data"}]}],
    )
    arn = run(client, definition, networkConfiguration=NETWORK)[0]
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    ip = address_of(client, arn)
    container = describe(client, arn)[0]["containers"][0]["runtimeId"]
    sandbox = json.loads(output("docker", "inspect", container))[0]["HostConfig"]["NetworkMode"]
    sandbox = sandbox.removeprefix("container:")
    namespace = json.loads(output("docker", "inspect", sandbox))[0]["NetworkSettings"]["SandboxKey"]
    family = definition.rpartition("/")[2].partition(":")[0]
    volumes = output("docker", "volume", "ls", "-q", "--filter", f"name=ecs-{family}-").split()
    assert volumes

    client.stop_task(task=arn)
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    eventually(agent.has_no_tasks, what="the task is forgotten")
    left = output("docker", "ps", "-aq", "--no-trunc").split()
    assert container not in left
    assert sandbox not in left
    # Docker unmounts a namespace at once and sweeps up the empty file within a minute.
    assert namespace not in Path("/proc/mounts").read_text()
    assert ip not in output("nft", "list", "ruleset")
    assert ip not in output("ip", "route")
    assert ip not in output("ip", "neigh")
    assert not set(volumes) & set(output("docker", "volume", "ls", "-q").split())


def test_a_sandbox_that_dies_stops_its_task_with_the_reason(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    definition = register(client, busybox_image, "sleep 1000", mode="awsvpc")
    arn = run(client, definition, networkConfiguration=NETWORK)[0]
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    container = describe(client, arn)[0]["containers"][0]["runtimeId"]
    sandbox = json.loads(output("docker", "inspect", container))[0]["HostConfig"]["NetworkMode"]
    output("docker", "kill", sandbox.removeprefix("container:"))
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    assert "ContainerNetworkingError" in describe(client, arn)[0]["stoppedReason"]
