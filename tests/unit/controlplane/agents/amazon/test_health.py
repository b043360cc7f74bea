"""TCS: health reaches DescribeTasks, everything is acknowledged, nothing else is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.agents.amazon import shapes, tcs
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent, Session, run_task

if TYPE_CHECKING:
    import pytest

    from tests.support.control_endpoint import Endpoint

CHECKED = [
    {
        "name": "main",
        "image": "i",
        "memory": 8,
        "healthCheck": {"command": ["CMD-SHELL", "true"]},
    }
]


def metadata(agent: RawAgent, **more: Any) -> dict[str, Any]:
    return {"cluster": "default", "containerInstance": agent.arn, "messageId": "m"} | more


async def publish_health(agent: RawAgent, session: Session, arn: str, status: str) -> None:
    container = {"containerName": "main", "healthStatus": status, "statusSince": 1746802000.1}
    task = {
        "taskArn": arn,
        "taskDefinitionFamily": "web",
        "taskDefinitionVersion": "1",
        "containers": [container, container | {"containerName": "other"}],
    }
    await session.say(
        "PublishHealthRequest",
        metadata=metadata(agent, fin=True),
        tasks=[task],
        timestamp=1746802078.031,
    )
    await session.hear("AckPublishHealth")


async def test_health(endpoint: Endpoint, agent: RawAgent) -> None:
    (arn,) = await run_task(endpoint, containerDefinitions=CHECKED)
    await agent.submit(arn, "RUNNING")
    async with agent.tcs() as session:
        for status in ("HEALTHY", "UNHEALTHY", "HEALTHY"):
            await publish_health(agent, session, arn, status)
            shown = await endpoint.task(arn)
            assert shown["healthStatus"] == status
            assert shown["containers"][0]["healthStatus"] == status
        before = await endpoint.task(arn)
        await publish_health(agent, session, arn, "HEALTHY")
        await publish_health(agent, session, arn, "SPLENDID")
        assert await endpoint.task(arn) == before
        # A report of the task leaves its health alone.
        await agent.submit(arn, "RUNNING", reason="again")
        assert (await endpoint.task(arn))["healthStatus"] == "HEALTHY"


async def test_health_of_others_tasks_is_not_taken(endpoint: Endpoint, agent: RawAgent) -> None:
    (arn,) = await run_task(endpoint, containerDefinitions=CHECKED)
    other = RawAgent(endpoint)
    await other.register()
    async with other.tcs() as session:
        await publish_health(other, session, arn, "UNHEALTHY")
        await publish_health(other, session, "junk", "UNHEALTHY")
    assert (await endpoint.task(arn))["healthStatus"] == "UNKNOWN"
    assert agent.arn


async def test_figures_and_status_are_acknowledged(endpoint: Endpoint, agent: RawAgent) -> None:
    async with agent.tcs() as session:
        await session.say(
            "PublishMetricsRequest",
            metadata=metadata(agent, idle=True, fin=True),
            timestamp=1746802078.031,
        )
        await session.hear("AckPublishMetric")
        figures = {
            "containerName": "app",
            "cpuStatsSet": {"min": 0.1, "max": 2.0, "sampleCount": 20, "sum": 14.0},
        }
        task = {"taskArn": "t", "taskDefinitionFamily": "f", "containerMetrics": [figures]}
        await session.say(
            "PublishMetricsRequest", metadata=metadata(agent, idle=False), taskMetrics=[task]
        )
        await session.hear("AckPublishMetric")
        status = {"type": "ContainerRuntime", "status": "OK"}
        await session.say(
            "PublishInstanceStatusRequest",
            metadata={"cluster": "c", "containerInstance": agent.arn, "requestId": "r"},
            statuses=[status],
        )
        await session.hear("AckPublishInstanceStatus")
        # What says that it is another's is not taken, and not acknowledged.
        await session.say("PublishMetricsRequest", metadata=metadata(RawAgent(endpoint)))
        await session.nothing()


async def test_heartbeats_go_on_until_nothing_comes(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert endpoint.url
    monkeypatch.setattr(tcs, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(tcs, "SILENT_S", 0.6)
    async with agent.tcs() as session:
        for _ in range(8):
            assert await session.hear("HeartbeatMessage") == {"healthy": True}
            await session.say("PublishMetricsRequest", metadata=metadata(agent, idle=True))
            await session.hear("AckPublishMetric")
        await session.ended()
        assert session.ws.close_code == 1001


async def test_no_more_tasks_in_one_message_than_an_agent_sends(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    assert endpoint.url
    async with agent.tcs() as session:
        tasks = [{"taskArn": str(n), "containers": []} for n in range(shapes.HEALTH_TASKS + 1)]
        await session.say("PublishHealthRequest", metadata=metadata(agent), tasks=tasks)
        await session.nothing()
