"""What Terraform's provider for AWS calls, in its order: what it reads back is what it wrote, so it plans no change.

Terraform itself is not run. Each test makes the calls of some resources: create, wait, read, update, read,
destroy. A reader here takes from an answer what the provider keeps in its state; what nobody set must have
the value that the provider expects.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config

from agent.controlplane.api.table import SCALING
from agent.controlplane.front.operators import Open
from agent.controlplane.front.service_api import ServiceApi
from agent.controlplane.front.service_model import ApiModel
from agent.controlplane.records import AttributeRecord
from agent.controlplane.scheduler.placement import CAPACITY_PROVIDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.controlplane.api.ecs.conftest import Endpoint
    from tests.unit.controlplane.api.ecs.service_shop import Shop

TAGS = [{"key": "Name", "value": "shop"}]
CREATION = "terraform-20260101000000000000000001"
PERCENTAGES = {"maximumPercent": 200, "minimumHealthyPercent": 100}
BREAKER = {"enable": True, "rollback": True}
GROUP = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/rack"
TARGET = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/default/shop",
    "ScalableDimension": "ecs:service:DesiredCount",
}


@pytest.fixture
async def scaling(endpoint: Endpoint) -> AsyncIterator[Any]:
    """A client of Application Auto Scaling of the same control endpoint."""
    model = await asyncio.to_thread(ApiModel.load, SCALING.service)
    api = ServiceApi(
        endpoint.parts, model, SCALING.handlers(), operators=Open(), check=SCALING.check
    )
    app = web.Application()
    app.router.add_post("/", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    client = await asyncio.to_thread(
        lambda: boto3.client(
            SCALING.service,
            endpoint_url=f"http://{host}:{port}/",
            region_name="us-east-1",
            aws_access_key_id="dummy",
            aws_secret_access_key="dummy",
            config=Config(retries={"total_max_attempts": 1}),
        )
    )

    async def call(operation: str, **request: Any) -> Any:
        return await asyncio.to_thread(lambda: getattr(client, operation)(**request))

    yield call
    await asyncio.to_thread(client.close)
    await runner.cleanup()


def taken(shown: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return of an answer what is also wanted; a member that is missing is None."""
    return {name: shown.get(name) for name in wanted}


async def steady(shop: Shop, arn: str) -> None:
    """Wait as the provider does: for the service deployment of the primary deployment."""
    call = shop.endpoint.call
    await shop.settle(41)
    (service,) = (await call("describe_services", cluster="default", services=[arn]))["services"]
    (primary,) = [one for one in service["deployments"] if one["status"] == "PRIMARY"]
    listed = await call(
        "list_service_deployments",
        cluster="default",
        service=service["serviceName"],
        createdAt={"after": primary["createdAt"].timestamp() - 1},
    )
    digits = primary["id"].rpartition("/")[2]
    (found,) = [
        one for one in listed["serviceDeployments"] if digits in one["targetServiceRevisionArn"]
    ]
    (described,) = (
        await call(
            "describe_service_deployments",
            serviceDeploymentArns=[found["serviceDeploymentArn"]],
        )
    )["serviceDeployments"]
    assert described["status"] == "SUCCESSFUL"
    assert len(service["deployments"]) == 1
    assert service["runningCount"] == service["desiredCount"]


