"""RegisterContainerInstance, DiscoverPollEndpoint, and what else an agent calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.control_endpoint import (
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    control_endpoint,
    definition,
)
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent, attributes, resources

if TYPE_CHECKING:
    from pathlib import Path


def values(instance: dict[str, Any]) -> dict[str, str]:
    return {a["name"]: a.get("value", "") for a in instance["attributes"]}


async def described(endpoint: Endpoint, arn: str) -> dict[str, Any]:
    answer = await endpoint.call(
        "DescribeContainerInstances", containerInstances=[arn], include=["TAGS"]
    )
    (instance,) = answer["containerInstances"]
    shown: dict[str, Any] = instance
    return shown


async def test_what_an_instance_is_shown_as(endpoint: Endpoint) -> None:
    agent = RawAgent(endpoint)
    custom = {"name": "rack", "value": "7"}
    asked = attributes(custom, {"name": "ecs.capability.task-eni"})
    instance = await agent.register(
        attributes=asked,
        tags=[{"key": "team", "value": "a"}],
        platformDevices=[{"id": "GPU-1", "type": "GPU"}, {"id": "GPU-2", "type": "GPU"}],
    )
    answered = values(instance)
    for attribute in asked:
        assert answered[attribute["name"]] == attribute.get("value", "")
    assert answered["ecs.availability-zone"] == "us-east-1a"
    assert len(answered["ecs-host-agent.control"]) == 32
    shown = await described(endpoint, agent.arn)
    assert shown["status"] == "ACTIVE"
    assert shown["agentConnected"] is True
    assert shown["tags"] == [{"key": "team", "value": "a"}]
    assert values(shown)["rack"] == "7"
    assert not {"ecs-host-agent.control", "ecs.capability.task-eni"} & set(values(shown))
    registered = {r["name"]: r for r in shown["registeredResources"]}
    assert registered["CPU"]["integerValue"] == 2048
    assert registered["PORTS"]["stringSetValue"] == ["22", "2375", "2376", "51678", "51679"]
    assert registered["GPU"]["stringSetValue"] == ["GPU-1", "GPU-2"]


DOCUMENT = {
    "instanceId": "i-0123456789abcdef0",
    "instanceType": "t4g.small",
    "imageId": "ami-0123456789abcdef0",
    "availabilityZone": "us-east-1c",
    "architecture": "arm64",
    "region": "us-east-1",
}


async def listed(endpoint: Endpoint, expression: str) -> list[str]:
    answer = await endpoint.call("ListContainerInstances", filter=expression)
    arns: list[str] = answer["containerInstanceArns"]
    return arns


async def test_an_ec2_instance_is_what_its_identity_document_says(endpoint: Endpoint) -> None:
    agent, other = RawAgent(endpoint), RawAgent(endpoint)
    await other.register()
    instance = await agent.register(
        attributes=attributes()[:-4], instanceIdentityDocument=json.dumps(DOCUMENT)
    )
    shown = await described(endpoint, agent.arn)
    for seen in (instance, shown):
        assert seen["ec2InstanceId"] == "i-0123456789abcdef0"
        assert values(seen)["ecs.availability-zone"] == "us-east-1c"
    assert values(shown)["ecs.instance-type"] == "t4g.small"
    assert values(shown)["ecs.ami-id"] == "ami-0123456789abcdef0"
    assert values(shown)["ecs.cpu-architecture"] == "arm64"
    assert (await described(endpoint, other.arn))["ec2InstanceId"] == own_id(other.arn)
    for expression in (
        "ec2InstanceId == i-0123456789abcdef0",
        "attribute:ecs.instance-type =~ t4g.*",
        "attribute:ecs.availability-zone == us-east-1c",
        "attribute:ecs.ami-id == ami-0123456789abcdef0",
    ):
        assert await listed(endpoint, expression) == [agent.arn], expression
    found = await endpoint.call(
        "ListAttributes", targetType="container-instance", attributeName="ecs.availability-zone"
    )
    zones = {a["targetId"]: a["value"] for a in found["attributes"]}
    assert zones == {agent.arn: "us-east-1c", other.arn: "us-east-1a"}


def own_id(arn: str) -> str:
    """The id that a host has which is no instance of EC2."""
    return f"i-{arn.rpartition('/')[2][:17]}"


@pytest.mark.parametrize(
    "document",
    [
        "no json",
        "[]",
        json.dumps(DOCUMENT | {"instanceId": 7}),
        json.dumps(DOCUMENT | {"instanceId": "i-1\x1b[2J"}),
        json.dumps(DOCUMENT | {"availabilityZone": "z" * 200}),
        json.dumps(DOCUMENT | {"more": "x" * 20_000}),
    ],
)
async def test_what_is_no_identity_document_says_nothing(endpoint: Endpoint, document: str) -> None:
    agent = RawAgent(endpoint)
    await agent.register(instanceIdentityDocument=document)
    shown = await described(endpoint, agent.arn)
    assert shown["ec2InstanceId"] == own_id(agent.arn)
    assert values(shown)["ecs.availability-zone"] == "us-east-1a"
    assert "ecs.instance-type" not in values(shown)


async def test_versions_of_agent_and_engine(endpoint: Endpoint) -> None:
    agent = RawAgent(endpoint)
    await agent.register(
        versionInfo={
            "agentVersion": "1.105.1",
            "agentHash": "abcdef0",
            "dockerVersion": "DockerVersion: 25.0.8",
        }
    )
    assert (await described(endpoint, agent.arn))["versionInfo"] == {
        "agentVersion": "1.105.1",
        "agentHash": "abcdef0",
        "dockerVersion": "DockerVersion: 25.0.8",
    }
    async with agent.acs(agentVersion="1.106.0", agentHash="*0123456", dockerVersion="") as acs:
        await acs.settled()
        assert (await described(endpoint, agent.arn))["versionInfo"] == {
            "agentVersion": "1.106.0",
            "agentHash": "*0123456",
            "dockerVersion": "DockerVersion: 25.0.8",
        }


async def test_an_agent_of_ours_says_its_zone(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, zone="cellar") as endpoint:
        by_poll, named, silent = ScriptedAgent(endpoint), RawAgent(endpoint), RawAgent(endpoint)
        await by_poll.register(attributes={"ecs.availability-zone": "attic"})
        await named.register(
            attributes=attributes({"name": "ecs-host-agent.availability-zone", "value": "yard"})
        )
        await silent.register()
        seen = [values(await described(endpoint, agent.arn)) for agent in (by_poll, named, silent)]
        assert [attributes_["ecs.availability-zone"] for attributes_ in seen] == [
            *("attic", "yard", "cellar")
        ]
        assert "ecs-host-agent.availability-zone" not in seen[1]
        await endpoint.call("RegisterTaskDefinition", **definition())
        spread = [{"type": "spread", "field": "attribute:ecs.availability-zone"}]
        answer = await endpoint.call(
            "RunTask", taskDefinition="web", count=3, placementStrategy=spread
        )
        assert {task["availabilityZone"] for task in answer["tasks"]} == {
            *("attic", "yard", "cellar")
        }


async def test_the_same_token_is_the_same_instance(endpoint: Endpoint) -> None:
    one, two = RawAgent(endpoint), RawAgent(endpoint)
    await one.register(clientToken="once")
    await two.register(clientToken="once")
    assert one.arn == two.arn
    await RawAgent(endpoint).register(clientToken="twice")
    arns = (await endpoint.call("ListContainerInstances"))["containerInstanceArns"]
    assert len(arns) == 2


async def test_again_under_the_arn(endpoint: Endpoint) -> None:
    agent = RawAgent(endpoint)
    await agent.register(attributes=attributes({"name": "rack", "value": "7"}))
    put = {"name": "zone", "value": "b", "targetId": agent.arn}
    await endpoint.call("PutAttributes", attributes=[put])
    arn = agent.arn
    again = await agent.register(totalResources=resources(cpu=4096))
    assert again["containerInstanceArn"] == arn
    assert (values(again)["rack"], values(again)["zone"]) == ("7", "b")
    # What the host can no longer do goes.
    await agent.register(attributes=attributes()[:-4])
    assert "ecs.os-type-detailed" not in values(await described(endpoint, arn))
    assert values(await described(endpoint, arn))["rack"] == "7"


async def test_an_agent_is_told_its_own_words(endpoint: Endpoint) -> None:
    agent = RawAgent(endpoint)
    await agent.register(attributes=attributes({"name": "rack", "value": "7"}))
    put = {"name": "rack", "value": "8", "targetId": agent.arn}
    await endpoint.call("PutAttributes", attributes=[put])
    again = await agent.register(attributes=attributes({"name": "rack", "value": "7"}))
    assert values(again)["rack"] == "7"
    assert values(await described(endpoint, agent.arn))["rack"] == "8"


async def test_instances_that_cannot_come_again(endpoint: Endpoint) -> None:
    agent = RawAgent(endpoint)
    await agent.register()
    await endpoint.call("CreateCluster", clusterName="other")
    with pytest.raises(ApiFailure) as caught:
        await agent.register(cluster="other")
    assert caught.value.name == "ClientException"
    await endpoint.call("DeregisterContainerInstance", containerInstance=agent.arn)
    for arn in (agent.arn, agent.arn[:-1] + "x", "junk"):
        with pytest.raises(ApiFailure) as caught:
            await agent.register(containerInstanceArn=arn)
        assert caught.value.name == "ClientException"


async def test_clusters(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = RawAgent(endpoint)
        with pytest.raises(ApiFailure) as caught:
            await agent.register(cluster="missing")
        assert (caught.value.name, caught.value.message) == (
            "ClusterNotFoundException",
            "Cluster not found.",
        )
        await agent.register()
        assert (await endpoint.call("ListClusters"))["clusterArns"] == [
            "arn:aws:ecs:us-east-1:000000000000:cluster/default"
        ]
        with pytest.raises(ApiFailure, match="ClusterNotFoundException"):
            await RawAgent(endpoint).register(
                cluster="arn:aws:ecs:eu-west-1:000000000000:cluster/default"
            )


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"totalResources": []}, "InvalidParameterException"),
        ({"totalResources": [*resources(cpu=-1)]}, "InvalidParameterException"),
        (
            {
                "totalResources": [
                    *resources()[:2],
                    {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["99999"]},
                ]
            },
            "InvalidParameterException",
        ),
        ({"clientToken": "x" * 300}, "InvalidParameterException"),
        ({"clientToken": 7}, "InvalidParameterException"),
        ({"attributes": [{"name": "x" * 300}]}, "InvalidParameterException"),
        ({"attributes": [{"name": f"a{n}"} for n in range(600)]}, "InvalidParameterException"),
        ({"attributes": [{"value": "nameless"}]}, "InvalidParameterException"),
        ({"platformDevices": [{"id": "a", "type": "TOASTER"}]}, "InvalidParameterException"),
        ({"tags": [{"key": "aws:x", "value": ""}]}, "InvalidParameterException"),
        ({"totalResources": "much"}, "SerializationException"),
    ],
)
async def test_requests_that_cannot_be(
    endpoint: Endpoint, more: dict[str, Any], error: str
) -> None:
    with pytest.raises(ApiFailure) as caught:
        await RawAgent(endpoint).register(**more)
    assert caught.value.name == error
    assert (await endpoint.call("ListContainerInstances"))["containerInstanceArns"] == []


async def test_a_zero_is_left_out_by_the_agent(endpoint: Endpoint) -> None:
    given = resources()
    del given[1]["integerValue"]
    agent = RawAgent(endpoint)
    await agent.register(totalResources=given)
    shown = await described(endpoint, agent.arn)
    assert {r["name"]: r["integerValue"] for r in shown["registeredResources"]}["MEMORY"] == 0


async def test_an_ec2_host_says_its_architecture_in_its_identity(endpoint: Endpoint) -> None:
    agent = RawAgent(endpoint)
    await agent.register(
        attributes=attributes()[:-1],
        instanceIdentityDocument=json.dumps({"architecture": "arm64", "region": 7}),
    )
    assert values(await described(endpoint, agent.arn))["ecs.cpu-architecture"] == "arm64"
    await RawAgent(endpoint).register(
        attributes=attributes()[:-1], instanceIdentityDocument="{broken"
    )


async def test_endpoints_are_where_the_agent_came(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, keys_file=tmp_path / "keys") as endpoint:
        await check_endpoints(endpoint, RawAgent(endpoint))


async def check_endpoints(endpoint: Endpoint, agent: RawAgent) -> None:
    await agent.register()
    found = await agent.endpoints()
    base = endpoint.url
    assert found == {
        "endpoint": f"{base}/acs/",
        "telemetryEndpoint": f"{base}/tcs/",
        "serviceConnectEndpoint": f"{base}/sc/",
    }
    headers = {
        "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint",
        "Content-Type": "application/x-amz-json-1.1",
    }
    for host, told in (("Ecs.example:80", "http://Ecs.example:80/acs/"), ("[::1]:9", None)):
        async with endpoint.session.post(
            base, data=b"{}", headers=headers | {"Host": host}
        ) as answer:
            assert answer.status == 200
            body = json.loads(await answer.read())
            assert body["endpoint"] == (told or "http://[::1]:9/acs/")
    async with endpoint.session.post(
        base, data=b"{}", headers=headers | {"Host": "h", "X-Forwarded-Proto": "https"}
    ) as answer:
        assert json.loads(await answer.read())["telemetryEndpoint"] == "https://h/tcs/"
    async with endpoint.session.post(
        base, data=b"{}", headers=headers | {"Host": "a/../b"}
    ) as answer:
        assert answer.status == 400


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"totalResources": resources(cpu=-5)}, "CPU must not be negative"),
        ({"totalResources": resources(cpu=2**31 - 1)}, "resources.cpuUnits"),
        ({"totalResources": resources(memory=2**31 - 1)}, "resources.memoryMib"),
        ({"clientToken": "t" * 257}, "clientToken"),
        ({"attributes": [{"name": f"a{n}"} for n in range(600)]}, "attributes"),
        ({"attributes": [{"name": "a\x1b"}]}, "attributes"),
        ({"attributes": [{"name": "a", "value": "v" * 1025}]}, "attributes['a']"),
        ({"versionInfo": {"agentVersion": "1\n2"}}, "agentVersion"),
        ({"versionInfo": {"dockerVersion": "d" * 1000}}, "resources.engineVersion"),
        ({"platformDevices": [{"id": f"g{n}", "type": "GPU"} for n in range(300)]}, "gpus"),
        ({"platformDevices": [{"id": "g\x1b", "type": "GPU"}]}, "resources.gpus[0].uuid"),
        ({"tags": [{"key": "a\nb", "value": ""}]}, "not allowed"),
        ({"attributes": [{"name": "a"}] * 20_000}, "items in one list"),
    ],
)
async def test_a_host_that_cannot_be_is_refused_by_name(
    endpoint: Endpoint, request_: dict[str, Any], said: str
) -> None:
    with pytest.raises(ApiFailure, match="InvalidParameterException") as caught:
        await RawAgent(endpoint).register(**request_)
    assert said in caught.value.message
    assert len(caught.value.message) < 400
    assert (await endpoint.call("ListContainerInstances"))["containerInstanceArns"] == []
