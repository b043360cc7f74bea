"""Credentials of roles on the long poll: with their task, ahead of its payload's age, and after restarts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.controlplane.roles import issuer as issuing
from agent.controlplane.roles.settings import Environ, RoleSettings
from agent.model import payload as payloads
from agent.model.wire import Assignments, TaskCredentials
from tests.support.control_endpoint import (
    CAPABILITIES,
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
)
from tests.support.scripted_sts import ScriptedSts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model.payload import Credentials

ROLE = "arn:aws:iam::123456789012:role/execution"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1"


class Agent(ScriptedAgent):
    """Asks for credentials, as agents of today do, and keeps what it gets."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(
            endpoint, attributes=CAPABILITIES | {"com.amazonaws.ecs.capability.ecr-auth": ""}
        )
        self.serial = 0
        self.ids: dict[str, Credentials | None] = {}
        """What the newest payload of a task says of its execution role."""
        self.kept: list[TaskCredentials] = []

    async def ask(self, *, wait_s: float = 5) -> Assignments | None:
        path = (
            f"/v1/instances/{self.id}/assignments?after={self.revision}&wait={wait_s}"
            f"&credentials={self.serial if self.revision else 0}"
        )
        status, body = await self.send("GET", path)
        if status == 204:
            return None
        assert status == 200, (status, body)
        answer = msgspec.json.decode(body, type=Assignments)
        self.revision, self.serial = answer.revision, answer.credentials_serial
        for task in answer.tasks:
            read = payloads.decode(task.payload)
            self.ids[read.arn] = read.execution_role_credentials
        self.kept += answer.credentials
        return answer

    async def until_kept(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.kept) < count:
                await self.ask()


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
async def control(data_dir: Path, sts: ScriptedSts, **environ: str) -> AsyncIterator[Endpoint]:
    found = RoleSettings(environ=Environ(sts.environ(**environ)))
    async with control_endpoint(data_dir, roles=found, lease_s=1.2) as running:
        await running.call("CreateCluster")
        yield running


async def run_task(endpoint: Endpoint, **more: Any) -> str:
    await endpoint.call(
        "RegisterTaskDefinition",
        family="web",
        executionRoleArn=ROLE,
        containerDefinitions=[{"name": "main", "image": ECR, "memory": 64}],
    )
    answer = await endpoint.call("RunTask", taskDefinition="web", **more)
    assert answer["failures"] == []
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


