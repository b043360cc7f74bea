"""RegisterContainerInstance, DiscoverPollEndpoint, and what else an agent calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.control_endpoint import ApiFailure, Endpoint, control_endpoint
from tests.unit.controlplane.ecs.raw_agent import RawAgent, attributes, resources

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


async def test_endpoints_are_where_the_agent_came(endpoint: Endpoint, agent: RawAgent) -> None:
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