async def test_a_service_is_read_as_it_was_written(shop: Shop) -> None:
    call = shop.endpoint.call
    definition = (await call("describe_task_definition", taskDefinition="web"))["taskDefinition"]
    written: dict[str, Any] = {
        "desiredCount": 2,
        "taskDefinition": definition["taskDefinitionArn"],
        "launchType": "EC2",
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "placementStrategy": [
            {"type": "spread", "field": "instanceId"},
            {"type": "binpack", "field": "memory"},
        ],
        "placementConstraints": [
            {"type": "memberOf", "expression": "attribute:ecs.os-type == linux"}
        ],
        "healthCheckGracePeriodSeconds": 0,
        "enableECSManagedTags": False,
        "enableExecuteCommand": False,
        "propagateTags": "NONE",
        "tags": TAGS,
    }
    configuration = {**PERCENTAGES, "deploymentCircuitBreaker": BREAKER}
    made = await call(
        "create_service",
        cluster="default",
        serviceName="shop",
        clientToken=CREATION,
        deploymentConfiguration=configuration,
        **written,
    )
    arn = made["service"]["serviceArn"]
    await steady(shop, arn)

    async def read() -> dict[str, Any]:
        answer = await call(
            "describe_services", cluster="default", services=[arn], include=["TAGS"]
        )
        return dict(answer["services"][0])

    first = await read()
    assert taken(first, written) == written
    assert taken(first["deploymentConfiguration"], configuration) == configuration
    assert first["deploymentConfiguration"]["alarms"] == {
        "alarmNames": [],
        "enable": False,
        "rollback": False,
    }
    assert (first["loadBalancers"], first["serviceRegistries"]) == ([], [])
    assert first["availabilityZoneRebalancing"] == "DISABLED"
    assert not {"networkConfiguration", "platformVersion", "capacityProviderStrategy"} & set(first)
    # A second plan sees no difference; an update sends what has changed alone.
    assert await read() == first
    await call(
        "update_service",
        cluster="default",
        service="shop",
        desiredCount=3,
        deploymentConfiguration={
            **PERCENTAGES,
            "deploymentCircuitBreaker": {"enable": False, "rollback": False},
        },
        placementStrategy=[],
        forceNewDeployment=False,
    )
    await steady(shop, arn)
    changed = await read()
    wanted = written | {"desiredCount": 3, "placementStrategy": []}
    assert taken(changed, wanted) == wanted
    breaker = changed["deploymentConfiguration"]["deploymentCircuitBreaker"]
    assert breaker == {"enable": False, "rollback": False}
    await call("update_service", cluster="default", service="shop", desiredCount=0)
    await call("delete_service", cluster="default", service=arn, force=False)
    await shop.settle()
    assert (await read())["status"] == "INACTIVE"


async def test_capacity_of_a_cluster_is_read_as_it_was_written(shop: Shop) -> None:
    call = shop.endpoint.call
    made = await call(
        "create_capacity_provider",
        name="rack",
        autoScalingGroupProvider={"autoScalingGroupArn": GROUP},
        tags=TAGS,
    )
    arn = made["capacityProvider"]["capacityProviderArn"]

    async def provider() -> dict[str, Any]:
        answer = await call(
            "describe_capacity_providers", capacityProviders=[arn], include=["TAGS"]
        )
        return dict(answer["capacityProviders"][0])

    first = await provider()
    assert (first["status"], first["tags"]) == ("ACTIVE", TAGS)
    assert first["autoScalingGroupProvider"] == {
        "autoScalingGroupArn": GROUP,
        "managedDraining": "ENABLED",
        "managedTerminationProtection": "DISABLED",
        "managedScaling": {
            "status": "DISABLED",
            "targetCapacity": 100,
            "minimumScalingStepSize": 1,
            "maximumScalingStepSize": 10000,
            "instanceWarmupPeriod": 300,
        },
    }
    # The next plan has what was computed in its state, and an update sends all of it.
    again = {
        name: value
        for name, value in first["autoScalingGroupProvider"].items()
        if name != "autoScalingGroupArn"
    }
    again["managedScaling"] = {**again["managedScaling"], "targetCapacity": 80}
    await call("update_capacity_provider", name="rack", autoScalingGroupProvider=again)
    second = await provider()
    assert second["updateStatus"] == "UPDATE_COMPLETE"
    assert second["autoScalingGroupProvider"]["managedScaling"] == again["managedScaling"]
    strategy = [{"capacityProvider": "rack", "weight": 1, "base": 0}]
    put = {
        "cluster": "default",
        "capacityProviders": ["rack", "FARGATE"],
        "defaultCapacityProviderStrategy": strategy,
    }
    await call("put_cluster_capacity_providers", **put)
    (cluster,) = (await call("describe_clusters", clusters=["default"]))["clusters"]
    assert sorted(cluster["capacityProviders"]) == ["FARGATE", "rack"]
    assert cluster["defaultCapacityProviderStrategy"] == strategy
    await shop.add_host(attributes={CAPACITY_PROVIDER: AttributeRecord(value="rack")})
    service = await shop.create(capacityProviderStrategy=strategy, desiredCount=1)
    assert service["capacityProviderStrategy"] == strategy
    assert "launchType" not in service
    await steady(shop, service["serviceArn"])
    await call("update_service", service="shop", desiredCount=0)
    await call("delete_service", service="shop")
    await shop.settle()
    await call(
        "put_cluster_capacity_providers",
        cluster="default",
        capacityProviders=[],
        defaultCapacityProviderStrategy=[],
    )
    await call("delete_capacity_provider", capacityProvider=arn)
    assert (await provider())["status"] == "INACTIVE"