async def test_a_task_is_given_out_at_once_and_its_credentials_as_they_come(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    sts.open.clear()
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        await agent.ask(wait_s=0)
        arn = await run_task(endpoint)
        await agent.ask()
        named = agent.ids[arn]
        assert named is not None
        assert named.credentials_id
        assert (named.role_arn, named.access_key_id, agent.kept) == (ROLE, "", [])
        held = asyncio.create_task(agent.ask())
        await asyncio.sleep(0.1)
        assert not held.done()
        sts.open.set()
        await held
        (kept,) = agent.kept
        assert (kept.task_arn, kept.role_type) == (arn, "TaskExecution")
        assert kept.credentials.credentials_id == named.credentials_id
        assert kept.credentials.secret_access_key == "secret-canary-1"  # noqa: S105
        assert kept.credentials.role_arn == ROLE
        assert sts.asked[0].session == arn.rsplit("/", 1)[-1]
        # They are not given again, but to whoever asks for everything.
        assert await agent.ask(wait_s=0.2) is None
        agent.revision = 0
        await agent.ask()
        again = agent.ids[arn]
        assert again is not None
        assert again.access_key_id == kept.credentials.access_key_id


async def test_an_answer_that_was_lost_is_given_again(tmp_path: Path, sts: ScriptedSts) -> None:
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        await agent.ask(wait_s=0)
        await run_task(endpoint)
        await agent.until_kept(1)
        agent.serial = 0
        await agent.ask(wait_s=0)
        assert agent.kept[0] == agent.kept[1]


async def test_credentials_are_renewed_and_wake_the_held_poll(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    sts.valid_s = 0.5
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        await agent.ask(wait_s=0)
        await run_task(endpoint)
        await agent.until_kept(3)
    first, *renewed = (one.credentials for one in agent.kept[:3])
    assert {one.credentials_id for one in renewed} == {first.credentials_id}
    assert len({one.access_key_id for one in (first, *renewed)}) == 3


async def test_an_agent_that_does_not_ask_is_not_woken_for_them(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    sts.valid_s = 0.2
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        await agent.poll(wait_s=0)
        await run_task(endpoint)
        await agent.poll()
        assert await agent.poll(wait_s=1) is None
        assert len(sts.asked) > 1


async def test_after_a_restart_of_control_a_running_task_gets_fresh_ones_under_its_id(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        await agent.ask(wait_s=0)
        arn = await run_task(endpoint)
        await agent.until_kept(1)
        await agent.report(a_report(arn, "RUNNING"))
    async with control(tmp_path, sts) as endpoint:
        agent._endpoint = endpoint
        agent.revision = 0
        await agent.ask(wait_s=0)
        assert arn in agent.ids
        await agent.until_kept(2)
    before, after = (one.credentials for one in agent.kept)
    assert before.credentials_id == after.credentials_id
    assert before.access_key_id != after.access_key_id


async def test_a_role_that_sts_refuses_stops_the_task_with_the_reason(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    sts.refused = {ROLE}
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        arn = await run_task(endpoint)
        async with asyncio.timeout(10):
            while agent.held.get(arn) != "STOPPED":
                await agent.poll()
        await agent.report(a_report(arn, "STOPPED"))
        task = await endpoint.task(arn)
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith(
        f"ECS was unable to assume the role '{ROLE}' that was provided for this task as "
        "executionRoleArn: AssumeRole: AccessDenied: User: control is not authorized"
    )


async def test_while_sts_is_away_the_operator_sees_what_the_task_waits_for(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    sts.fault = (503, "")
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        arn = await run_task(endpoint)
        reason = ""
        async with asyncio.timeout(10):
            while not reason:
                task = await endpoint.task(arn)
                reason = task["containers"][0].get("reason", "")
        assert task["lastStatus"] == "PENDING"
        assert reason.startswith(f"waiting for credentials of the role '{ROLE}'")
        assert "HTTP 503" in reason
        sts.fault = None
        await agent.until_kept(1)
        assert "reason" not in (await endpoint.task(arn))["containers"][0]


async def test_without_keys_the_run_is_refused_with_the_mend(
    tmp_path: Path, sts: ScriptedSts
) -> None:
    async with control(tmp_path, sts, AWS_ACCESS_KEY_ID="") as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        with pytest.raises(ApiFailure) as caught:
            await run_task(endpoint)
        assert caught.value.message.startswith(
            "'executionRoleArn', which the image of container 'main' needs, cannot be served: "
            "control has no keys to assume a role with ("
        )
        assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its environment" in (
            caught.value.message
        )
        # What needs no role is run with the same definition's role left out.
        await endpoint.call(
            "RegisterTaskDefinition",
            family="plain",
            executionRoleArn=ROLE,
            containerDefinitions=[{"name": "main", "image": "busybox", "memory": 64}],
        )
        answer = await endpoint.call("RunTask", taskDefinition="plain")
        assert answer["failures"] == []
    assert not sts.asked


async def test_nothing_of_credentials_reaches_the_disk(
    tmp_path: Path, sts: ScriptedSts, caplog: pytest.LogCaptureFixture
) -> None:
    async with control(tmp_path, sts) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        await agent.ask(wait_s=0)
        arn = await run_task(endpoint)
        await agent.until_kept(1)
        await agent.report(a_report(arn, "RUNNING"))
        assert b"canary" not in _all_of(tmp_path)
    assert b"canary" not in _all_of(tmp_path)
    assert "canary" not in caplog.text
    assert arn.rsplit("/", 1)[-1].encode() in _all_of(tmp_path)


def _all_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
