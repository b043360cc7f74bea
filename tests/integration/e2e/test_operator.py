"""What an operator does with the AWS tools, against the real processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support.fleet import KEYS, LONG_POLL, eventually

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}


def test_boto3_runs_three_copies_and_its_own_waiters_see_them(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    client.create_cluster(clusterName="default")
    definition = register(
        client, busybox_image, "trap 'exit 0' TERM; sleep 1000 & wait", "sleep 1000"
    )
    arns = run(client, definition, count=3)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    tasks = describe(client, *arns)
    assert [t["lastStatus"] for t in tasks] == ["RUNNING"] * 3
    assert all(c["runtimeId"] for t in tasks for c in t["containers"])
    for arn in arns:
        client.stop_task(task=arn, reason="enough")
    client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=FAST)
    for task in describe(client, *arns):
        assert task["stopCode"] == "UserInitiated"
        assert task["stoppedReason"] == "enough"
        assert {c["name"]: c["exitCode"] for c in task["containers"]}["c0"] == 0


@pytest.mark.parametrize("shared_fleet", [LONG_POLL], indirect=True)  # its wire is the API's
def test_the_aws_command_line_does_the_same(shared_host: Fleet, busybox_image: str) -> None:
    aws = Path(sys.executable).with_name("aws")

    def ecs(*words: str) -> Any:
        done = subprocess.run(
            [sys.executable, str(aws), "ecs", *words, "--endpoint-url", shared_host.control.url],
            env={**os.environ, **KEYS},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    assert ecs("create-cluster", "--cluster-name", "default")["cluster"]["status"] == "ACTIVE"
    containers = [
        {
            "name": name,
            "image": busybox_image,
            "memory": 32,
            "command": ["sleep", "1000"],
            "stopTimeout": 2,
        }
        for name in ("a", "b")
    ]
    ecs(
        "register-task-definition",
        "--family",
        "pair",
        "--network-mode",
        "none",
        "--container-definitions",
        json.dumps(containers),
    )
    ran = ecs("run-task", "--task-definition", "pair", "--count", "3")
    arns = [t["taskArn"] for t in ran["tasks"]]
    assert len(arns) == 3
    ecs("wait", "tasks-running", "--tasks", *arns)
    for arn in arns:
        assert ecs("stop-task", "--task", arn)["task"]["desiredStatus"] == "STOPPED"
    ecs("wait", "tasks-stopped", "--tasks", *arns)


def test_an_unknown_image_stops_its_task_and_disturbs_no_other(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    good = run(client, register(client, busybox_image, "sleep 1000"))
    bad = run(client, register(client, "127.0.0.1:9/no-such-image:1", "true"))
    client.get_waiter("tasks_running").wait(tasks=good, WaiterConfig=FAST)
    client.get_waiter("tasks_stopped").wait(tasks=bad, WaiterConfig=FAST)
    task = describe(client, *bad)[0]
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["containers"][0]["reason"].startswith("CannotPullContainerError: ")
    assert describe(client, *good)[0]["lastStatus"] == "RUNNING"


def test_memory_below_the_engines_minimum_is_a_reason_on_the_task(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    definition = register(client, busybox_image, "sleep 9", containers=[{"memory": 4}])
    arns = run(client, definition)
    client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=FAST)
    reason = describe(client, *arns)[0]["containers"][0]["reason"]
    assert reason.startswith("CannotCreateContainerError: Error response from daemon: ")
    assert "emory" in reason


def test_exit_codes_and_dependencies_reach_describe_tasks(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    definition = register(
        client,
        busybox_image,
        "exit 0",
        "exit 7",
        containers=[
            {"essential": False},
            {"dependsOn": [{"containerName": "c0", "condition": "SUCCESS"}]},
        ],
    )
    arns = run(client, definition)
    client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=FAST)
    task = describe(client, *arns)[0]
    assert {c["name"]: c["exitCode"] for c in task["containers"]} == {"c0": 0, "c1": 7}
    assert task["stopCode"] == "EssentialContainerExited"


def test_bridge_tasks_publish_fixed_and_dynamic_ports(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    definition = register(
        client,
        busybox_image,
        "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www",
        mode="bridge",
        containers=[{"portMappings": [{"containerPort": 80, "hostPort": 0}]}],
    )
    arns = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    binding = describe(client, *arns)[0]["containers"][0]["networkBindings"][0]
    assert binding["containerPort"] == 80

    def page() -> str:
        done = subprocess.run(
            ["busybox", "wget", "-q", "-O", "-", f"http://127.0.0.1:{binding['hostPort']}/"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
        return done.stdout.strip()

    assert eventually(page, what="a page") == "hello"


def test_the_local_command_line_works_while_control_is_away(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    agent = shared_host.agents[0]
    arns = run(client, register(client, busybox_image, "echo line; sleep 1000"))
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    shared_host.control.stop()
    try:
        task_id = arns[0].rsplit("/", 1)[-1]
        assert [t["id"] for t in json.loads(agent.cli("tasks", "--json"))] == [task_id]
        assert json.loads(agent.cli("status", "--json"))["running"] == 1
        assert "line" in agent.cli("logs", task_id)
        agent.cli("stop", task_id)
        eventually(
            lambda: json.loads(agent.cli("task", task_id, "--json"))["status"] == "STOPPED",
            what="stopped",
        )
    finally:
        shared_host.control.start()
        shared_host.control.ready()
        shared_host.wait_connected()


def test_why_names_what_a_waiting_task_waits_for(shared_host: Fleet, busybox_image: str) -> None:
    client = shared_host.client()
    agent = shared_host.agents[0]
    total = agent.json("status")["resources"]
    memory = next(r["total"] for r in total if r["name"] == "MEMORY")
    definition = register(
        client,
        busybox_image,
        "sleep 3",
        "sleep 1000",
        containers=[
            {"essential": False, "memory": 64},
            {
                "memory": memory - 100,
                "dependsOn": [{"containerName": "c0", "condition": "COMPLETE"}],
            },
        ],
    )
    arns = run(client, definition)
    task_id = arns[0].rsplit("/", 1)[-1]

    def waits() -> Any:
        done = agent.cli("why", task_id, "--json", check=False)
        return [w for w in json.loads(done or "{}").get("waits", []) if w.get("container") == "c1"]

    found = eventually(waits, what="it waits")
    assert "container c0 to reach COMPLETE" in found[0]["what"]


def test_awsvpc_addresses_stand_where_ecs_shows_them(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    definition = register(client, busybox_image, "sleep 1000", mode="awsvpc")
    arns = run(client, definition, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    task = describe(client, *arns)[0]
    attachment = task["attachments"][0]
    assert attachment["type"] == "ElasticNetworkInterface"
    assert attachment["status"] == "ATTACHED"
    details = {d["name"]: d["value"] for d in attachment["details"]}
    interface = task["containers"][0]["networkInterfaces"][0]
    assert interface["privateIpv4Address"] == details["privateIPv4Address"]
    assert interface["attachmentId"] == attachment["id"]
    assert details["privateIPv4Address"].startswith("10.219.")
    assert re.fullmatch(r"eni-[0-9a-f]{17}", details["networkInterfaceId"])


def test_the_longest_names_run(shared_host: Fleet, busybox_image: str) -> None:
    """The engine keeps a volume in a directory of its name, which has at most 255 characters."""
    client = shared_host.client()
    volume = "v" * 255
    definition = register(
        client,
        busybox_image,
        "test -d /data && sleep 1000",
        family="f" * 255,
        volumes=[{"name": volume}],
        containers=[
            {
                "name": "c" * 255,
                "mountPoints": [{"sourceVolume": volume, "containerPath": "/data"}],
            }
        ],
    )
    arns = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    assert describe(client, *arns)[0]["group"] == "family:" + "f" * 255
