"""Credentials of roles on Amazon's wire: orders wait for them, messages renew them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.agents.amazon import role_messages
from agent.controlplane.agents.amazon.role_messages import RoleMessages
from agent.controlplane.roles import issuer as issuing
from agent.controlplane.roles.contract import Issued
from agent.controlplane.roles.settings import Environ, RoleSettings
from agent.model.payload import Credentials, RoleType
from tests.support.control_endpoint import Endpoint, control_endpoint
from tests.support.scripted_sts import ScriptedSts
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/execution"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1"


@pytest.fixture
async def sts() -> AsyncIterator[ScriptedSts]:
    async with ScriptedSts.running() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(issuing, "LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr(issuing, "REFUSED_FOR_S", 0.2)


@contextlib.asynccontextmanager
async def control(data_dir: Path, sts: ScriptedSts) -> AsyncIterator[Endpoint]:
    found = RoleSettings(environ=Environ(sts.environ()))
    async with control_endpoint(data_dir, roles=found) as running:
        await running.call("CreateCluster")
        yield running


async def run_task(endpoint: Endpoint) -> str:
    await endpoint.call(
        "RegisterTaskDefinition",
        family="web",
        executionRoleArn=ROLE,
        containerDefinitions=[{"name": "main", "image": ECR, "memory": 64}],
    )
    answer = await endpoint.call("RunTask", taskDefinition="web")
    assert answer["failures"] == []
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


async def acknowledge(session: Session, message: dict[str, Any]) -> None:
    await session.say(
        "IAMRoleCredentialsAckRequest",
        credentialsId=message["roleCredentials"]["credentialsId"],
        expiration=message["roleCredentials"]["expiration"],
        messageId=message["messageId"],
    )


async def test_an_order_waits_for_its_credentials_and_has_them(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    sts.open.clear()
    async with control(tmp_path, sts) as endpoint:
        agent = RawAgent(endpoint)
        await agent.register()
        async with agent.acs() as session:
            assert await session.settled() == []
            arn = await run_task(endpoint)
            await session.nothing()
            sts.open.set()
            order = await session.hear("PayloadMessage")
            await session.ack(order)
            (task,) = order["tasks"]
            assert task["arn"] == arn
            given = task["executionRoleCredentials"]
            assert given["credentialsId"]
            assert {k: v for k, v in given.items() if k not in {"credentialsId", "expiration"}} == {
                "accessKeyId": "ASIA0000000000000001",
                "secretAccessKey": "secret-canary-1",
                "sessionToken": "token-canary-1",
                "roleArn": ROLE,
            }
            assert "roleCredentials" not in task
            # They are in the payload that was acknowledged: no message repeats them.
            await session.nothing()


async def test_renewed_ones_come_by_a_message_until_it_is_acknowledged(
    tmp_path: Path, sts: ScriptedSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_messages, "RESEND_S", 0.2)
    sts.valid_s = 1.0
    async with control(tmp_path, sts) as endpoint:
        agent = RawAgent(endpoint)
        await agent.register()
        async with agent.acs() as session:
            await session.settled()
            arn = await run_task(endpoint)
            order = await session.hear("PayloadMessage")
            await session.ack(order)
            renewed = await session.hear("IAMRoleCredentialsMessage")
            sts.valid_s = 3600.0
            assert (renewed["taskArn"], renewed["roleType"]) == (arn, "TaskExecution")
            assert renewed["taskClusterArn"].endswith(":cluster/default")
            first, second = (
                order["tasks"][0]["executionRoleCredentials"],
                renewed["roleCredentials"],
            )
            assert first["credentialsId"] == second["credentialsId"]
            assert first["accessKeyId"] != second["accessKeyId"]
            async with asyncio.timeout(10):
                again = await session.hear("IAMRoleCredentialsMessage")
                while again["roleCredentials"] == second:
                    assert again["messageId"] != renewed["messageId"]
                    again = await session.hear("IAMRoleCredentialsMessage")
            await acknowledge(session, again)
            await session.nothing(for_s=1.0)


async def test_a_new_process_is_given_all_of_them_again_and_an_old_one_is_not(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    async with control(tmp_path, sts) as endpoint:
        agent = RawAgent(endpoint)
        await agent.register()
        async with agent.acs() as session:
            await session.settled()
            arn = await run_task(endpoint)
            await session.ack(await session.hear("PayloadMessage"))
        await agent.submit(arn, "RUNNING")
        async with agent.acs() as session:
            await session.settled()
            await session.nothing()
        async with agent.acs(sendCredentials="true") as session:
            told = await session.hear("IAMRoleCredentialsMessage")
            await acknowledge(session, told)
            assert told["taskArn"] == arn
            await session.ack(await session.hear("TaskManifestMessage"))
            await session.nothing()


async def test_after_a_restart_of_control_running_tasks_get_fresh_ones_under_their_ids(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    async with control(tmp_path, sts) as endpoint:
        agent = RawAgent(endpoint)
        await agent.register()
        async with agent.acs() as session:
            await session.settled()
            arn = await run_task(endpoint)
            order = await session.hear("PayloadMessage")
            await session.ack(order)
        await agent.submit(arn, "RUNNING")
    sts.open.clear()
    async with control(tmp_path, sts) as endpoint:
        agent._endpoint, agent._url = endpoint, endpoint.url
        async with agent.acs() as session:
            # The task is named in the manifest, so that it goes on whatever STS does.
            manifest = await session.hear("TaskManifestMessage")
            assert [task["taskArn"] for task in manifest["tasks"]] == [arn]
            await session.ack(manifest)
            await session.nothing()
            sts.open.set()
            told = await session.hear("IAMRoleCredentialsMessage")
    first = order["tasks"][0]["executionRoleCredentials"]
    assert told["roleCredentials"]["credentialsId"] == first["credentialsId"]
    assert told["roleCredentials"]["accessKeyId"] != first["accessKeyId"]


async def test_a_role_that_is_refused_ends_the_task(tmp_path: Path, sts: ScriptedSts) -> None:
    sts.refused = {ROLE}
    async with control(tmp_path, sts) as endpoint:
        agent = RawAgent(endpoint)
        await agent.register()
        async with agent.acs() as session:
            await session.settled()
            arn = await run_task(endpoint)
            order = await session.hear("PayloadMessage")
            (task,) = order["tasks"]
            assert (task["arn"], task["desiredStatus"]) == (arn, "STOPPED")
            assert "executionRoleCredentials" not in task
            await session.ack(order)
        await agent.submit(arn, "STOPPED")
        shown = await endpoint.task(arn)
    assert shown["stopCode"] == "TaskFailedToStart"
    assert shown["stoppedReason"].startswith("ECS was unable to assume the role")


# -- what was sent and taken, purely ---------------------------------------------------------------


def issued(serial: int, task: str = "t1", kind: RoleType = RoleType.EXECUTION) -> Issued:
    return Issued(
        serial=serial,
        task_id=task,
        task_arn=f"arn:{task}",
        role_type=kind,
        credentials=Credentials(credentials_id="id"),
        expires_at=0.0,
    )


def test_what_was_acknowledged_is_not_sent_again_on_any_connection() -> None:
    taken: dict[tuple[str, str], int] = {}
    one = RoleMessages(taken)
    assert one.due([issued(1)], 0.0) == [issued(1)]
    one.sent("m1", issued(1), 0.0)
    assert one.due([issued(1)], 29.0) == []
    assert one.next_at == 30.0
    one.acknowledged("other")
    assert one.next_at == 30.0
    one.acknowledged("m1")
    assert one.next_at == float("inf")
    assert RoleMessages(taken).due([issued(1)], 99.0) == []
    assert RoleMessages(taken).due([issued(2)], 99.0) == [issued(2)]


def test_what_is_not_acknowledged_is_sent_again_later_each_time() -> None:
    one = RoleMessages({})
    now, waits = 0.0, []
    for number in range(6):
        assert one.due([issued(1)], now) == [issued(1)]
        one.sent(f"m{number}", issued(1), now)
        waits.append(one.next_at - now)
        now = one.next_at
    assert waits == [30, 60, 120, 240, 300, 300]
    one.sent("newer", issued(2), now)
    assert one.next_at - now == 30
    one.acknowledged("m5")
    assert one.due([issued(2)], now) == []
    one.acknowledged("newer")
    assert one.next_at == float("inf")


def test_what_a_payload_has_is_not_sent_by_a_message_and_an_older_one_is_no_step_back() -> None:
    one = RoleMessages({})
    one.sent_in_payload("payload", [issued(1)])
    assert one.next_at == float("inf")
    assert one.due([], 0.0) == []  # it was not taken yet
    one.sent("m", issued(2), 0.0)
    one.acknowledged("m")
    one.acknowledged("payload")
    assert one.due([issued(2)], 99.0) == []


def test_tasks_that_are_gone_are_forgotten() -> None:
    taken = {("t1", "TaskExecution"): 1, ("t2", "TaskExecution"): 2}
    one = RoleMessages(taken)
    one.sent("m", issued(3, "t3"), 0.0)
    one.keep_only({"t1"})
    assert taken == {("t1", "TaskExecution"): 1}
    assert one.due([issued(1)], 99.0) == []
    assert one.next_at == float("inf")


def test_two_roles_of_a_task_in_one_payload() -> None:
    one = RoleMessages({})
    both = [issued(1), issued(2, kind=RoleType.APPLICATION)]
    one.sent_in_payload("payload", both)
    one.acknowledged("payload")
    assert one.due(both, 99.0) == []