async def test_a_cluster_and_a_definition_from_their_creation_to_their_end(
    endpoint: Endpoint,
) -> None:
    call = endpoint.call
    settings = [{"name": "containerInsights", "value": "enabled"}]
    made = await call("create_cluster", clusterName="mine", settings=settings, tags=TAGS)
    arn = made["cluster"]["clusterArn"]
    include = ["TAGS", "CONFIGURATIONS", "SETTINGS"]

    async def cluster() -> dict[str, Any]:
        return dict(
            (await call("describe_clusters", clusters=[arn], include=include))["clusters"][0]
        )

    wanted = {"status": "ACTIVE", "clusterName": "mine", "settings": settings, "tags": TAGS}
    assert taken(await cluster(), wanted) == wanted
    off = [{"name": "containerInsights", "value": "disabled"}]
    await call("update_cluster", cluster=arn, settings=off)
    assert (await cluster())["settings"] == off
    container = {
        "name": "main",
        "image": "img",
        "memory": 64,
        "portMappings": [{"containerPort": 80, "hostPort": 0}],
        "environment": [{"name": "b", "value": "2"}, {"name": "a", "value": "1"}],
    }
    registered = await call(
        "register_task_definition", family="web", containerDefinitions=[container], tags=TAGS
    )
    definition = registered["taskDefinition"]["taskDefinitionArn"]
    read = await call("describe_task_definition", taskDefinition=definition, include=["TAGS"])
    shown = read["taskDefinition"]["containerDefinitions"][0]
    # The provider compares what is left after these defaults.
    assert taken(shown, {"cpu": 0, "essential": True}) == {"cpu": 0, "essential": True}
    assert (shown["mountPoints"], shown["volumesFrom"]) == ([], [])
    assert shown["portMappings"][0] == {"containerPort": 80, "hostPort": 0, "protocol": "tcp"}
    assert sorted(one["name"] for one in shown["environment"]) == ["a", "b"]
    assert read["tags"] == TAGS
    await call("deregister_task_definition", taskDefinition=definition)
    gone = await call("describe_task_definition", taskDefinition=definition)
    assert gone["taskDefinition"]["status"] == "INACTIVE"
    await call("delete_cluster", cluster=arn)
    assert (await cluster())["status"] == "INACTIVE"


