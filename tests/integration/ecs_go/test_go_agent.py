"""A host that runs Amazon's own agent joins our control endpoint and runs tasks.

Opt-in: set ``ECS_GO_AGENT`` to the path of an executable of the Amazon ECS agent (1.105 or near) for
this machine.
"""

from __future__ import annotations

import os
import secrets
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, register, run
from tests.integration.ecs_go.conftest import BINARY, place
from tests.support.fleet import KEYS, LONG_POLL, TOKEN, WIRES, Agent, eventually, free_port
from tests.support.images import LINGER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.ecs_go.conftest import Place

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not BINARY, reason="ECS_GO_AGENT names no executable of Amazon's agent"),
]

STAY = LINGER[2]
EXTERNAL = "ecs.capability.external"


def container(task: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one container of a described task."""
    (found,) = [c for c in task["containers"] if c["name"] == name]
    shown: dict[str, Any] = found
    return shown


def said(instance: dict[str, Any]) -> dict[str, str]:
    """Return what an instance says of its versions, without what it leaves empty."""
    return {name: value for name, value in instance["versionInfo"].items() if value}


def test_a_host_joins_runs_tasks_and_reports_them(started: Place, busybox_image: str) -> None:
    client = started.client
    [instance] = started.instances()
    assert instance["status"] == "ACTIVE"
    eventually(
        lambda: {"agentVersion", "dockerVersion"} <= set(said(started.instances()[0])),
        within_s=5,
        what="the versions of agent and engine",
    )
    names = {a["name"]: a.get("value") for a in instance["attributes"]}
    assert EXTERNAL in names
    assert names["ecs.os-type"] == "linux"
    offered = {r["name"]: r for r in instance["registeredResources"]}
    assert offered["CPU"]["integerValue"] == 1024 * (os.cpu_count() or 1)

    [arn] = run(client, register(client, busybox_image, STAY))
    task = started.until(arn, "RUNNING")
    running = container(task, "c0")
    assert running["lastStatus"] == "RUNNING"
    assert len(running["runtimeId"]) == 64
    left = {r["name"]: r for r in started.instances()[0]["remainingResources"]}
    assert left["CPU"]["integerValue"] == offered["CPU"]["integerValue"] - 10
    assert started.instances()[0]["runningTasksCount"] == 1

    client.stop_task(task=arn, reason="enough")
    task = started.until(arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert container(task, "c0")["exitCode"] == 0
    assert all(task[key] for key in ("startedAt", "stoppedAt", "executionStoppedAt"))
    assert started.instances()[0]["runningTasksCount"] == 0


def test_ports_of_bridge_and_host_mode_are_reported_and_reached(
    started: Place, busybox_image: str
) -> None:
    client = started.client
    serve = "exec httpd -f -p 8080 -h /www"
    ports = [{"containerPort": 8080}]
    [bridge] = run(
        client,
        register(client, busybox_image, serve, mode="bridge", containers=[{"portMappings": ports}]),
    )
    port = free_port()
    [host] = run(
        client,
        register(
            client,
            busybox_image,
            f"exec httpd -f -p 127.0.0.1:{port} -h /www",
            mode="host",
            containers=[{"portMappings": [{"containerPort": port}]}],
        ),
    )

    started.until(host, "RUNNING")
    [binding] = container(started.until(bridge, "RUNNING"), "c0")["networkBindings"]

    assert binding["containerPort"] == 8080
    assert binding["protocol"] == "tcp"
    for reached in (binding["hostPort"], port):
        page = eventually(partial(read, reached), within_s=10, what=f"a page at port {reached}")
        assert page == b"hello from busybox\n"
    for arn in (bridge, host):
        client.stop_task(task=arn)
    for arn in (bridge, host):
        started.until(arn, "STOPPED")


def read(port: int) -> bytes:
    """Return the page that a port serves, or nothing while there is none."""
    url = f"http://127.0.0.1:{port}/index.html"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_health_order_and_exit_codes_are_kept(started: Place, busybox_image: str) -> None:
    client = started.client
    definition = register(
        client,
        busybox_image,
        "touch /tmp/well; " + STAY,
        "exit 3",
        containers=[
            {
                "healthCheck": {
                    "command": ["CMD-SHELL", "test -e /tmp/well"],
                    "interval": 5,
                    "startPeriod": 0,
                }
            },
            {"essential": False, "dependsOn": [{"containerName": "c0", "condition": "HEALTHY"}]},
        ],
    )

    [arn] = run(client, definition)
    started.until(arn, "RUNNING")

    def told() -> bool:
        task = started.task(arn)
        first, second = container(task, "c0"), container(task, "c1")
        return first["healthStatus"] == "HEALTHY" and second.get("exitCode") == 3

    eventually(told, within_s=60, what="health and exit code are reported")
    assert started.task(arn)["healthStatus"] == "HEALTHY"
    client.stop_task(task=arn)
    started.until(arn, "STOPPED")


def test_what_cannot_run_is_told_as_amazon_ecs_tells_it(started: Place, busybox_image: str) -> None:
    client = started.client
    [ends] = run(client, register(client, busybox_image, "exit 7"))
    [absent] = run(client, register(client, f"127.0.0.1:{free_port()}/absent:1", "true"))

    task = started.until(ends, "STOPPED")
    assert task["stopCode"] == "EssentialContainerExited"
    assert container(task, "c0")["exitCode"] == 7

    task = started.until(absent, "STOPPED", within_s=120)
    assert task["stopCode"] == "TaskFailedToStart"
    assert container(task, "c0")["reason"].startswith("CannotPull")

    refused = client.run_task(
        taskDefinition=register(client, busybox_image, STAY, mode="awsvpc"),
        networkConfiguration=NETWORK,
    )
    assert not refused["tasks"]
    assert refused["failures"]


def test_tasks_live_through_restarts_of_agent_and_control(
    started: Place, busybox_image: str
) -> None:
    client = started.client
    [instance] = started.instances()
    definition = register(client, busybox_image, STAY)
    [arn] = run(client, definition)
    runtime_id = container(started.until(arn, "RUNNING"), "c0")["runtimeId"]

    started.agent.kill()
    started.agent.start()
    started.wait_connected()
    assert [i["containerInstanceArn"] for i in started.instances()] == [
        instance["containerInstanceArn"]
    ]
    eventually(started.known_to_the_agent, what="the agent tells of its task")

    started.control.kill()
    started.control.start()
    started.control.ready()
    started.wait_connected()
    [second] = run(client, definition)
    started.until(second, "RUNNING")

    task = started.task(arn)
    assert (task["lastStatus"], container(task, "c0")["runtimeId"]) == ("RUNNING", runtime_id)
    for each in (arn, second):
        client.stop_task(task=each)
    for each in (arn, second):
        started.until(each, "STOPPED")


def test_orders_given_while_the_agent_is_away_are_carried_out_later(
    started: Place, busybox_image: str
) -> None:
    client = started.client
    [arn] = run(client, register(client, busybox_image, STAY))
    started.until(arn, "RUNNING")
    started.agent.kill()

    client.stop_task(task=arn)
    started.agent.start()

    assert container(started.until(arn, "STOPPED"), "c0")["exitCode"] == 0


def test_an_instance_that_an_operator_takes_out_is_told_so(
    started: Place, busybox_image: str
) -> None:
    client = started.client
    [arn] = run(client, register(client, busybox_image, STAY))
    started.until(arn, "RUNNING")
    [instance] = started.instances()

    client.update_container_instances_state(
        containerInstances=[instance["containerInstanceArn"]], status="DRAINING"
    )
    with pytest.raises(client.exceptions.InvalidParameterException, match="No Container Instances"):
        client.run_task(taskDefinition=started.task(arn)["taskDefinitionArn"])
    client.deregister_container_instance(
        containerInstance=instance["containerInstanceArn"], force=True
    )

    eventually(
        lambda: "InactiveInstanceException" in started.agent.log.read_text(errors="replace"),
        what="the agent hears that it was taken out",
    )
    assert not started.instances()
    assert started.agent.is_alive()
    assert started.known_to_the_agent()  # as on Amazon ECS, what runs is left alone


def test_an_agent_needs_a_token_where_control_asks_for_one(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    token = secrets.token_hex(24)
    (tmp_path / "tokens").write_text(f"{token}\n")
    (tmp_path / "tokens").chmod(0o600)
    with place(tmp_path, "--token-file", str(tmp_path / "tokens"), secret="not-a-token") as made:
        made.control.start()
        made.control.ready()
        made.agent.start()
        eventually(lambda: not made.agent.is_alive(), what="an agent with a bad key gives up")
        assert not made.instances()

        made.agent.environment["AWS_SECRET_ACCESS_KEY"] = token
        made.agent.start()
        made.wait_connected()
        [arn] = run(made.client, register(made.client, busybox_image, STAY))
        made.until(arn, "RUNNING")
        made.client.stop_task(task=arn)
        made.until(arn, "STOPPED")


def way_of(wire: str, url: str, control: Path) -> dict[str, str]:
    """Return the settings of an agent of ours that comes by this wire."""
    if wire == LONG_POLL:
        return {
            "ECS_CONTROL_ENDPOINT": url,
            "ECS_CONTROL_TOKEN_FILE": str(control / "agent.tokens"),
        }
    return {
        **KEYS,
        "AWS_SECRET_ACCESS_KEY": TOKEN,
        "ECS_BACKEND_HOST": url,
        "ECS_EXTERNAL": "true",
    }


@pytest.mark.parametrize("wire", WIRES)
def test_both_agents_serve_one_cluster_side_by_side(
    started: Place, busybox_image: str, wire: str
) -> None:
    directory = started.control.directory
    ours = Agent(name="ours", arguments=["run"], directory=directory)
    ours.environment = {
        **way_of(wire, started.control.url, directory / "control"),
        "ECS_DATADIR": str(directory / "ours"),
        "ECS_AGENT_SOCKET": str(ours.socket),
        "ECS_TASK_BRIDGE": "ecst-go0",
        "ECS_TASK_POOL_CIDR": "10.219.96.0/22",
        "ECS_FIREWALL_TABLE": "ecs_test_go",
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "1s",
    }
    ours.start()
    client = started.client
    try:
        eventually(
            lambda: [i["agentConnected"] for i in started.instances()] == [True, True],
            what="both are connected",
        )
        arns = run(
            client,
            register(client, busybox_image, STAY),
            count=6,
            placementStrategy=[{"type": "spread", "field": "instanceId"}],
        )
        tasks = [started.until(arn, "RUNNING") for arn in arns]
        assert len({task["containerInstanceArn"] for task in tasks}) == 2
        for arn in arns:
            client.stop_task(task=arn)
        for arn in arns:
            assert container(started.until(arn, "STOPPED"), "c0")["exitCode"] == 0
        eventually(ours.has_no_tasks, what="our agent is empty")
    finally:
        ours.stop()
