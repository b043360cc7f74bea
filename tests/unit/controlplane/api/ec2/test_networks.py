"""VPC, subnets, interfaces and hosts as AWS's SDK sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.names import Names
from agent.controlplane.security_groups import group_records
from agent.controlplane.vpc import layout
from agent.model.changes import AttachmentChange, ContainerChange
from agent.model.task import NetworkBinding
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import (
    CAPABILITIES,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VPC = group_records.vpc_id(Names())
DEFAULT = group_records.default_group_id(Names())
SUBNET = layout.subnet_id(Names(), "us-east-1a")
ERRORS = frozenset(
    {
        "InvalidInstanceID.NotFound",
        "InvalidNetworkInterfaceID.NotFound",
        "InvalidParameterValue",
        "InvalidSubnetID.NotFound",
        "InvalidVpcID.NotFound",
        "UnsupportedOperation",
    }
)
HOST = CAPABILITIES | {
    "ecs-host-agent.address": "192.0.2.7",
    "ecs-host-agent.fargate": "",
    "ecs-host-agent.task-pool": "10.1.0.0/28",
}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        yield running


@pytest.fixture
async def ec2(endpoint: Endpoint) -> AsyncIterator[AwsClient]:
    client = await AwsClient.of(endpoint, "ec2", unlisted=ERRORS)
    yield client
    client.close()


def only(name: str, *values: str) -> dict[str, Any]:
    return {"Filters": [{"Name": name, "Values": list(values)}]}


async def test_the_default_vpc_and_its_subnet_are_always_there(ec2: AwsClient) -> None:
    for name in ("isDefault", "is-default"):
        (vpc,) = (await ec2.call("describe_vpcs", **only(name, "true")))["Vpcs"]
        assert (vpc["VpcId"], vpc["IsDefault"], vpc["State"]) == (VPC, True, "available")
        assert not (await ec2.call("describe_vpcs", **only(name, "false")))["Vpcs"]
    (subnet,) = (await ec2.call("describe_subnets", **only("vpc-id", VPC)))["Subnets"]
    assert (subnet["SubnetId"], subnet["AvailabilityZone"]) == (SUBNET, "us-east-1a")
    assert subnet["CidrBlock"] == vpc["CidrBlock"] == layout.POOL
    assert (subnet["DefaultForAz"], subnet["MapPublicIpOnLaunch"]) == (True, True)
    assert not (await ec2.call("describe_subnets", **only("vpc-id", "vpc-1")))["Subnets"]
    for call, wrong, code in (
        ("describe_vpcs", {"VpcIds": ["vpc-1"]}, "InvalidVpcID.NotFound"),
        ("describe_subnets", {"SubnetIds": ["subnet-1"]}, "InvalidSubnetID.NotFound"),
        ("describe_subnets", {"DryRun": True}, "UnsupportedOperation"),
        ("describe_availability_zones", {"ZoneNames": ["x"]}, "InvalidParameterValue"),
        ("describe_regions", {"RegionNames": ["x"]}, "InvalidParameterValue"),
    ):
        assert (await ec2.refused(call, **wrong))[0] == code, wrong


async def test_each_zone_of_hosts_has_a_subnet_with_their_addresses(
    endpoint: Endpoint, ec2: AwsClient
) -> None:
    await endpoint.call("CreateCluster")
    pools = {"a": "10.1.0.0/28", "b": "10.2.0.0/28", "c": "10.3.0.0/28"}
    zones = ["us-east-1a", *(f"zone-{name}" for name in pools)]
    for name, pool in pools.items():
        said = {"ecs.availability-zone": f"zone-{name}", "ecs-host-agent.task-pool": pool}
        await ScriptedAgent(endpoint, attributes=CAPABILITIES | said).register()
    subnets = (await ec2.call("describe_subnets"))["Subnets"]
    assert [one["AvailabilityZone"] for one in subnets] == zones
    assert [one["CidrBlock"] for one in subnets[1:]] == list(pools.values())
    assert [one["AvailableIpAddressCount"] for one in subnets] == [0, 13, 13, 13]
    found = await ec2.call("describe_subnets", **only("availability-zone", "zone-?"))
    assert found["Subnets"] == subnets[1:]
    (vpc,) = (await ec2.call("describe_vpcs"))["Vpcs"]
    blocks = [one["CidrBlock"] for one in vpc["CidrBlockAssociationSet"]]
    assert blocks == [layout.POOL, *pools.values()]
    shown = (await ec2.call("describe_availability_zones"))["AvailabilityZones"]
    assert [(one["ZoneName"], one["State"]) for one in shown] == [
        (zone, "available") for zone in zones
    ]
    assert [one["AvailabilityZoneId"] for one in subnets] == [one["ZoneId"] for one in shown]
    (region,) = (await ec2.call("describe_regions"))["Regions"]
    assert region["RegionName"] == "us-east-1"


async def test_subnets_are_listed_in_pages(endpoint: Endpoint, ec2: AwsClient) -> None:
    await endpoint.call("CreateCluster")
    for number in range(6):
        said = {"ecs.availability-zone": f"zone-{number}"}
        await ScriptedAgent(endpoint, attributes=CAPABILITIES | said).register()
    first = await ec2.call("describe_subnets", MaxResults=5)
    rest = await ec2.call("describe_subnets", MaxResults=5, NextToken=first["NextToken"])
    paged = [one["AvailabilityZone"] for page in (first, rest) for one in page["Subnets"]]
    assert paged == ["us-east-1a", *(f"zone-{number}" for number in range(6))]
    assert "NextToken" not in rest


async def started(
    endpoint: Endpoint, agent: ScriptedAgent, number: int, **vpc: Any
) -> dict[str, Any]:
    """A task on the agent's host that has an address; returns what ECS says of its interface."""
    answer = await endpoint.call(
        "RunTask",
        taskDefinition="web",
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["s", SUBNET]} | vpc},
    )
    (task,) = answer["tasks"]
    (attachment,) = task["attachments"]
    details = {
        "networkInterfaceId": f"eni-{number}",
        "privateIPv4Address": f"10.1.0.{number}",
        "macAddress": f"0a:00:00:00:00:0{number}",
        "privateDnsName": f"ip-10-1-0-{number}",
    }
    change = AttachmentChange(id=attachment["id"], status="ATTACHED", details=details)
    await agent.report(a_report(task["taskArn"], "RUNNING", attachments=[change]))
    (attachment,) = (await endpoint.task(task["taskArn"]))["attachments"]
    shown = {each["name"]: each["value"] for each in attachment["details"]}
    return shown | {"task": task["taskArn"], "attachment": attachment["id"]}