async def test_autoscaling_is_read_as_it_was_written(shop: Shop, scaling: Any) -> None:
    await shop.create(desiredCount=2)
    where = {name: TARGET[name] for name in ("ServiceNamespace", "ScalableDimension")}
    await scaling("register_scalable_target", **TARGET, MinCapacity=1, MaxCapacity=4)

    async def target() -> Any:
        answer = await scaling(
            "describe_scalable_targets", **where, ResourceIds=[TARGET["ResourceId"]]
        )
        return answer["ScalableTargets"]

    (first,) = await target()
    assert (first["MinCapacity"], first["MaxCapacity"]) == (1, 4)
    assert set(first["SuspendedState"].values()) == {False}
    assert first["RoleARN"].startswith("arn:aws:iam::")
    tags = await scaling("list_tags_for_resource", ResourceARN=first["ScalableTargetARN"])
    assert tags["Tags"] == {}
    policy = {
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 60.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "ECSServiceAverageCPUUtilization"
            },
            "ScaleInCooldown": 120,
            "DisableScaleIn": False,
        },
    }
    await scaling("put_scaling_policy", **TARGET, PolicyName="cpu", **policy)
    (read,) = (
        await scaling(
            "describe_scaling_policies",
            **where,
            ResourceId=TARGET["ResourceId"],
            PolicyNames=["cpu"],
        )
    )["ScalingPolicies"]
    assert taken(read, policy) == policy
    action = {
        "Schedule": "cron(0 8 * * ? *)",
        "Timezone": "Europe/Berlin",
        "ScalableTargetAction": {"MinCapacity": 2, "MaxCapacity": 6},
    }
    await scaling("put_scheduled_action", **TARGET, ScheduledActionName="day", **action)
    (read,) = (
        await scaling(
            "describe_scheduled_actions",
            **where,
            ResourceId=TARGET["ResourceId"],
            ScheduledActionNames=["day"],
        )
    )["ScheduledActions"]
    assert taken(read, action) == action
    await scaling("register_scalable_target", **TARGET, MinCapacity=1, MaxCapacity=5)
    (second,) = await target()
    assert second == first | {"MaxCapacity": 5}
    await scaling("delete_scheduled_action", **TARGET, ScheduledActionName="day")
    await scaling("delete_scaling_policy", **TARGET, PolicyName="cpu")
    await scaling("deregister_scalable_target", **TARGET)
    assert await target() == []


async def test_a_task_set_is_read_as_it_was_written(shop: Shop) -> None:
    call = shop.endpoint.call
    made = await call(
        "create_service",
        serviceName="shop",
        desiredCount=2,
        deploymentController={"type": "EXTERNAL"},
        deploymentConfiguration=PERCENTAGES,
        clientToken=CREATION,
    )
    service = made["service"]["serviceArn"]
    where = {"cluster": "default", "service": service}
    definition = (await call("describe_task_definition", taskDefinition="web"))["taskDefinition"]
    written: dict[str, Any] = {
        "taskDefinition": definition["taskDefinitionArn"],
        "launchType": "EC2",
        "externalId": "blue",
        "scale": {"value": 100.0, "unit": "PERCENT"},
        "tags": TAGS,
    }
    created = await call("create_task_set", **where, **written, clientToken=CREATION)
    task_set = created["taskSet"]["id"]

    async def read() -> Any:
        answer = await call("describe_task_sets", **where, taskSets=[task_set], include=["TAGS"])
        return answer["taskSets"]

    assert (await read())[0]["stabilityStatus"] == "STABILIZING"
    await shop.settle(41)
    (first,) = await read()
    assert first["stabilityStatus"] == "STEADY_STATE"
    assert taken(first, written) == written
    half = {"value": 50.0, "unit": "PERCENT"}
    await call("update_task_set", **where, taskSet=task_set, scale=half)
    await shop.settle(41)
    (second,) = await read()
    assert (second["scale"], second["runningCount"]) == (half, 1)
    assert second["stabilityStatus"] == "STEADY_STATE"
    await call("delete_task_set", **where, taskSet=task_set, force=True)
    await shop.settle()
    assert await read() == []
    await call("update_service", service="shop", desiredCount=0)
    await call("delete_service", service="shop")
    await shop.settle()
    assert (await shop.describe())["status"] == "INACTIVE"
