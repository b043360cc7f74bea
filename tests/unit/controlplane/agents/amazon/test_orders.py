"""ACS: orders until they are acknowledged, manifests, connections that replace each other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.controlplane.agents.amazon import deliveries
from agent.controlplane.agents.assignments import AssignedTask, AssignmentReader
from agent.controlplane.store.contract import StoreUnavailable
from tests.support.control_endpoint import Endpoint, control_endpoint
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent, Session, attributes, run_task

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef"


async def test_what_is_not_acknowledged_is_sent_again_alone(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "RESEND_S", 0.2)
    arns = await run_task(endpoint, count=3)
    async with agent.acs() as session:
        first = await session.hear("PayloadMessage")
        assert {t["arn"] for t in first["tasks"]} == set(arns)
        await session.hear("TaskManifestMessage")
        again = [await session.hear("PayloadMessage") for _ in range(3)]
        assert sorted(t["arn"] for m in again for t in m["tasks"]) == sorted(arns)
        assert [len(m["tasks"]) for m in again] == [1, 1, 1]
        for message in again:
            await session.ack(message)
        await session.ack(first)  # too late, and no harm
        await session.nothing(for_s=0.5)


async def test_a_refusal_is_no_acknowledgment(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "RESEND_S", 0.2)
    await run_task(endpoint)
    async with agent.acs() as session:
        order = await session.hear("PayloadMessage")
        await session.say("NackRequest", messageId=order["messageId"], reason="no disk")
        await session.hear("TaskManifestMessage")
        await session.ack(await session.hear("PayloadMessage"))
        await session.nothing(for_s=0.5)


async def test_a_new_connection_gets_what_was_not_taken(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    (arn,) = await run_task(endpoint)
    async with agent.acs() as session:
        await session.hear("PayloadMessage")
    async with agent.acs() as session:
        assert [t["arn"] for t in await session.settled()] == [arn]
    async with agent.acs() as session:
        assert await session.settled() == []
    await endpoint.call("StopTask", task=arn)
    async with agent.acs() as session:
        assert [t["desiredStatus"] for t in await session.settled()] == ["STOPPED"]


async def test_stops_come_first(endpoint: Endpoint, agent: RawAgent) -> None:
    one, two = await run_task(endpoint, count=2)
    await endpoint.call("StopTask", task=two)
    async with agent.acs() as session:
        tasks = await session.settled()
    assert [(t["arn"], t["desiredStatus"]) for t in tasks] == [(two, "STOPPED"), (one, "RUNNING")]


async def test_messages_are_bounded(endpoint: Endpoint, agent: RawAgent) -> None:
    small = {"name": "main", "image": "i", "memory": 4, "cpu": 1}
    await run_task(endpoint, count=10, containerDefinitions=[small])
    for _ in range(11):
        await endpoint.call("RunTask", taskDefinition="web", count=10)
    seen: set[str] = set()
    async with agent.acs() as session:
        orders = [await session.hear("PayloadMessage") for _ in range(8)]
        await session.nothing()  # eight messages wait; the manifest comes after the rest
        while orders:
            order = orders.pop()
            assert len(order["tasks"]) <= 10
            seen |= {t["arn"] for t in order["tasks"]}
            await session.ack(order)
            if len(seen) < 120 and not orders:
                orders.append(await session.hear("PayloadMessage"))
        manifest = await session.hear("TaskManifestMessage")
    assert len(seen) == 120
    assert {t["taskArn"] for t in manifest["tasks"]} == seen


async def _run_more_than_may_wait(endpoint: Endpoint) -> str:
    """Run more tasks than fit in the orders that may be unacknowledged; return one of them."""
    small = {"name": "main", "image": "i", "memory": 4, "cpu": 1}
    (*_, one) = await run_task(endpoint, count=10, containerDefinitions=[small])
    for _ in range(9):
        await endpoint.call("RunTask", taskDefinition="web", count=10)
    return one


async def test_nothing_holds_up_a_stop(endpoint: Endpoint, agent: RawAgent) -> None:
    one = await _run_more_than_may_wait(endpoint)
    async with agent.acs() as session:
        for _ in range(deliveries.OPEN_MESSAGES):
            assert len((await session.hear("PayloadMessage"))["tasks"]) == 10
        await endpoint.call("StopTask", task=one)
        (stop,) = (await session.hear("PayloadMessage"))["tasks"]
        assert (stop["arn"], stop["desiredStatus"]) == (one, "STOPPED")


async def test_unacknowledged_orders_come_again_though_no_more_may_be_sent(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "RESEND_S", 0.5)
    await _run_more_than_may_wait(endpoint)
    async with agent.acs() as session:
        first = [
            (await session.hear("PayloadMessage"))["tasks"] for _ in range(deliveries.OPEN_MESSAGES)
        ]
        again = [(await session.hear("PayloadMessage"))["tasks"] for _ in range(20)]
    sent = {task["arn"] for tasks in first for task in tasks}
    assert {len(tasks) for tasks in again} == {1}
    assert {task["arn"] for tasks in again for task in tasks} <= sent


async def test_an_order_that_can_no_longer_be_read_makes_nobody_spin(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    async def unreadable(*_: object) -> tuple[list[AssignedTask], bool]:
        nonlocal reads
        reads += 1
        return [], False

    monkeypatch.setattr(deliveries, "RESEND_S", 0.1)
    await run_task(endpoint)
    async with agent.acs() as session:
        await session.hear("PayloadMessage")
        monkeypatch.setattr(AssignmentReader, "read", unreadable)
        await session.hear("TaskManifestMessage")
        await session.nothing(for_s=0.6)
    assert 1 <= reads < 10


async def test_large_tasks_go_in_small_messages(endpoint: Endpoint, agent: RawAgent) -> None:
    big: dict[str, Any] = {"name": "main", "image": "i", "memory": 4}
    big["environment"] = [{"name": f"V{n}", "value": "x" * 1000} for n in range(50)]
    await run_task(endpoint, count=10, containerDefinitions=[big])
    sizes: list[int] = []
    async with agent.acs() as session:
        while sum(sizes) < 10:
            order = await session.hear("PayloadMessage")
            sizes.append(len(order["tasks"]))
            await session.ack(order)
    assert sizes == [5, 5]


async def test_amazons_agent_is_not_given_again_what_it_reported(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = RawAgent(endpoint)
        await agent.register()
        reported, unreported = await run_task(endpoint, count=2)
        async with agent.acs() as session:
            await session.settled()
        await agent.submit(reported, "RUNNING")
    async with control_endpoint(tmp_path) as endpoint:
        again = RawAgent(endpoint)
        again.arn = agent.arn
        await again.register()
        async with again.acs() as session:
            assert [t["arn"] for t in await session.settled()] == [unreported]


async def test_an_agent_of_ours_is_given_all_again_after_its_restart(endpoint: Endpoint) -> None:
    agent = RawAgent(endpoint)
    ours = attributes({"name": "ecs-host-agent.task-network"})
    await agent.register(attributes=ours)
    (arn,) = await run_task(endpoint)
    async with agent.acs() as session:
        await session.settled()
    await agent.submit(arn, "RUNNING")
    async with agent.acs() as session:
        assert await session.settled() == []
    agent.is_new = True
    await agent.register(attributes=ours)
    async with agent.acs() as session:
        assert [t["arn"] for t in await session.settled()] == [arn]


async def test_timelines_grow_for_ever(tmp_path: Path) -> None:
    seen = []
    arn = ""
    for _ in range(2):
        async with control_endpoint(tmp_path) as endpoint:
            agent = RawAgent(endpoint)
            agent.arn = arn
            await agent.register()
            arn = agent.arn
            for _ in range(3):
                async with agent.acs() as session:
                    seen.append((await session.hear("TaskManifestMessage"))["timeline"])
            (task,) = await run_task(endpoint)
            async with agent.acs() as session:
                order = await session.hear("PayloadMessage")
                assert order["seqNum"] < seen[-1]
            await agent.submit(task, "STOPPED")
    assert seen == sorted(set(seen))


async def verified(session: Session, manifest: dict[str, object], *arns: str) -> list[str]:
    """Ask which tasks are to be stopped."""
    await session.say(
        "TaskStopVerificationMessage",
        messageId=manifest["messageId"],
        stopCandidates=[
            {"taskArn": arn, "desiredStatus": "STOPPED", "taskClusterArn": "c"} for arn in arns
        ],
    )
    answer = await session.hear("TaskStopVerificationAck")
    assert answer["messageId"] == manifest["messageId"]
    assert isinstance(answer["generatedAt"], int)
    assert {t["desiredStatus"] for t in answer["stopTasks"]} <= {"STOPPED"}
    return [t["taskArn"] for t in answer["stopTasks"]]


async def test_only_what_is_really_not_wanted_is_stopped(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    kept, stopping, stopped, late = await run_task(endpoint, count=4)
    await endpoint.call("StopTask", task=stopping)
    await agent.submit(stopped, "STOPPED")
    other = RawAgent(endpoint)
    await other.register()
    async with agent.acs() as session:
        for _ in ("stops", "starts"):
            await session.ack(await session.hear("PayloadMessage"))
        manifest = await session.hear("TaskManifestMessage")
        assert manifest["containerInstanceArn"] == agent.arn
        assert {t["taskArn"]: t["desiredStatus"] for t in manifest["tasks"]} == {
            kept: "RUNNING",
            stopping: "STOPPED",
            late: "RUNNING",
        }
        await session.ack(manifest)
        strange = ("arn:::::/managed-daemon/1", "", "arn:aws:ecs:eu-west-1:000000000000:task/d/1")
        asked = (kept, stopping, stopped, late, ELSEWHERE, *strange)
        assert await verified(session, manifest, *asked) == [stopping, stopped, ELSEWHERE]
    async with other.acs() as session:
        manifest = await session.hear("TaskManifestMessage")
        assert manifest["tasks"] == []
        # A host that carries the tasks of another one, whose disk it was made from.
        assert await verified(session, manifest, kept) == [kept]
        # It was answered, and is asked once.
        await session.say(
            "TaskStopVerificationMessage",
            messageId=manifest["messageId"],
            stopCandidates=[{"taskArn": ELSEWHERE}],
        )
        await session.say(
            "TaskStopVerificationMessage",
            messageId="another",
            stopCandidates=[{"taskArn": ELSEWHERE}],
        )
        await session.nothing()


async def test_the_newest_connection_wins(endpoint: Endpoint, agent: RawAgent) -> None:
    async with agent.acs() as old:
        await old.settled()
        async with agent.acs() as new:
            await new.settled()
            with pytest.raises(ConnectionError):
                await old.hear("PayloadMessage")
            assert old.ws.close_code == 1008
            (arn,) = await run_task(endpoint)
            order = await new.hear("PayloadMessage")
            assert order["tasks"][0]["arn"] == arn


async def test_a_deregistered_instance_is_closed_and_refused(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    async with agent.acs() as session, agent.tcs() as telemetry:
        await session.settled()
        await endpoint.call("DeregisterContainerInstance", containerInstance=agent.arn)
        with pytest.raises(ConnectionError):
            await session.hear("PayloadMessage")
        assert session.ws.close_code == 1000
        await telemetry.ws.close()
    status, body = await agent.refusal("/acs/ws", containerInstanceArn=agent.arn)
    assert (status, list(body)) == (400, ["InactiveInstanceException"])
    status, body = await agent.refusal("/tcs/ws", containerInstance=agent.arn)
    assert (status, list(body)) == (400, ["InactiveInstanceException"])


async def test_upgrades_that_are_refused(endpoint: Endpoint, agent: RawAgent) -> None:
    await endpoint.call("CreateCluster", clusterName="other")
    base, _ = agent.arn.rsplit("/", 1)
    for query, kind in (
        ({}, "InvalidInstanceException"),
        ({"containerInstanceArn": "junk"}, "InvalidInstanceException"),
        ({"containerInstanceArn": f"{base}/{'0' * 32}"}, "InactiveInstanceException"),
        (
            {"containerInstanceArn": agent.arn, "clusterArn": "other"},
            "InvalidClusterException",
        ),
        (
            {"containerInstanceArn": agent.arn, "clusterArn": "in valid"},
            "InvalidClusterException",
        ),
        (
            {
                "containerInstanceArn": agent.arn.replace("us-east-1", "eu-west-1"),
                "clusterArn": "default",
            },
            "InactiveInstanceException",
        ),
    ):
        status, body = await agent.refusal("/acs/ws", **query)
        assert (status, list(body)) == (400, [kind]), query
    async with endpoint.session.get(f"{endpoint.url}/acs/ws") as answer:
        assert answer.status == 400
        assert list(await answer.json()) == ["BadRequestException"]
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with endpoint.session.ws_connect(
            f"{endpoint.url}/acs/ws?containerInstanceArn={agent.arn}", origin="http://page"
        ):
            pass


async def test_silent_agents_are_closed(endpoint: Endpoint, agent: RawAgent) -> None:
    async with agent.acs() as session:
        await session.ended()
        assert session.ws.close_code == 1001


async def test_control_stops_while_agents_are_connected(tmp_path: Path) -> None:
    # The context asserts that the server ends within two seconds.
    async with control_endpoint(tmp_path) as endpoint:
        agents = [RawAgent(endpoint) for _ in range(5)]
        async with contextlib.AsyncExitStack() as stack:
            for agent in agents:
                await agent.register()
                await stack.enter_async_context(agent.acs())
                await stack.enter_async_context(agent.tcs())
            stack.pop_all()


async def test_an_order_that_cannot_be_built_ends_with_a_reason(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("definition")

    (arn,) = await run_task(endpoint)
    monkeypatch.setattr("agent.controlplane.definition.payload.build", broken)
    async with agent.acs() as session:
        order = await session.hear("PayloadMessage")
        assert order["tasks"] == [{"arn": arn, "desiredStatus": "UNREADABLE", "containers": []}]
        await agent.submit(arn, "STOPPED", reason="UnrecogniedTaskError: no", containers=[])
        await session.hear("TaskManifestMessage")
        await session.nothing()
    assert (await endpoint.task(arn))["stopCode"] == "TaskFailedToStart"


async def test_trouble_with_the_store_sends_agents_away_for_a_while(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise StoreUnavailable("no disk")

    async with agent.acs() as session:
        await session.settled()
        monkeypatch.setattr(AssignmentReader, "read", broken)
        await run_task(endpoint)
        await session.ended()
        assert session.ws.close_code == 1013
    monkeypatch.setattr("agent.controlplane.agents.registration.InstanceRegistry.current", broken)
    status, body = await agent.refusal("/acs/ws", containerInstanceArn=agent.arn)
    assert (status, list(body)) == (503, ["ServerException"])