@pytest.fixture
async def agent(endpoint: Endpoint) -> ScriptedAgent:
    await endpoint.call("CreateCluster")
    fargate = {"requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512"}
    wanted = definition(networkMode="awsvpc", **fargate)
    await endpoint.call("RegisterTaskDefinition", **wanted)
    made = ScriptedAgent(endpoint, attributes=HOST)
    await made.register()
    return made


async def test_the_interface_of_a_task_is_found_by_its_id(
    endpoint: Endpoint, agent: ScriptedAgent, ec2: AwsClient
) -> None:
    public = await started(endpoint, agent, 5, assignPublicIp="ENABLED")
    assert (public["subnetId"], public["networkInterfaceId"]) == (SUBNET, "eni-5")
    (one,) = (await ec2.call("describe_network_interfaces", NetworkInterfaceIds=["eni-5"]))[
        "NetworkInterfaces"
    ]
    assert one["Association"]["PublicIp"] == one["PrivateIpAddress"] == "10.1.0.5"
    assert (one["SubnetId"], one["VpcId"], one["Status"]) == (SUBNET, VPC, "in-use")
    assert one["Groups"] == [{"GroupId": DEFAULT, "GroupName": "default"}]
    assert one["MacAddress"] == "0a:00:00:00:00:05"
    assert one["AvailabilityZone"] == "us-east-1a"
    assert one["Description"].endswith(f":attachment/{public['attachment']}")
    assert one["PrivateIpAddresses"][0]["Association"] == one["Association"]


async def test_interfaces_are_filtered_and_go_with_their_tasks(
    endpoint: Endpoint, agent: ScriptedAgent, ec2: AwsClient
) -> None:
    first = await started(endpoint, agent, 5, assignPublicIp="ENABLED")
    await started(endpoint, agent, 6)

    async def found(**asked: Any) -> list[str]:
        answer = await ec2.call("describe_network_interfaces", **asked)
        return [one["NetworkInterfaceId"] for one in answer["NetworkInterfaces"]]

    assert await found() == ["eni-5", "eni-6"]
    assert await found(**only("association.public-ip", "10.1.0.*")) == ["eni-5"]
    assert await found(**only("private-ip-address", "10.1.0.6")) == ["eni-6"]
    assert await found(**only("group-id", DEFAULT)) == ["eni-5", "eni-6"]
    assert await found(**only("subnet-id", SUBNET)) == ["eni-5", "eni-6"]
    assert await found(**only("status", "available")) == []
    (private,) = (await ec2.call("describe_network_interfaces", **only("mac-address", "*06")))[
        "NetworkInterfaces"
    ]
    assert "Association" not in private
    (subnet,) = (await ec2.call("describe_subnets", SubnetIds=[SUBNET]))["Subnets"]
    assert subnet["AvailableIpAddressCount"] == 13 - 2
    await endpoint.call("StopTask", task=first["task"])
    await agent.report(a_report(first["task"], "STOPPED"))
    assert await found() == ["eni-6"]
    code, text = await ec2.refused("describe_network_interfaces", NetworkInterfaceIds=["eni-5"])
    assert (code, text) == (
        "InvalidNetworkInterfaceID.NotFound",
        "The networkInterface ID 'eni-5' does not exist",
    )


