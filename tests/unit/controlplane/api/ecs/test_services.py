"""Services as operators see them: a real store, the loop of services, and agents that only report."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import records
from agent.controlplane.api.ecs.refused import REASONS
from agent.controlplane.api.table import ECS
from agent.controlplane.front.errors import UnsupportedFeatureException
from agent.controlplane.front.operators import Open
from agent.controlplane.front.service_api import ServiceApi
from agent.controlplane.front.service_model import ApiModel
from agent.controlplane.janitor import INACTIVE_SERVICE_S, Janitor
from agent.controlplane.records import AttributeRecord
from agent.controlplane.store.contract import Delete
from tests.support.control_endpoint import definition
from tests.unit.controlplane.api.ecs.service_shop import Shop

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

TAGS = [{"key": "team", "value": "till"}]


async def test_a_service_is_shown_as_terraform_wants_to_see_it(shop: Shop) -> None:
    made = await shop.create(tags=TAGS)
    again = await shop.describe(include=["TAGS"])
    assert {k: v for k, v in again.items() if k != "events"} == {
        k: v for k, v in made.items() if k != "events"
    }
    assert made["serviceArn"] == "arn:aws:ecs:us-east-1:000000000000:service/default/shop"
    assert made["tags"] == TAGS
    assert "tags" not in await shop.describe()
    assert made["deploymentController"] == {"type": "ECS"}
    assert made["propagateTags"] == "NONE"
    assert made["healthCheckGracePeriodSeconds"] == 0
    assert made["launchType"] == "EC2"
    configuration = made["deploymentConfiguration"]
    assert (configuration["maximumPercent"], configuration["minimumHealthyPercent"]) == (200, 100)
    (deployment,) = made["deployments"]
    assert deployment["status"] == "PRIMARY"
    assert deployment["rolloutState"] == "IN_PROGRESS"
    assert deployment["rolloutStateReason"] == f"ECS deployment {deployment['id']} in progress."
    assert deployment["taskDefinition"].endswith("task-definition/web:1")


async def test_tasks_of_a_service_run_and_are_counted(shop: Shop) -> None:
    made = await shop.create(
        enableECSManagedTags=True, propagateTags="SERVICE", tags=TAGS, desiredCount=2
    )
    await shop.loop.settle()
    shown = await shop.describe()
    assert (shown["pendingCount"], shown["runningCount"]) == (2, 0)
    await shop.settle(41)
    shown = await shop.describe()
    assert (shown["pendingCount"], shown["runningCount"], shown["desiredCount"]) == (0, 2, 2)
    (deployment,) = shown["deployments"]
    assert deployment["rolloutState"] == "COMPLETED"
    first, second = tasks = await shop.tasks()
    assert {task["group"] for task in tasks} == {"service:shop"}
    assert {task["startedBy"] for task in tasks} == {made["deployments"][0]["id"]}
    assert {t["key"]: t["value"] for t in first["tags"]} == {
        "team": "till",
        "aws:ecs:clusterName": "default",
        "aws:ecs:serviceName": "shop",
    }
    assert await shop.messages() == [
        "(service shop) has reached a steady state.",
        f"(service shop) (deployment {deployment['id']}) deployment completed.",
        f"(service shop) has started 2 tasks: (task {_id(first)}) (task {_id(second)}).",
    ] or await shop.messages() == [
        "(service shop) has reached a steady state.",
        f"(service shop) (deployment {deployment['id']}) deployment completed.",
        f"(service shop) has started 2 tasks: (task {_id(second)}) (task {_id(first)}).",
    ]


def _id(task: dict[str, Any]) -> str:
    return records.last_element(task["taskArn"])


async def test_scaling_stopping_and_updating(shop: Shop) -> None:
    await shop.create(desiredCount=0)
    await shop.settle(41)
    for count in (3, 1):
        await shop.endpoint.call("update_service", service="shop", desiredCount=count)
        await shop.settle(41)
        assert (await shop.describe())["runningCount"] == count
    (kept,) = await shop.tasks()
    stopped = (await shop.tasks("STOPPED"))[0]
    old_id = (await shop.describe())["deployments"][0]["id"]
    assert stopped["stopCode"] == "ServiceSchedulerInitiated"
    assert stopped["stoppedReason"] == f"Scaling activity initiated by (deployment {old_id})"
    await shop.endpoint.call("stop_task", task=kept["taskArn"])
    await shop.settle(41)
    (replaced,) = await shop.tasks()
    assert replaced["taskArn"] != kept["taskArn"]
    await shop.endpoint.call("register_task_definition", **definition())
    await shop.endpoint.call("update_service", service="shop", taskDefinition="web")
    await shop.loop.settle()
    primary, old = (await shop.describe())["deployments"]
    assert (primary["status"], old["status"], old["id"]) == ("PRIMARY", "ACTIVE", old_id)
    assert (primary["pendingCount"], old["runningCount"]) == (1, 1)
    await shop.settle(41)
    shown = await shop.describe()
    assert [d["id"] for d in shown["deployments"]] == [primary["id"]]
    assert shown["taskDefinition"].endswith("web:2")
    await shop.endpoint.call("update_service", service="shop", taskDefinition="web:2")
    assert len((await shop.describe())["deployments"]) == 1, "nothing is new"
    await shop.endpoint.call("update_service", service="shop", forceNewDeployment=True)
    assert len((await shop.describe())["deployments"]) == 2


async def test_creating_twice(shop: Shop) -> None:
    made = await shop.create(clientToken="terraform-1")
    assert (await shop.create(clientToken="terraform-1"))["createdAt"] == made["createdAt"]
    for other in (
        {"clientToken": "terraform-2"},
        {"clientToken": "terraform-1", "desiredCount": 1},
    ):
        request = {"serviceName": "shop", "taskDefinition": "web", "desiredCount": 2, **other}
        assert await shop.endpoint.refused("create_service", **request) == (
            "InvalidParameterException",
            "Creation of service was not idempotent.",
        )


async def test_deleting(shop: Shop) -> None:
    await shop.create()
    await shop.settle(41)
    call, refused = shop.endpoint.call, shop.endpoint.refused
    assert await refused("delete_service", service="shop") == (
        "InvalidParameterException",
        "The service cannot be stopped while it is scaled above 0.",
    )
    assert (await refused("delete_cluster", cluster="default"))[0].startswith("ClusterContains")
    gone = (await call("delete_service", service="shop", force=True))["service"]
    assert (gone["status"], gone["desiredCount"]) == ("DRAINING", 0)
    assert (await call("list_services"))["serviceArns"] == []
    request = {"serviceName": "shop", "taskDefinition": "web", "desiredCount": 2}
    assert await refused("create_service", **request) == (
        "InvalidParameterException",
        "Unable to Start a service that is still Draining.",
    )
    assert (await refused("update_service", service="shop", desiredCount=1))[0] == (
        "ServiceNotActiveException"
    )
    await shop.settle()
    assert (await shop.describe())["status"] == "INACTIVE"
    assert not await shop.tasks()
    fresh = await shop.create(desiredCount=0)
    assert (fresh["status"], fresh["events"]) == ("ACTIVE", [])
    await call("delete_service", service="shop")
    await shop.settle()
    shop.endpoint.now[0] += INACTIVE_SERVICE_S + 1
    await Janitor(shop.endpoint.parts).clean()
    missing = await call("describe_services", services=["shop"])
    assert missing["failures"] == [
        {"arn": "arn:aws:ecs:us-east-1:000000000000:service/default/shop", "reason": "MISSING"}
    ]


async def test_what_is_not_done_is_refused_by_name(shop: Shop) -> None:
    for member, value in (
        (
            "loadBalancers",
            [{"loadBalancerName": "a", "containerName": "main", "containerPort": 80}],
        ),
        (
            "serviceConnectConfiguration",
            {"enabled": True, "logConfiguration": {"logDriver": "awslogs"}},
        ),
        ("volumeConfigurations", [{"name": "v"}]),
        ("availabilityZoneRebalancing", "ENABLED"),
        ("deploymentController", {"type": "CODE_DEPLOY"}),
        ("deploymentController", {"type": "CODE_DEPLOY"}),
    ):
        request = {"serviceName": "s", "taskDefinition": "web", "desiredCount": 1, member: value}
        name, text = await shop.endpoint.refused("create_service", **request)
        assert name == "UnsupportedFeatureException"
        assert member in text
        assert (await shop.endpoint.call("list_services"))["serviceArns"] == []


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"desiredCount": None}, "Desired count cannot be null or empty."),
        ({"desiredCount": -1}, "between 0 and 5000"),
        ({"taskDefinition": "nothing"}, "TaskDefinition not found."),
        ({"serviceName": "a b"}, "Invalid service name"),
        ({"desiredCount": 1, "schedulingStrategy": "DAEMON"}, "does not support a desired count"),
        (
            {"deploymentConfiguration": {"maximumPercent": 100, "minimumHealthyPercent": 100}},
            "Both maximumPercent and minimumHealthyPercent cannot be 100",
        ),
        ({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}}, "not valid for"),
        ({"placementConstraints": [{"type": "memberOf", "expression": "(("}]}, "expression"),
        (
            {"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
            "not associated with the cluster",
        ),
    ],
    ids=str,
)
async def test_what_amazon_ecs_refuses_is_refused(
    shop: Shop, request_: dict[str, Any], text: str
) -> None:
    request = {"serviceName": "s", "taskDefinition": "web", "desiredCount": 1, **request_}
    request = {name: value for name, value in request.items() if value is not None}
    _, told = await shop.endpoint.refused("create_service", **request)
    assert text in told


async def test_a_cluster_without_room_is_explained_and_tried_again(shop: Shop) -> None:
    large = {"name": "main", "image": "img", "cpu": 256, "memory": 5000}
    await shop.endpoint.call(
        "register_task_definition", **definition(family="large", containerDefinitions=[large])
    )
    await shop.create(taskDefinition="large", desiredCount=2)
    await shop.settle()
    (host,) = shop.hosts
    told = (
        "(service shop) was unable to place a task because no container instance met all of its "
        f"requirements. The closest matching (container-instance {host}) has insufficient memory "
        "available. For more information, see the Troubleshooting section of the Amazon ECS "
        "Developer Guide."
    )
    assert (await shop.messages())[0] == told
    assert len(await shop.tasks()) == 1
    await shop.settle(600)
    assert (await shop.messages()).count(told) == 1
    await shop.add_host()
    await shop.settle(61)
    assert len(await shop.tasks()) == 2


async def test_no_hosts_at_all(endpoint: Endpoint, cluster: str) -> None:
    shop = Shop(endpoint)
    await endpoint.call("register_task_definition", **definition())
    await shop.create()
    await shop.loop.settle()
    assert (await shop.messages()) == [
        (
            "(service shop) was unable to place a task because no container instance met all of its "
            "requirements. Reason: No Container Instances were found in your cluster. For more "
            "information, see the Troubleshooting section of the Amazon ECS Developer Guide."
        )
    ]


async def test_a_deregistered_definition_still_scales_and_a_lost_one_is_explained(
    shop: Shop,
) -> None:
    await shop.create(desiredCount=1)
    await shop.endpoint.call("deregister_task_definition", taskDefinition="web:1")
    await shop.endpoint.call("update_service", service="shop", desiredCount=2)
    await shop.settle()
    assert len(await shop.tasks()) == 2
    key = records.task_definition_key("web", 1)
    await shop.endpoint.parts.store.txn([], [Delete(key)])
    await shop.endpoint.call("stop_task", task=(await shop.tasks())[0]["taskArn"])
    await shop.settle()
    assert (await shop.messages())[0] == (
        "(service shop) was unable to place a task. Reason: TaskDefinition not found."
    )


async def test_a_daemon_runs_on_every_host_that_matches(shop: Shop) -> None:
    disk = {"ecs.os-type": AttributeRecord(value="linux"), "disk": AttributeRecord(value="ssd")}
    with_disk = await shop.add_host(attributes=disk)
    made = await shop.create(
        schedulingStrategy="DAEMON",
        placementConstraints=[{"type": "memberOf", "expression": "attribute:disk == ssd"}],
    )
    assert made["deploymentConfiguration"]["maximumPercent"] == 100
    await shop.settle(41)
    shown = await shop.describe()
    assert (shown["desiredCount"], shown["runningCount"]) == (1, 1)
    (task,) = await shop.tasks()
    assert task["containerInstanceArn"] == with_disk.arn
    await shop.add_host(attributes=disk)
    await shop.settle(41)
    assert (await shop.describe())["runningCount"] == 2
    await shop.endpoint.call(
        "update_container_instances_state", containerInstances=[with_disk.arn], status="DRAINING"
    )
    await shop.settle(41)
    assert (await shop.describe())["runningCount"] == 1
    await shop.endpoint.call("delete_service", service="shop")
    await shop.settle()
    assert (await shop.describe())["status"] == "INACTIVE"


async def test_what_is_not_served_says_what_to_do_instead(shop: Shop) -> None:
    model = await asyncio.to_thread(ApiModel.load, "ecs")
    served = ServiceApi(
        shop.endpoint.parts,
        model,
        ECS.handlers(),
        operators=Open(),
        check=ECS.check,
        reasons=ECS.reasons,
    )
    with pytest.raises(UnsupportedFeatureException) as caught:
        served._handler("ListDaemons")
    assert str(caught.value) == (
        "The operation ListDaemons is not supported by this control endpoint: "
        f"{REASONS['ListDaemons']}."
    )


async def test_a_tag_says_what_becomes_of_tasks_on_hosts_that_are_cut_off(shop: Shop) -> None:
    call, refused = shop.endpoint.call, shop.endpoint.refused
    key = "ecs-host-agent.replace-after"
    for value in ("", "-1", "1.5", "often", "9999999", "604801"):
        code, text = await refused(
            "create_service",
            serviceName="shop",
            taskDefinition="web",
            desiredCount=1,
            tags=[{"key": key, "value": value}],
        )
        assert (code, key in text) == ("InvalidParameterException", True)
    made = await shop.create(tags=[{"key": key, "value": "604800"}])
    bad = [{"key": key, "value": "x"}]
    code, _ = await refused("tag_resource", resourceArn=made["serviceArn"], tags=bad)
    assert code == "InvalidParameterException"
    never = [{"key": key, "value": "never"}]
    await call("tag_resource", resourceArn=made["serviceArn"], tags=never)


async def test_lists_tags_and_the_counts_of_the_cluster(shop: Shop) -> None:
    call, refused = shop.endpoint.call, shop.endpoint.refused
    for number in range(12):
        await shop.create(f"s{number:02}", desiredCount=0)
    page = await call("list_services")
    assert len(page["serviceArns"]) == 10
    rest = await call("list_services", nextToken=page["nextToken"])
    assert len(rest["serviceArns"]) == 2
    assert "nextToken" not in rest
    assert not (await call("list_services", launchType="FARGATE"))["serviceArns"]
    assert not (await call("list_services", schedulingStrategy="DAEMON"))["serviceArns"]
    assert (await refused("list_services_by_namespace", namespace="x"))[0] == (
        "NamespaceNotFoundException"
    )
    arn = page["serviceArns"][0]
    await call("tag_resource", resourceArn=arn, tags=TAGS)
    assert (await call("list_tags_for_resource", resourceArn=arn))["tags"] == TAGS
    (shown,) = (await call("describe_clusters", include=["STATISTICS"]))["clusters"]
    assert shown["activeServicesCount"] == 12
    statistics = {item["name"]: item["value"] for item in shown["statistics"]}
    assert statistics["activeEC2ServiceCount"] == "12"
    assert (await refused("list_tasks", serviceName="nothing"))[0] == "ServiceNotFoundException"
    assert (await refused("describe_services", services=["a"] * 11))[0] == (
        "InvalidParameterException"
    )


async def test_a_strategy_only_changes_by_force(shop: Shop) -> None:
    await shop.endpoint.call(
        "put_cluster_capacity_providers",
        cluster="default",
        capacityProviders=["FARGATE"],
        defaultCapacityProviderStrategy=[],
    )
    small = {"name": "main", "image": "img"}
    fargate = definition(
        family="small",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[small],
    )
    await shop.endpoint.call("register_task_definition", **fargate)
    vpc = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    await shop.create(taskDefinition="small", networkConfiguration=vpc)
    strategy = [{"capacityProvider": "FARGATE", "weight": 1}]
    change: dict[str, Any] = {"service": "shop", "capacityProviderStrategy": strategy}
    _, text = await shop.endpoint.refused("update_service", **change)
    assert "you must force a new deployment" in text
    await shop.endpoint.call("update_service", **change, forceNewDeployment=True)
    primary = (await shop.describe())["deployments"][0]
    assert primary["capacityProviderStrategy"][0]["capacityProvider"] == "FARGATE"
    assert primary["platformVersion"] == "LATEST"
    assert "launchType" not in primary
    await shop.loop.settle()
    assert (await shop.messages())[0].startswith(
        "(service shop) was unable to place a task. Reason: Capacity is unavailable"
    )


async def test_a_service_of_fargate_waits_for_a_lent_host_of_another_cluster(shop: Shop) -> None:
    fargate = definition(
        family="small",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "main", "image": "img"}],
    )
    await shop.endpoint.call("register_task_definition", **fargate)
    vpc = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    await shop.create(taskDefinition="small", launchType="FARGATE", networkConfiguration=vpc)
    await shop.settle()
    assert await shop.tasks() == []
    await shop.endpoint.call("create_cluster", clusterName="hosts")
    said = (
        "ecs-host-agent.fargate",
        "ecs-host-agent.fargate-all-clusters",
        "ecs.capability.task-eni",
        "ecs.capability.task-cpu-mem-limit",
    )
    attributes = {name: AttributeRecord() for name in said}
    host = await shop.add_host(cluster="hosts", attributes=attributes)
    await shop.settle(60)
    tasks = await shop.tasks()
    assert [task["containerInstanceArn"] for task in tasks] == [host.arn] * 2
    for task in tasks:
        await shop.report(task["taskArn"], "RUNNING")
    await shop.settle(10)
    assert (await shop.messages())[0] == "(service shop) has reached a steady state."
    await shop.endpoint.call("update_service", service="shop", desiredCount=0)
    await shop.settle()
    assert await shop.tasks() == []
    assert {task["lastStatus"] for task in await shop.tasks("STOPPED")} == {"STOPPED"}
