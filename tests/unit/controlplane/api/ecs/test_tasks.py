"""RunTask, StartTask, StopTask, DescribeTasks, ListTasks through the real server."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from agent.controlplane import records
from agent.controlplane.api.ecs import tasks as task_handlers
from agent.controlplane.janitor import Janitor
from agent.controlplane.parts import Parts
from agent.controlplane.records import TaskRecord
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.changes import AttachmentChange, ContainerChange, NetworkInterface
from agent.model.task import NetworkBinding
from tests.support.control_endpoint import (
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
    gpus,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

AWSVPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A control endpoint with a cluster ``default``."""
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        yield running


@pytest.fixture
async def agent(endpoint: Endpoint) -> ScriptedAgent:
    """A registered host with 2048 CPU units, 2048 MiB and two GPUs."""
    scripted = ScriptedAgent(endpoint, gpus=gpus(2))
    await scripted.register()
    return scripted


async def run(endpoint: Endpoint, **request: Any) -> dict[str, Any]:
    return await endpoint.call("RunTask", **({"taskDefinition": "web"} | request))


async def run_one(endpoint: Endpoint, **request: Any) -> str:
    answer = await run(endpoint, **request)
    assert answer["failures"] == []
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


async def test_life_of_a_task(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    await endpoint.call(
        "RegisterTaskDefinition",
        **definition(
            containerDefinitions=[
                {
                    "name": "main",
                    "image": "img",
                    "cpu": 256,
                    "memory": 128,
                    "memoryReservation": 64,
                    "portMappings": [{"containerPort": 80, "hostPort": 8080}],
                }
            ],
            tags=[{"key": "from", "value": "definition"}],
        ),
    )
    answer = await run(
        endpoint,
        startedBy="tester",
        tags=[{"key": "a", "value": "1"}],
        propagateTags="TASK_DEFINITION",
        enableECSManagedTags=True,
        overrides={"containerOverrides": [{"name": "main", "command": ["x"]}]},
    )
    (made,) = answer["tasks"]
    arn = made["taskArn"]
    assert made["lastStatus"] == "PENDING"
    assert made["desiredStatus"] == "RUNNING"
    assert made["group"] == "family:web"
    assert made["launchType"] == "EC2"
    assert made["containerInstanceArn"] == agent.arn
    assert made["attributes"] == [{"name": "ecs.cpu-architecture", "value": "x86_64"}]
    assert (made["cpu"], made["memory"]) == ("256", "64")
    assert made["overrides"]["containerOverrides"] == [{"name": "main", "command": ["x"]}]
    assert {tag["key"]: tag["value"] for tag in made["tags"]} == {
        "from": "definition",
        "a": "1",
        "aws:ecs:clusterName": "default",
    }
    binding = NetworkBinding(container_port=80, host_port=8080)
    running = ContainerChange(
        container_name="main",
        status="RUNNING",
        runtime_id="r1",
        image_digest="sha256:1",
        network_bindings=[binding],
    )
    await agent.report(
        a_report(arn, "PENDING", pull_started_at=1.0, pull_stopped_at=2.0, containers=[]),
        a_report(arn, "RUNNING", started_at=3.0, containers=[running]),
    )
    task = await endpoint.task(arn)
    assert task["tags"] == []
    assert (task["lastStatus"], task["connectivity"]) == ("RUNNING", "CONNECTED")
    assert (task["pullStartedAt"], task["pullStoppedAt"], task["startedAt"]) == (1.0, 2.0, 3.0)
    container = task["containers"][0]
    assert container["lastStatus"] == "RUNNING"
    assert container["imageDigest"] == "sha256:1"
    assert container["memoryReservation"] == "64"
    assert container["networkBindings"] == [
        {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 8080, "protocol": "tcp"}
    ]
    await agent.report(
        a_report(
            arn,
            "STOPPED",
            stopped_at=9.0,
            containers=[ContainerChange(container_name="main", status="STOPPED", exit_code=7)],
        )
    )
    task = await endpoint.task(arn, include=["TAGS"])
    assert task["lastStatus"] == "STOPPED"
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["stoppedAt"] == 9.0
    assert task["containers"][0]["exitCode"] == 7
    assert len(task["tags"]) == 3
    # What it held is free again.
    assert await run_one(endpoint)


async def test_stop(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    arn = await run_one(endpoint)
    await agent.report(a_report(arn, "RUNNING"))
    stopped = (await endpoint.call("StopTask", task=arn.rsplit("/", 1)[-1]))["task"]
    assert (stopped["desiredStatus"], stopped["lastStatus"]) == ("STOPPED", "RUNNING")
    assert stopped["stopCode"] == "UserInitiated"
    assert stopped["stoppedReason"] == "Task stopped by user"
    again = (await endpoint.call("StopTask", task=arn, reason="other"))["task"]
    assert again["version"] == stopped["version"]
    await agent.report(a_report(arn, "STOPPED"))
    task = await endpoint.task(arn)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "UserInitiated")
    with pytest.raises(ApiFailure, match="referenced task was not found"):
        await endpoint.call("StopTask", task="0" * 32)


async def test_awsvpc_task(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition(networkMode="awsvpc"))
    with pytest.raises(ApiFailure) as caught:
        await run(endpoint)
    assert caught.value.name == "InvalidParameterException"
    assert caught.value.message == (
        "Network Configuration must be provided when networkMode 'awsvpc' is specified."
    )
    answer = await run(endpoint, networkConfiguration=AWSVPC)
    (made,) = answer["tasks"]
    assert made["lastStatus"] == "PROVISIONING"
    (attachment,) = made["attachments"]
    assert (attachment["type"], attachment["status"]) == ("ElasticNetworkInterface", "PRECREATED")
    details = {
        "privateIPv4Address": "10.0.0.5",
        "macAddress": "02:00:00:00:00:05",
        "networkInterfaceId": "eni-5",
        "privateDnsName": "ip-10-0-0-5.internal",
    }
    interface = NetworkInterface(attachment_id="mine", private_ipv4_address="10.0.0.5")
    main = ContainerChange(container_name="main", status="RUNNING", network_interfaces=[interface])
    await agent.report(
        a_report(
            made["taskArn"],
            "RUNNING",
            containers=[main],
            attachments=[AttachmentChange(id="mine", status="ATTACHED", details=details)],
        )
    )
    task = await endpoint.task(made["taskArn"])
    assert task["attachments"] == [
        {
            "id": attachment["id"],
            "type": "ElasticNetworkInterface",
            "status": "ATTACHED",
            "details": [
                {"name": "subnetId", "value": "subnet-1"},
                {"name": "networkInterfaceId", "value": "eni-5"},
                {"name": "macAddress", "value": "02:00:00:00:00:05"},
                {"name": "privateDnsName", "value": "ip-10-0-0-5.internal"},
                {"name": "privateIPv4Address", "value": "10.0.0.5"},
            ],
        }
    ]
    assert task["containers"][0]["networkInterfaces"] == [
        {"attachmentId": attachment["id"], "privateIpv4Address": "10.0.0.5"}
    ]


@pytest.mark.parametrize(
    ("request_", "name", "text"),
    [
        ({"count": 0}, "InvalidParameterException", "count"),
        ({"count": 11}, "InvalidParameterException", "count"),
        ({"cluster": "nope"}, "ClusterNotFoundException", "Cluster not found."),
        ({"taskDefinition": "nope"}, "ClientException", "TaskDefinition not found."),
        ({"taskDefinition": "web:9"}, "ClientException", "TaskDefinition not found."),
        ({"taskDefinition": "a b"}, "InvalidParameterException", "Invalid task definition: a b"),
        (
            {"taskDefinition": "web:latest"},
            "InvalidParameterException",
            "Invalid revision number. Number: latest",
        ),
        ({"launchType": "MOON"}, "InvalidParameterException", "enum"),
        ({"group": "service:x"}, "InvalidParameterException", "group"),
        ({"startedBy": "a b"}, "InvalidParameterException", "startedBy"),
        ({"clientToken": "x" * 65}, "InvalidParameterException", "clientToken"),
        ({"networkConfiguration": AWSVPC}, "InvalidParameterException", "not valid for the given"),
        (
            {"placementConstraints": [{"type": "memberOf", "expression": "x =="}]},
            "InvalidParameterException",
            "Invalid expression",
        ),
        (
            {"placementStrategy": [{"type": "binpack", "field": "x"}]},
            "InvalidParameterException",
            "binpack",
        ),
        (
            {"overrides": {"containerOverrides": [{"name": "zzz"}]}},
            "InvalidParameterException",
            "is not a container in the TaskDefinition",
        ),
        ({"propagateTags": "SERVICE"}, "InvalidParameterException", "service"),
    ],
)
async def test_refused_requests(
    endpoint: Endpoint, agent: ScriptedAgent, request_: dict[str, Any], name: str, text: str
) -> None:
    assert agent.arn
    await endpoint.call("RegisterTaskDefinition", **definition())
    with pytest.raises(ApiFailure) as caught:
        await run(endpoint, **request_)
    assert caught.value.name == name
    assert text in caught.value.message


async def test_no_instances(endpoint: Endpoint) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    with pytest.raises(ApiFailure, match="No Container Instances were found in your cluster"):
        await run(endpoint)


async def test_failures_name_what_is_short(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    big = {"containerOverrides": [{"name": "main", "memory": 9999}]}
    answer = await run(endpoint, overrides=big)
    assert answer == {"tasks": [], "failures": [{"arn": agent.arn, "reason": "RESOURCE:MEMORY"}]}
    answer = await run(endpoint, count=10)
    assert len(answer["tasks"]) == 8
    assert answer["failures"] == [{"arn": agent.arn, "reason": "RESOURCE:CPU"}]


async def test_gpus_are_assigned(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    container = {
        "name": "main",
        "image": "img",
        "memory": 64,
        "resourceRequirements": [{"type": "GPU", "value": "1"}],
    }
    await endpoint.call("RegisterTaskDefinition", **definition(containerDefinitions=[container]))
    answer = await run(endpoint, count=3)
    given = [task["containers"][0]["gpuIds"][0] for task in answer["tasks"]]
    assert sorted(given) == ["GPU-0", "GPU-1"]
    assert answer["failures"] == [{"arn": agent.arn, "reason": "RESOURCE:GPU"}]


async def test_missing_capability(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    container = {"name": "main", "image": "img", "memory": 64, "privileged": True}
    await endpoint.call("RegisterTaskDefinition", **definition(containerDefinitions=[container]))
    answer = await run(endpoint)
    assert answer["failures"] == [
        {
            "arn": agent.arn,
            "reason": "ATTRIBUTE",
            "detail": "The container instance lacks the attribute "
            "com.amazonaws.ecs.capability.privileged-container.",
        }
    ]


async def test_calls_at_once_never_overbook(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    container = {
        "name": "main",
        "image": "img",
        "memory": 256,
        "portMappings": [{"containerPort": 80, "hostPort": 8080}],
    }
    await endpoint.call("RegisterTaskDefinition", **definition(containerDefinitions=[container]))
    other = ScriptedAgent(endpoint)
    await other.register()
    answers = await asyncio.gather(*(run(endpoint) for _ in range(8)))
    placed = [task["containerInstanceArn"] for a in answers for task in a["tasks"]]
    assert sorted(placed) == sorted([agent.arn, other.arn])
    reasons = {f["reason"] for a in answers for f in a["failures"]}
    assert reasons == {"RESOURCE:PORTS"}


async def test_schedulers_in_two_processes_never_overbook(tmp_path: Path) -> None:
    """Two sets of handlers share nothing but the store, as two processes would on etcd."""
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
    store = await SqliteStore.open(tmp_path / "control.db")
    try:
        parts = Parts(store=store)
        schedulers = [task_handlers.handlers(random.Random(n)) for n in range(4)]
        answers = await asyncio.gather(
            *(
                scheduler["RunTask"](parts, {"taskDefinition": "web"})
                for scheduler in schedulers
                for _ in range(4)
            )
        )
        rows = (await store.range(records.tasks_prefix("default"))).items
        made = [records.decode(TaskRecord, kv) for kv in rows]
    finally:
        await store.close()
    assert len(made) == sum(len(a["tasks"]) for a in answers) == 8
    assert sum(task.needs.cpu_units for task in made) == 2048


async def test_client_token(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    assert agent.arn
    await endpoint.call("RegisterTaskDefinition", **definition())
    answers = await asyncio.gather(*(run(endpoint, clientToken="t", count=2) for _ in range(4)))
    arns = {task["taskArn"] for answer in answers for task in answer["tasks"]}
    assert len(arns) == 2
    with pytest.raises(ApiFailure) as caught:
        await run(endpoint, clientToken="t", count=3)
    assert caught.value.name == "ConflictException"


async def test_start_task(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    draining = ScriptedAgent(endpoint)
    await draining.register()
    await endpoint.call(
        "UpdateContainerInstancesState", containerInstances=[draining.arn], status="DRAINING"
    )
    unknown = agent.arn[:-4] + "0000"
    answer = await endpoint.call(
        "StartTask",
        taskDefinition="web:1",
        containerInstances=[agent.id, unknown, draining.arn],
        group="mine",
    )
    assert [task["containerInstanceArn"] for task in answer["tasks"]] == [agent.arn]
    assert answer["tasks"][0]["group"] == "mine"
    assert answer["failures"] == [
        {"arn": unknown, "reason": "MISSING"},
        {"arn": draining.arn, "reason": "INACTIVE"},
    ]


async def test_describe_says_what_is_missing(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    assert agent.arn
    await endpoint.call("RegisterTaskDefinition", **definition())
    arn = await run_one(endpoint)
    unknown = arn[:-4] + "0000"
    answer = await endpoint.call("DescribeTasks", tasks=[unknown, arn, arn.rsplit("/", 1)[-1]])
    assert [task["taskArn"] for task in answer["tasks"]] == [arn]
    assert answer["failures"] == [{"arn": unknown, "reason": "MISSING"}]
    with pytest.raises(ApiFailure, match="Tasks cannot be empty"):
        await endpoint.call("DescribeTasks", tasks=[])


async def test_list_filters_and_pages(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    await endpoint.call("RegisterTaskDefinition", **definition(family="db"))
    web = [await run_one(endpoint, startedBy="me") for _ in range(3)]
    db = await run_one(endpoint, taskDefinition="db", launchType="EXTERNAL")
    gone = await run_one(endpoint)
    await endpoint.call("StopTask", task=gone)

    async def listed(**request: Any) -> set[str]:
        return set((await endpoint.call("ListTasks", **request))["taskArns"])

    assert await listed() == {*web, db}
    assert await listed(desiredStatus="STOPPED") == {gone}
    assert await listed(desiredStatus="PENDING") == set()
    assert await listed(family="db") == {db}
    assert await listed(startedBy="me") == set(web)
    assert await listed(launchType="EXTERNAL") == {db}
    assert await listed(containerInstance=agent.arn) == {*web, db}
    with pytest.raises(ApiFailure, match="Service not found") as caught:
        await listed(serviceName="web")
    assert caught.value.name == "ServiceNotFoundException"
    with pytest.raises(ApiFailure, match="container instance was not found"):
        await listed(containerInstance="0" * 32)
    with pytest.raises(ApiFailure, match="startedBy"):
        await listed(startedBy="me", family="web")
    pages: list[str] = []
    token: dict[str, str] = {}
    while True:
        answer = await endpoint.call("ListTasks", maxResults=3, **token)
        pages += answer["taskArns"]
        if "nextToken" not in answer:
            break
        token = {"nextToken": answer["nextToken"]}
    assert len(pages) == len(set(pages)) == 4
    with pytest.raises(ApiFailure, match="Invalid token"):
        await endpoint.call("ListTasks", nextToken="what")


async def test_task_of_a_host_that_was_deregistered(
    endpoint: Endpoint, agent: ScriptedAgent
) -> None:
    await endpoint.call("RegisterTaskDefinition", **definition())
    arn = await run_one(endpoint)
    with pytest.raises(ApiFailure, match="running tasks"):
        await endpoint.call("DeregisterContainerInstance", containerInstance=agent.arn)
    await endpoint.call("DeregisterContainerInstance", containerInstance=agent.arn, force=True)
    task = await endpoint.task(arn)
    assert task["lastStatus"] == "STOPPED"
    assert "was deregistered" in task["stoppedReason"]
    stopped = (await endpoint.call("StopTask", task=arn))["task"]
    assert stopped["lastStatus"] == "STOPPED"


async def test_stopped_tasks_are_forgotten_after_an_hour(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        ended, alive = [await run_one(endpoint) for _ in range(2)]
        await agent.report(a_report(ended, "STOPPED"))
    store = await SqliteStore.open(tmp_path / "control.db")
    try:
        early = Janitor(Parts(store=store, clock=lambda: time.time() + 3500.0))
        assert await early.clean() == 0
        late = Janitor(Parts(store=store, clock=lambda: time.time() + 3700.0))
        assert await late.clean() == 1
        (left,) = [kv.key for kv in (await store.range(records.TASKS)).items]
        assert left.rsplit("/", 1)[-1] == alive.rsplit("/", 1)[-1]
        for _ in range(20):
            await late.clean()
    finally:
        await store.close()


async def test_boto3_and_its_waiters(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    def operator() -> dict[str, Any]:
        ecs = boto3.client(
            "ecs",
            endpoint_url=endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        ecs.register_task_definition(**definition())
        made = ecs.run_task(taskDefinition="web", count=3)
        arns = [task["taskArn"] for task in made["tasks"]]
        quick = {"Delay": 1, "MaxAttempts": 10}
        ecs.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=quick)
        for arn in arns:
            ecs.stop_task(task=arn, reason="done")
        ecs.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=quick)
        described: dict[str, Any] = ecs.describe_tasks(tasks=arns)["tasks"][0]
        ecs.close()
        return described

    host = asyncio.create_task(agent.obey())
    task = await asyncio.to_thread(operator)
    host.cancel()
    await asyncio.gather(host, return_exceptions=True)
    assert task["stopCode"] == "UserInitiated"
    assert task["stoppedReason"] == "done"
    assert task["startedAt"] <= task["stoppedAt"]