async def test_hosts_are_instances(
    endpoint: Endpoint, agent: ScriptedAgent, ec2: AwsClient
) -> None:
    asked = {"instance-state-name": "running", "tag:aws:ecs:clusterName": "default"}
    filters = [{"Name": name, "Values": [value]} for name, value in asked.items()]
    (reservation,) = (await ec2.call("describe_instances", Filters=filters))["Reservations"]
    (instance,) = reservation["Instances"]
    assert instance["InstanceId"] == f"i-{agent.id[:17]}"
    assert instance["PublicIpAddress"] == instance["PrivateIpAddress"] == "192.0.2.7"
    assert instance["PrivateDnsName"] == "host-1"
    assert instance["Placement"]["AvailabilityZone"] == "us-east-1a"
    assert (instance["SubnetId"], instance["VpcId"]) == (SUBNET, VPC)
    by_id = await ec2.call("describe_instances", InstanceIds=[instance["InstanceId"]])
    assert by_id["Reservations"] == [reservation]
    code, text = await ec2.refused("describe_instances", InstanceIds=["i-1"])
    assert (code, text) == (
        "InvalidInstanceID.NotFound",
        "The instance ID 'i-1' does not exist",
    )
    await endpoint.call("DeregisterContainerInstance", containerInstance=agent.arn)
    assert not (await ec2.call("describe_instances"))["Reservations"]


async def test_attributes_of_the_vpc(ec2: AwsClient) -> None:
    for name, is_on in (
        ("enableDnsSupport", True),
        ("enableDnsHostnames", False),
        ("enableNetworkAddressUsageMetrics", False),
    ):
        shown = await ec2.call("describe_vpc_attribute", VpcId=VPC, Attribute=name)
        assert shown == {"VpcId": VPC, f"{name[:1].upper()}{name[1:]}": {"Value": is_on}}
    code, _ = await ec2.refused("describe_vpc_attribute", VpcId="vpc-1", Attribute=name)
    assert code == "InvalidVpcID.NotFound"


async def test_a_proxy_finds_tasks_as_on_amazon_ecs(endpoint: Endpoint, ec2: AwsClient) -> None:
    """The calls of Traefik's provider for ECS, in their order: each task's port and its host's address."""
    await endpoint.call("CreateCluster")
    label = "traefik.http.routers.web.rule"
    container = {
        "name": "main",
        "image": "web",
        "memory": 64,
        "portMappings": [{"containerPort": 80, "hostPort": 0}],
        "dockerLabels": {label: "Host(`web.example`)"},
    }
    await endpoint.call("RegisterTaskDefinition", family="web", containerDefinitions=[container])
    agent = ScriptedAgent(endpoint, attributes=HOST)
    await agent.register()
    (task,) = (await endpoint.call("RunTask", taskDefinition="web"))["tasks"]
    binding = NetworkBinding(container_port=80, host_port=32768, protocol="tcp", bind_ip="0.0.0.0")
    running = ContainerChange(
        container_name="main", status="RUNNING", runtime_id="r1", network_bindings=[binding]
    )
    await agent.report(a_report(task["taskArn"], "RUNNING", containers=[running]))

    (cluster,) = (await endpoint.call("ListClusters"))["clusterArns"]
    arns = await endpoint.call("ListTasks", cluster=cluster, desiredStatus="RUNNING")
    answer = await endpoint.call("DescribeTasks", cluster=cluster, tasks=arns["taskArns"])
    (task,) = answer["tasks"]
    answer = await endpoint.call(
        "DescribeContainerInstances",
        cluster=cluster,
        containerInstances=[task["containerInstanceArn"]],
    )
    (host,) = answer["containerInstances"]
    answer = await ec2.call("describe_instances", InstanceIds=[host["ec2InstanceId"]])
    (instance,) = answer["Reservations"][0]["Instances"]
    assert instance["InstanceId"] == host["ec2InstanceId"]
    assert (instance["PrivateIpAddress"], instance["State"]["Name"]) == ("192.0.2.7", "running")
    (bound,) = task["containers"][0]["networkBindings"]
    assert (bound["hostPort"], bound["containerPort"]) == (32768, 80)
    answer = await endpoint.call("DescribeTaskDefinition", taskDefinition=task["taskDefinitionArn"])
    (known,) = answer["taskDefinition"]["containerDefinitions"]
    assert known["dockerLabels"] == {label: "Host(`web.example`)"}
    found = await endpoint.call(
        "ListContainerInstances", filter=f"ec2InstanceId == {host['ec2InstanceId']}"
    )
    assert found["containerInstanceArns"] == [task["containerInstanceArn"]]
