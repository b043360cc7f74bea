"""What the agent made at its start is removed while it runs: tasks notice nothing, and no word is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, pid_of, register, run
from tests.support.fleet import Fleet, eventually, fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
SERVE = "mkdir /www; hostname > /www/index.html; httpd -p 80 -h /www; exec sleep 1000"


@pytest.fixture
def one_host(leak_check: None, tmp_path: Path) -> Iterator[Fleet]:
    """A host without spare sandboxes, so that each task needs all that a sandbox is made of."""
    del leak_check
    with fleet(tmp_path, ECS_WARM_SANDBOXES="0") as made:
        yield made


def sh(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def page_at(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_state_and_socket(
    one_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    client, agent = one_host.client(), one_host.agents[0]
    definition = register(client, busybox_image, "sleep 1000")
    arns = run(client, definition, count=2)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    before = {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns}
    instances = client.list_container_instances()["containerInstanceArns"]

    shutil.rmtree(one_host.directory / f"{agent.name}-data")
    agent.socket.unlink()
    arns += run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    eventually(agent.socket.exists, within_s=15, what="the socket is made again")
    eventually(lambda: len(agent.json("tasks")) == 3, what="the agent answers there")
    before[arns[2]] = [pid_of(c) for c in containers_of(arns[2])]

    agent.kill()
    agent.start()
    eventually(agent.is_connected, what="the agent is back")
    assert sorted(task["arn"] for task in agent.json("tasks")) == sorted(arns)
    assert client.list_container_instances()["containerInstanceArns"] == instances
    assert {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns} == before
    assert [task["lastStatus"] for task in describe(client, *arns)] == ["RUNNING"] * 3


def test_all_that_a_task_network_needs(one_host: Fleet, busybox_image: str) -> None:
    """Each is removed right before a launch; not one task fails because of it."""
    client, agent = one_host.client(), one_host.agents[0]
    bridge, table = agent.environment["ECS_TASK_BRIDGE"], agent.environment["ECS_FIREWALL_TABLE"]
    definition = register(client, busybox_image, SERVE, mode="awsvpc")
    images = sh("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    (pause,) = [name for name in images if name.startswith("ecs-host-agent/pause")]
    arns: list[str] = []
    for removal in (
        ("docker", "rmi", "-f", pause),
        ("ip", "link", "del", bridge),
        ("nft", "delete", "table", "inet", table),
        ("ip", "addr", "flush", "dev", bridge),
    ):
        sh(*removal)
        arns += run(client, definition, networkConfiguration=NETWORK)
        client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    for task in describe(client, *arns):
        details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
        url = f"http://{details['privateIPv4Address']}/"
        page = eventually(partial(page_at, url), what=f"{url} answers")
        assert page.startswith("ip-")
    listed = json.loads(sh("nft", "-j", "list", "table", "inet", table))["nftables"]
    assert len([e for e in listed if e.get("rule", {}).get("chain") == "outside"]) == 1
    assert "the pause image was removed; loading it again" in agent.tail(400)


def host_port(client: Any, arn: str) -> int:
    (binding,) = describe(client, arn)[0]["containers"][0]["networkBindings"]
    return int(binding["hostPort"])


def in_network(container_id: str) -> bool:
    shown = sh("docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", container_id)
    return "bridge" in json.loads(shown)


def test_a_container_taken_off_its_network(
    one_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    client, agent = one_host.client(), one_host.agents[0]
    ports = [{"portMappings": [{"containerPort": 80}]}]
    definition = register(client, busybox_image, SERVE, mode="bridge", containers=ports)
    arns = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    (container_id,) = containers_of(arns[0])
    pid, url = pid_of(container_id), f"http://127.0.0.1:{host_port(client, arns[0])}/"
    page = eventually(partial(page_at, url), what="the page is served")
    for _ in range(3):
        began = time.monotonic()
        sh("docker", "network", "disconnect", "bridge", container_id)
        eventually(partial(in_network, container_id), within_s=10, what="it is connected again")
        assert time.monotonic() - began < 5
        again = eventually(partial(page_at, url), what="its port serves again")
        assert again == page
    assert pid_of(container_id) == pid
    assert describe(client, *arns)[0]["lastStatus"] == "RUNNING"
    assert "was disconnected from network bridge" in agent.cli("status")
    assert "reconnected it" in agent.tail(400)


def test_a_sandbox_taken_off_the_network_of_the_engine_has_its_own(
    one_host: Fleet, busybox_image: str
) -> None:
    """The engine counts it to the network ``none``, which gives it nothing."""
    client = one_host.client()
    definition = register(client, busybox_image, SERVE, mode="awsvpc")
    arns = run(client, definition, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    (task,) = describe(client, *arns)
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    address = details["privateIPv4Address"]
    url = f"http://{address}/"
    page = eventually(partial(page_at, url), what="the page is served")
    sh("docker", "network", "disconnect", "none", f"ecs-sandbox-{address.replace('.', '-')}")
    assert eventually(partial(page_at, url), what="the page is served") == page
    arns += run(client, definition, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    assert [task["lastStatus"] for task in describe(client, *arns)] == ["RUNNING"] * 2


def test_the_operator_socket_comes_back_at_once(one_host: Fleet) -> None:
    agent = one_host.agents[0]
    for _ in range(3):
        began = time.monotonic()
        agent.socket.unlink()
        eventually(agent.socket.exists, within_s=10, what="the socket is made again")
        assert time.monotonic() - began < 5
        eventually(agent.is_connected, what="the agent answers there")
    assert "the operator socket was removed" in agent.cli("status")
