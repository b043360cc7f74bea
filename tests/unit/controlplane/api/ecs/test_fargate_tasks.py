"""RunTask with the launch type FARGATE and with capacity providers, through the real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.model.payload import decode
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

FARGATE_HOST = {
    "ecs-host-agent.fargate": "",
    "ecs.capability.task-cpu-mem-limit": "",
    "ecs.capability.task-eni": "",
}
PRIVATE = {"awsvpcConfiguration": {"subnets": ["s"]}}
PUBLIC = {"awsvpcConfiguration": {"subnets": ["s"], "assignPublicIp": "ENABLED"}}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        yield running


@pytest.fixture
async def agent(endpoint: Endpoint) -> ScriptedAgent:
    scripted = ScriptedAgent(endpoint, gpus=gpus(2))
    await scripted.register()
    return scripted


async def run(endpoint: Endpoint, **request: Any) -> dict[str, Any]:
    return await endpoint.call("RunTask", **({"taskDefinition": "web"} | request))


async def register_fargate(endpoint: Endpoint, **more: Any) -> None:
    wanted = {"networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"]}
    await endpoint.call(
        "RegisterTaskDefinition", **definition(**(wanted | {"cpu": "256", "memory": "512"} | more))
    )


async def test_fargate_runs_where_it_is_offered(endpoint: Endpoint, agent: ScriptedAgent) -> None:
    await register_fargate(endpoint)
    answer = await run(endpoint, launchType="FARGATE", networkConfiguration=PUBLIC)
    assert [f["reason"] for f in answer["failures"]] == ["ATTRIBUTE"]
    await agent.register(attributes=FARGATE_HOST)
    made = await run(endpoint, launchType="FARGATE", networkConfiguration=PUBLIC)
    (task,) = made["tasks"]
    assert (task["launchType"], task["platformVersion"]) == ("FARGATE", "1.4.0")
    assert task["platformFamily"] == "Linux"
    assert "capacityProviderName" not in task
    polled = await agent.poll()
    assert polled is not None
    (order,) = polled.tasks
    payload = decode(order.payload)
    assert payload.launch_type == "FARGATE"
    assert payload.containers[0].environment["AWS_EXECUTION_ENV"] == "AWS_ECS_FARGATE"
    (cluster,) = (await endpoint.call("DescribeClusters", include=["STATISTICS"]))["clusters"]
    assert {"name": "pendingFargateTasksCount", "value": "1"} in cluster["statistics"]
    assert {"name": "pendingEC2TasksCount", "value": "0"} in cluster["statistics"]


async def test_fargate_runs_in_every_cluster_where_a_host_says_so(
    endpoint: Endpoint, agent: ScriptedAgent
) -> None:
    await register_fargate(endpoint)
    await endpoint.call("CreateCluster", clusterName="shop")
    lent = FARGATE_HOST | {"ecs-host-agent.fargate-all-clusters": ""}
    fargate = {"launchType": "FARGATE", "networkConfiguration": PUBLIC, "cluster": "shop"}

    async def has_no_host(**more: Any) -> None:
        with pytest.raises(ApiFailure, match="No Container Instances were found"):
            await run(endpoint, **fargate | more)

    await agent.register(attributes=FARGATE_HOST)
    await has_no_host()  # it runs tasks of its own cluster alone
    await agent.register(attributes=lent)
    await has_no_host(launchType="EC2", networkConfiguration=PRIVATE)
    (task,) = (await run(endpoint, **fargate))["tasks"]
    assert f":task/shop/{task['taskArn'].rpartition('/')[2]}" in task["taskArn"]
    assert task["containerInstanceArn"] == agent.arn
    (host,) = (await endpoint.call("DescribeContainerInstances", containerInstances=[agent.arn]))[
        "containerInstances"
    ]
    left = {each["name"]: each.get("integerValue") for each in host["remainingResources"]}
    assert (host["pendingTasksCount"], left["CPU"]) == (1, 2048 - 256)
    await agent.report(a_report(task["taskArn"], "RUNNING"))
    assert (await endpoint.task(task["taskArn"], cluster="shop"))["lastStatus"] == "RUNNING"
    await endpoint.call("StopTask", cluster="shop", task=task["taskArn"])
    polled = await agent.poll(after=0)
    assert polled is not None
    assert [one.desired_status for one in polled.tasks] == ["STOPPED"]
    await agent.report(a_report(task["taskArn"], "STOPPED"))
    assert (await endpoint.task(task["taskArn"], cluster="shop"))["lastStatus"] == "STOPPED"
    await endpoint.call("DeleteCluster", cluster="shop")


async def test_copies_are_spread_over_capacity_providers(
    endpoint: Endpoint, agent: ScriptedAgent
) -> None:
    await agent.register(attributes=FARGATE_HOST)
    await endpoint.call(
        "PutClusterCapacityProviders",
        cluster="default",
        capacityProviders=["FARGATE", "FARGATE_SPOT"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}],
    )
    await register_fargate(endpoint)
    vpc = {"awsvpcConfiguration": {"subnets": ["s"]}}
    (task,) = (await run(endpoint, networkConfiguration=vpc))["tasks"]
    assert task["capacityProviderName"] == "FARGATE"
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1},
        {"capacityProvider": "FARGATE_SPOT", "weight": 1},
    ]
    made = await run(endpoint, networkConfiguration=vpc, capacityProviderStrategy=strategy, count=3)
    names = [task["capacityProviderName"] for task in made["tasks"]]
    assert sorted(names) == ["FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"]


@pytest.mark.parametrize(
    ("definition_", "request_", "text"),
    [
        (
            {"requiresCompatibilities": ["EC2"]},
            {"launchType": "FARGATE"},
            "Task definition does not support launch_type FARGATE.",
        ),
        ({}, {"networkConfiguration": PUBLIC}, "Assign public IP is not supported for this"),
        (
            {},
            {"launchType": "FARGATE", "overrides": {"memory": "600"}},
            "No Fargate configuration exists for given values: 256 CPU, 600 memory",
        ),
        (
            {},
            {"launchType": "FARGATE", "placementConstraints": [{"type": "distinctInstance"}]},
            "'placementConstraints' is not supported with launch type FARGATE.",
        ),
    ],
)
async def test_what_does_not_run_as_fargate(
    endpoint: Endpoint, definition_: dict[str, Any], request_: dict[str, Any], text: str
) -> None:
    await register_fargate(endpoint, **definition_)
    vpc = {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}}
    with pytest.raises(ApiFailure, match=text):
        await run(endpoint, **(vpc | request_))
