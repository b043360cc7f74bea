"""Every answer is as botocore's model says, and every list can be paged by its paginators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.agents import reports
from agent.controlplane.api.ecs import operations, refused
from agent.controlplane.definition.rules import check_definition
from agent.controlplane.front.errors import (
    ClientException,
    ConflictException,
    InvalidParameterException,
    NamespaceNotFoundException,
)
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.store.contract import Put
from agent.model.changes import AttachmentChange, ContainerChange, NetworkInterface
from agent.model.task import NetworkBinding
from tests.support.control_endpoint import a_report, definition

if TYPE_CHECKING:
    from agent.controlplane.front.service_model import ApiModel
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

AWSVPC = {
    "networkMode": "awsvpc",
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [
        {
            "name": "main",
            "image": "img",
            "portMappings": [{"containerPort": 80}],
            "healthCheck": {"command": ["CMD", "true"]},
            "resourceRequirements": [{"type": "GPU", "value": "1"}],
            "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
        }
    ],
}
VPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}


def test_what_is_refused_with_a_reason_is_of_the_model_and_not_served(model: ApiModel) -> None:
    both = refused.REASONS.keys() & operations.handlers().keys()
    assert not both, f"refused.py still refuses {sorted(both)}"
    assert refused.REASONS.keys() <= model.operations


async def test_every_operation_answers_in_its_shape(endpoint: Endpoint, model: ApiModel) -> None:
    """The model under test refuses what is not in the model."""
    visited: set[str] = set()

    async def call(operation: str, **request: Any) -> dict[str, Any]:
        visited.add(operation)
        handler = endpoint.handlers[operation]
        checked = model.check(operation, request)
        return model.answer(operation, await handler(endpoint.parts, checked))

    tags = [{"key": "k", "value": "v"}]
    included = ["ATTACHMENTS", "SETTINGS", "CONFIGURATIONS", "STATISTICS", "TAGS"]
    cluster = await call(
        "CreateCluster", tags=tags, configuration={"executeCommandConfiguration": {}}
    )
    await call("DescribeClusters", clusters=["default", "0" * 32], include=included)
    await call(
        "PutClusterCapacityProviders",
        cluster="default",
        capacityProviders=["FARGATE"],
        defaultCapacityProviderStrategy=[],
    )
    await _call_settings(call)
    await call("RegisterTaskDefinition", **definition(**AWSVPC, tags=tags))
    await call("DescribeTaskDefinition", taskDefinition="web", include=["TAGS"])
    await call("ListTaskDefinitions")
    await call("ListTaskDefinitionFamilies")
    host = await endpoint.add_instance(
        attributes={
            name: records.AttributeRecord()
            for name in (
                "ecs.capability.task-eni",
                "ecs.capability.container-health-check",
                "ecs.capability.task-cpu-mem-limit",
                "ecs-host-agent.execute-command",
            )
        }
    )
    await call("PutAttributes", attributes=[{"name": "a", "targetId": host.arn}])
    await call("ListAttributes", targetType="container-instance")
    run = {"taskDefinition": "web", "networkConfiguration": VPC, "tags": tags, "startedBy": "me"}
    (task,) = (await call("RunTask", **run, enableExecuteCommand=True))["tasks"]
    await call("RunTask", **run, placementConstraints=[{"type": "distinctInstance"}])
    (other,) = (await call("StartTask", **run, containerInstances=[host.arn]))["tasks"]
    arn = task["taskArn"]
    container = ContainerChange(
        container_name="main",
        status="RUNNING",
        runtime_id="r",
        network_bindings=[NetworkBinding(container_port=80, host_port=80)],
        network_interfaces=[NetworkInterface(attachment_id="x", private_ipv4_address="10.0.0.2")],
    )
    attachment = AttachmentChange(id="x", status="ATTACHED", details={"macAddress": "02:00:00:0:0"})
    report = a_report(arn, "RUNNING", containers=[container], attachments=[attachment])
    await reports.apply(endpoint.parts, host, [report])
    await call("DescribeTasks", tasks=[arn, other["taskArn"], "0" * 32], include=["TAGS"])
    await call("ListTasks")
    await _call_services(call, endpoint, arn)
    await call("TagResource", resourceArn=arn, tags=tags)
    await call("ListTagsForResource", resourceArn=arn)
    await call("UntagResource", resourceArn=arn, tagKeys=["k"])
    await call(
        "DescribeContainerInstances", containerInstances=[host.arn, "0" * 32], include=["TAGS"]
    )
    await call("ListContainerInstances", filter="agentConnected == true")
    await call(
        "UpdateContainerInstancesState", containerInstances=[host.arn, "0" * 32], status="DRAINING"
    )
    await call("GetTaskProtection", cluster="default", tasks=[arn, "0" * 32])
    await call("UpdateTaskProtection", cluster="default", tasks=[arn], protectionEnabled=True)
    await call("StopTask", task=arn)
    await reports.apply(endpoint.parts, host, [a_report(arn, "STOPPED")])
    await call("DescribeTasks", tasks=[arn])
    await call("DeleteAttributes", attributes=[{"name": "a", "targetId": host.arn}])
    await call("DeregisterContainerInstance", containerInstance=host.arn, force=True)
    await call("DescribeContainerInstances", containerInstances=[host.arn])
    await call("DeregisterTaskDefinition", taskDefinition="web:1")
    await call("DeleteTaskDefinitions", taskDefinitions=["web:1", "web:9"])
    await call("ListClusters")
    await call("DeleteCluster", cluster=cluster["cluster"]["clusterArn"])
    assert visited == set(operations.handlers()), "this test calls every operation that is served"


async def _call_settings(call: Any) -> None:
    group = {"autoScalingGroupArn": "rack"}
    tags = [{"key": "k", "value": "v"}]
    await call("CreateCapacityProvider", name="rack", autoScalingGroupProvider=group, tags=tags)
    draining = {"managedDraining": "DISABLED"}
    await call("UpdateCapacityProvider", name="rack", autoScalingGroupProvider=draining)
    await call("DescribeCapacityProviders", include=["TAGS"])
    await call("DeleteCapacityProvider", capacityProvider="rack")
    insights = [{"name": "containerInsights", "value": "enabled"}]
    await call("UpdateCluster", cluster="default", settings=insights)
    await call("UpdateClusterSettings", cluster="default", settings=insights)
    await call("PutAccountSetting", **insights[0])
    await call("PutAccountSettingDefault", **insights[0])
    await call("ListAccountSettings", effectiveSettings=True)
    await call("DeleteAccountSetting", name="containerInsights")


async def _call_services(call: Any, endpoint: Endpoint, running: str) -> None:
    """Call what is about services, and run a command in a task that runs."""
    await call("ExecuteCommand", task=running, command="sh", interactive=True)
    service = {"taskDefinition": "web", "desiredCount": 1, "networkConfiguration": VPC}
    tags = [{"key": "k", "value": "v"}]
    made = await call("CreateService", serviceName="shop", **service, tags=tags)
    await call("UpdateService", service="shop", desiredCount=2, forceNewDeployment=True)
    await ServiceLoop(endpoint.parts).settle()
    await call("DescribeServices", services=["shop", "nowhere"], include=["TAGS"])
    await call("ListServices", schedulingStrategy="REPLICA")
    (newest, _) = (await call("ListServiceDeployments", service="shop"))["serviceDeployments"]
    arns = [newest["serviceDeploymentArn"]]
    await call("DescribeServiceDeployments", serviceDeploymentArns=arns)
    with pytest.raises(ConflictException):
        await call("StopServiceDeployment", serviceDeploymentArn=arns[0])
    with pytest.raises(InvalidParameterException):
        await call("ContinueServiceDeployment", serviceDeploymentArn=arns[0], hookId="ecs-PAUSE-1")
    arns = [newest["targetServiceRevisionArn"]]
    await call("DescribeServiceRevisions", serviceRevisionArns=arns)
    await call("ListTasks", serviceName=made["service"]["serviceArn"])
    with pytest.raises(NamespaceNotFoundException):
        await call("ListServicesByNamespace", namespace="shop.local")
    await call("DeleteService", service="shop", force=True)
    await ServiceLoop(endpoint.parts).settle()
    await call("DescribeServices", services=["shop"])
    await _call_task_sets(call, endpoint)


async def _call_task_sets(call: Any, endpoint: Endpoint) -> None:
    external = {"deploymentController": {"type": "EXTERNAL"}, "desiredCount": 1}
    await call("CreateService", serviceName="outside", **external)
    where = {"cluster": "default", "service": "outside"}
    made = await call(
        "CreateTaskSet",
        **where,
        taskDefinition="web",
        networkConfiguration=VPC,
        scale={"value": 50.0, "unit": "PERCENT"},
        tags=[{"key": "k", "value": "v"}],
    )
    arn = made["taskSet"]["taskSetArn"]
    await ServiceLoop(endpoint.parts).settle()
    await call("UpdateTaskSet", **where, taskSet=arn, scale={"value": 100.0, "unit": "PERCENT"})
    await call("UpdateServicePrimaryTaskSet", **where, primaryTaskSet=arn)
    await call("DescribeTaskSets", **where, taskSets=[arn, "ecs-svc/1"], include=["TAGS"])
    await call("DescribeServices", services=["outside"], include=["TAGS"])
    await call("DeleteTaskSet", **where, taskSet=arn, force=True)
    await call("DeleteService", service="outside", force=True)
    await ServiceLoop(endpoint.parts).settle()


async def test_paginators_see_everything_once(endpoint: Endpoint, cluster: str) -> None:
    for number in range(7):
        await endpoint.call("create_cluster", clusterName=f"c{number}")
        await endpoint.call("register_task_definition", **definition(family=f"f{number}"))
        await endpoint.add_task(await endpoint.add_instance(cluster))
        service = {"serviceName": f"s{number}", "taskDefinition": "f0", "desiredCount": 0}
        await endpoint.call("create_service", **service)

    def pages(operation: str, member: str, **request: Any) -> list[Any]:
        paginator = endpoint.client.get_paginator(operation)
        found = paginator.paginate(**request, PaginationConfig={"PageSize": 2})
        return [str(item) for page in found for item in page[member]]

    for operation, member, count, request in [
        ("list_clusters", "clusterArns", 8, {}),
        ("list_task_definitions", "taskDefinitionArns", 7, {}),
        ("list_task_definitions", "taskDefinitionArns", 7, {"sort": "DESC"}),
        ("list_task_definition_families", "families", 7, {}),
        ("list_tasks", "taskArns", 7, {}),
        ("list_services", "serviceArns", 7, {}),
        ("list_container_instances", "containerInstanceArns", 7, {}),
        (
            "list_container_instances",
            "containerInstanceArns",
            7,
            {"filter": "agentConnected==true"},
        ),
        ("list_attributes", "attributes", 14, {"targetType": "container-instance"}),
    ]:
        found = await asyncio.to_thread(pages, operation, member, **request)
        assert len(found) == len(set(found)) == count, operation


async def test_terraform_reads_a_cluster_as_it_made_it(endpoint: Endpoint) -> None:
    include = ["TAGS", "CONFIGURATIONS", "SETTINGS"]
    await endpoint.call("create_cluster", clusterName="plain")
    (plain,) = (await endpoint.call("describe_clusters", clusters=["plain"], include=include))[
        "clusters"
    ]
    # What nobody set is shown as the service sets it.
    assert plain["settings"] == [{"name": "containerInsights", "value": "disabled"}]
    made = {
        "settings": [{"name": "containerInsights", "value": "enabled"}],
        "configuration": {"executeCommandConfiguration": {"logging": "DEFAULT"}},
        "tags": [{"key": "Name", "value": "x"}],
    }
    await endpoint.call("create_cluster", clusterName="full", **made)
    (full,) = (await endpoint.call("describe_clusters", clusters=["full"], include=include))[
        "clusters"
    ]
    assert {name: full[name] for name in made} == made
    await endpoint.call("delete_cluster", cluster="full")
    (gone,) = (await endpoint.call("describe_clusters", clusters=["full"]))["clusters"]
    assert gone["status"] == "INACTIVE"


def _covers(shown: Any, given: Any, path: str = "") -> None:
    """Everything that was given is shown as it was; what is shown besides is a default."""
    if isinstance(given, dict):
        for name, value in given.items():
            assert name in shown, f"{path}.{name} is lost"
            _covers(shown[name], value, f"{path}.{name}")
    elif isinstance(given, list):
        assert len(shown) == len(given), path
        for index, (one, other) in enumerate(zip(shown, given, strict=True)):
            _covers(one, other, f"{path}[{index}]")
    elif given != 0 or not path.endswith("hostPort"):
        assert shown == given, path


def _values(shape: Any) -> st.SearchStrategy[Any]:
    match shape.type_name:
        case "structure":
            made = {name: _values(member) for name, member in shape.members.items()}
            required = {name: made.pop(name) for name in shape.required_members}
            return st.fixed_dictionaries(required, optional=made)
        case "list":
            return st.lists(_values(shape.member), max_size=2)
        case "map":
            return st.dictionaries(st.sampled_from("ab"), _values(shape.value), max_size=2)
        case "boolean":
            return st.booleans()
        case "integer" | "long":
            return st.sampled_from([1, 5, 80, 512])
        case _:
            return st.sampled_from(shape.enum or ["a", "b", "/x", "512", "10-20"])


async def test_a_definition_is_described_as_it_was_registered(
    endpoint: Endpoint, model: ApiModel
) -> None:
    shape = model._service.shape_for("ContainerDefinition")
    members = {
        name: _values(member)
        for name, member in shape.members.items()
        if name not in {"name", "image", "memory", "essential", "dependsOn", "links", "volumesFrom"}
    }
    accepted = 0

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries({}, optional=members))
    def hold(container: dict[str, Any]) -> None:
        nonlocal accepted
        given_ = {"name": "main", "image": "img", "memory": 512, **container}
        request = {"family": "web", "containerDefinitions": [given_]}
        try:
            shown = check_definition(model.check("RegisterTaskDefinition", request))
        except (ClientException, InvalidParameterException):
            return
        accepted += 1
        _covers(shown["containerDefinitions"][0], given_)
        again = check_definition({"family": "web", **shown})
        assert again == shown, "what is described can be registered again, and is the same"

    await asyncio.to_thread(hold)
    assert accepted > 20


async def test_an_inactive_instance_is_not_connected(endpoint: Endpoint, cluster: str) -> None:
    host = await endpoint.add_instance(cluster)
    gone = replace(host, status="INACTIVE")
    key = records.instance_key(cluster, host.id)
    await endpoint.parts.store.txn([], [Put(key, records.encode(gone))])
    (shown,) = (await endpoint.call("describe_container_instances", containerInstances=[host.id]))[
        "containerInstances"
    ]
    assert shown["agentConnected"] is False


@pytest.mark.parametrize("operation", ["DescribeTasks", "RunTask"])
async def test_a_very_large_request_is_refused_and_others_go_on(
    endpoint: Endpoint, cluster: str, operation: str
) -> None:
    body = {"tasks": ["x"] * 20_000, "taskDefinition": "web", "tags": [{"key": "k"}] * 1000}
    large = asyncio.create_task(endpoint.raw(operation, msgspec.json.encode(body)))
    await endpoint.call("list_clusters")
    assert (await large).status == 400
