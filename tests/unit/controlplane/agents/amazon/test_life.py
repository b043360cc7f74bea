"""The whole life of tasks on a host that speaks Amazon's wire."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.control_endpoint import ApiFailure, ScriptedAgent
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent, attributes, run_task

if TYPE_CHECKING:
    from tests.support.control_endpoint import Endpoint


async def test_a_task_runs_and_stops(endpoint: Endpoint, agent: RawAgent) -> None:
    async with agent.acs() as session:
        assert await session.settled() == []
        (arn,) = await run_task(endpoint)
        order = await session.hear("PayloadMessage")
        assert order["containerInstanceArn"] == agent.arn
        assert order["clusterArn"].endswith(":cluster/default")
        assert isinstance(order["generatedAt"], int)
        assert isinstance(order["seqNum"], int)
        (task,) = order["tasks"]
        assert (task["arn"], task["desiredStatus"]) == (arn, "RUNNING")
        assert (task["family"], task["version"]) == ("web", "1")
        (container,) = task["containers"]
        assert container["essential"] is True
        assert container["name"] == "main"
        await session.ack(order)
        await agent.submit(arn, "RUNNING", pullStartedAt=1746802078.031, pullStoppedAt=1746802079.5)
        shown = await endpoint.task(arn)
        assert shown["lastStatus"] == "RUNNING"
        assert shown["startedAt"] > 1746802079.5
        assert shown["pullStartedAt"] == 1746802078.031
        assert shown["connectivity"] == "CONNECTED"
        assert shown["containers"][0]["runtimeId"] == "f" * 64

        await endpoint.call("StopTask", task=arn, reason="enough")
        order = await session.hear("PayloadMessage")
        assert [t["desiredStatus"] for t in order["tasks"]] == ["STOPPED"]
        await session.ack(order)
        await agent.submit(arn, "STOPPED", executionStoppedAt=1846802079.5)
        shown = await endpoint.task(arn)
        assert (shown["lastStatus"], shown["stopCode"]) == ("STOPPED", "UserInitiated")
        assert shown["stoppedReason"] == "enough"
        assert shown["containers"][0]["exitCode"] == 0
        await session.nothing()


async def test_what_ends_by_itself(endpoint: Endpoint, agent: RawAgent) -> None:
    one, two, three = await run_task(endpoint, count=3)
    await agent.submit(one, "RUNNING")
    await agent.submit(one, "STOPPED")
    shown = await endpoint.task(one)
    assert shown["stopCode"] == "EssentialContainerExited"
    assert shown["stoppedReason"] == "Essential container in task exited"
    await agent.submit(two, "STOPPED")  # it ran, and that was never told
    assert (await endpoint.task(two))["stopCode"] == "EssentialContainerExited"
    why = "UnrecogniedTaskError: Error loading task - no"
    await agent.submit(three, "STOPPED", reason=why, containers=[])
    shown = await endpoint.task(three)
    assert (shown["stopCode"], shown["stoppedReason"]) == ("TaskFailedToStart", why)


async def test_a_repeated_report_changes_nothing(endpoint: Endpoint, agent: RawAgent) -> None:
    (arn,) = await run_task(endpoint)
    await agent.submit(arn, "RUNNING")
    first = await endpoint.task(arn)
    await agent.submit(arn, "RUNNING")
    assert await endpoint.task(arn) == first


async def test_a_report_tells_what_is_new_alone(endpoint: Endpoint, agent: RawAgent) -> None:
    two = [{"name": "main", "image": "i", "memory": 8}, {"name": "once", "image": "i", "memory": 8}]
    two[1]["essential"] = False
    (arn,) = await run_task(endpoint, containerDefinitions=two)
    once = {"containerName": "once", "status": "STOPPED", "exitCode": 3, "runtimeId": "o"}
    await agent.submit(arn, "RUNNING", containers=[once])
    await agent.submit(arn, "RUNNING")
    main, other = (await endpoint.task(arn))["containers"]
    assert (main["lastStatus"], other["lastStatus"]) == ("RUNNING", "STOPPED")
    assert other["exitCode"] == 3
    await agent.call(
        "SubmitContainerStateChange",
        cluster="default",
        task=arn,
        containerName="main",
        status="STOPPED",
        exitCode=7,
        networkBindings=[{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768}],
    )
    shown = await endpoint.task(arn)
    assert shown["lastStatus"] == "RUNNING"
    main, _ = shown["containers"]
    assert (main["lastStatus"], main["exitCode"]) == ("STOPPED", 7)
    assert main["networkBindings"][0]["hostPort"] == 32768


async def test_attachments_alone_leave_the_status(endpoint: Endpoint, agent: RawAgent) -> None:
    (arn,) = await run_task(endpoint)
    attached = [{"attachmentArn": "arn:aws:ecs:r:1:attachment/a", "status": "ATTACHED"}]
    call = {"cluster": "default", "attachments": attached}
    await agent.call("SubmitTaskStateChange", **call, task=arn)
    assert (await endpoint.task(arn))["lastStatus"] == "PENDING"
    answer = await agent.call("SubmitAttachmentStateChanges", **call)
    assert answer["acknowledgment"]


@pytest.mark.parametrize(
    "request_",
    [
        {"task": "arn:aws:ecs:us-east-1:000000000000:task/default/none", "status": "RUNNING"},
        {"task": "junk", "status": "RUNNING"},
        {"status": "RUNNING"},
        {"task": "MINE", "status": "DANCING"},
        {"task": "MINE", "status": "RUNNING", "pullStartedAt": -1},
        {"task": "MINE", "status": "RUNNING", "executionStoppedAt": 1e300},
        {"task": "MINE", "status": "RUNNING", "containers": [{"containerName": "main"}]},
    ],
)
async def test_what_can_never_be_taken_is_dropped_by_the_agent(
    endpoint: Endpoint, agent: RawAgent, request_: dict[str, Any]
) -> None:
    (arn,) = await run_task(endpoint)
    request = {k: arn if v == "MINE" else v for k, v in request_.items()}
    with pytest.raises(ApiFailure) as caught:
        await agent.call("SubmitTaskStateChange", cluster="default", **request)
    assert caught.value.name == "InvalidParameterException"
    assert (await endpoint.task(arn))["lastStatus"] == "PENDING"


async def test_everything_that_the_scheduler_asks_for_is_there(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    everything = {
        "name": "main",
        "image": "i",
        "memory": 64,
        "privileged": True,
        "logConfiguration": {"logDriver": "json-file"},
        "healthCheck": {"command": ["CMD-SHELL", "true"]},
        "restartPolicy": {"enabled": True},
        "portMappings": [{"containerPortRange": "8000-8010"}],
    }
    waits = {
        "name": "after",
        "image": "i",
        "memory": 64,
        "dependsOn": [{"containerName": "main", "condition": "START"}],
    }
    (arn,) = await run_task(
        endpoint,
        containerDefinitions=[everything, waits],
        cpu="256",
        memory="512",
        runtimePlatform={"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
    )
    assert (await endpoint.task(arn))["containerInstanceArn"] == agent.arn


async def test_awsvpc_only_where_the_host_gives_addresses(endpoint: Endpoint) -> None:
    amazons, ours = RawAgent(endpoint), RawAgent(endpoint)
    task_eni = {"name": "ecs.capability.task-eni"}
    await amazons.register(attributes=attributes(task_eni))
    vpc = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    await endpoint.call(
        "RegisterTaskDefinition",
        family="web",
        networkMode="awsvpc",
        containerDefinitions=[{"name": "main", "image": "i", "memory": 8}],
    )
    run = {"taskDefinition": "web", "networkConfiguration": vpc}
    answer = await endpoint.call("RunTask", **run)
    assert (answer["tasks"], answer["failures"][0]["reason"]) == ([], "ATTRIBUTE")
    await ours.register(attributes=attributes({"name": "ecs-host-agent.task-network"}))
    (task,) = (await endpoint.call("RunTask", **run))["tasks"]
    assert task["containerInstanceArn"] == ours.arn
    async with ours.acs() as session:
        order = await session.hear("PayloadMessage")
        assert order["tasks"][0]["networkMode"] == "awsvpc"
        assert "elasticNetworkInterfaces" not in order["tasks"][0]
    await ours.submit(
        task["taskArn"],
        "RUNNING",
        containers=[
            {
                "containerName": "main",
                "status": "RUNNING",
                "networkInterfaces": [
                    {"attachmentId": "own", "privateIpv4Address": "10.1.2.3"},
                    {"attachmentId": 7},
                    "junk",
                ],
            }
        ],
        attachments=[
            {
                "attachmentArn": "own",
                "status": "ATTACHED",
                "type": "ElasticNetworkInterface",
                "details": [{"name": "privateIPv4Address", "value": "10.1.2.3"}, {"name": 5}],
            }
        ],
    )
    shown = await endpoint.task(task["taskArn"])
    (interface,) = shown["containers"][0]["networkInterfaces"]
    assert interface["privateIpv4Address"] == "10.1.2.3"
    (attachment,) = shown["attachments"]
    assert interface["attachmentId"] == attachment["id"]
    assert attachment["status"] == "ATTACHED"
    assert {"name": "privateIPv4Address", "value": "10.1.2.3"} in attachment["details"]


async def test_both_wires_side_by_side_and_one_after_the_other(endpoint: Endpoint) -> None:
    ours, amazons = ScriptedAgent(endpoint), RawAgent(endpoint)
    await ours.register()
    await amazons.register()
    arns = await run_task(endpoint, count=8)
    hosts = {(await endpoint.task(arn))["containerInstanceArn"] for arn in arns}
    assert hosts == {ours.arn, amazons.arn}
    held = await ours.poll(after=0)
    assert held is not None
    # The same instance by the other wire is given the same orders.
    moved = RawAgent(endpoint)
    moved.arn = ours.arn
    await moved.register()
    async with moved.acs() as session:
        tasks = await session.settled()
    assert {t["arn"] for t in tasks} == {t.task_arn for t in held.tasks}


async def test_agent_connected_while_there_are_signs_of_life(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    async def connected() -> bool:
        (shown,) = (
            await endpoint.call("DescribeContainerInstances", containerInstances=[agent.arn])
        )["containerInstances"]
        assert shown["versionInfo"]["agentVersion"] in ("", "1.105.1")
        return bool(shown["agentConnected"])

    async with agent.acs() as session:
        await session.settled()
        async with asyncio.timeout(5):
            for _ in range(4):
                beat = await session.hear("HeartbeatMessage")
                assert beat["healthy"] is True
                await session.say("HeartbeatAckRequest", messageId=beat["messageId"])
        assert await connected()
    async with asyncio.timeout(5):
        while await connected():  # noqa: ASYNC110 - it ends by itself
            await asyncio.sleep(0.1)
    async with agent.acs() as session:
        await session.settled()
        assert await connected()


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"networkBindings": [{"hostPort": 2**31 - 1}]}, "hostPort"),
        ({"networkBindings": [{"bindIP": "x\x1b"}]}, "bindIP"),
        ({"status": "DANCING"}, "status"),
        ({"networkBindings": [{}] * 4001}, "networkBindings"),
    ],
)
async def test_a_report_that_cannot_be_is_dropped_by_the_agent(
    endpoint: Endpoint, agent: RawAgent, container: dict[str, Any], field: str
) -> None:
    (arn,) = await run_task(endpoint)
    with pytest.raises(ApiFailure, match="InvalidParameterException") as caught:
        await agent.call(
            "SubmitTaskStateChange",
            cluster="default",
            task=arn,
            status="RUNNING",
            containers=[{"containerName": "main", "status": "RUNNING", **container}],
        )
    assert field in caught.value.message
    assert (await endpoint.task(arn))["lastStatus"] == "PENDING"
