"""Credentials of roles from a stand-in for STS that checks signatures and policies, over both wires.

What the agents do here is scripted; ``tests/integration/e2e/test_secrets.py`` has real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from agent.controlplane.roles import issuer
from agent.controlplane.roles.settings import Environ, RoleSettings
from tests.support.aws_stand_in import ACCOUNT, REGION, SESSION_TOKEN, Gate, StandIn
from tests.support.control_endpoint import ApiFailure, Endpoint, a_report, control_endpoint
from tests.support.control_host import until
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent
from tests.unit.controlplane.agents.test_role_credentials import Agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/app:1"


@pytest.fixture(scope="module")
def aws() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture(scope="module")
def role(aws: StandIn) -> str:
    return aws.add_role("app")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(issuer, "LONGEST_WAIT_S", 0.2)
    monkeypatch.setattr(issuer, "REFUSED_FOR_S", 0.5)


@contextlib.asynccontextmanager
async def control(
    data_dir: Path, environ: dict[str, str], *, duration_s: float = 3600.0
) -> AsyncIterator[Endpoint]:
    roles = RoleSettings(environ=Environ(environ | {"HOME": "/none"}), duration_s=duration_s)
    async with control_endpoint(data_dir, roles=roles, region=REGION) as running:
        await running.call("CreateCluster")
        yield running


async def run_task(endpoint: Endpoint, role: str) -> str:
    await endpoint.call(
        "RegisterTaskDefinition",
        family="web",
        executionRoleArn=role,
        containerDefinitions=[{"name": "main", "image": IMAGE, "memory": 64}],
    )
    answer = await endpoint.call("RunTask", taskDefinition="web")
    assert answer["failures"] == []
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


class Host(Protocol):
    """An agent of either wire, as far as credentials go."""

    async def join(self, endpoint: Endpoint) -> None:
        """Register, or connect to another control."""

    async def next(self) -> dict[str, str]:
        """Return the next credentials that come."""

    async def starts(self, task: str) -> None:
        """Report a task as running."""

    async def close(self) -> None:
        """Disconnect."""


class LongPollHost:
    def __init__(self) -> None:
        self._agent: Agent | None = None
        self._seen = 0

    async def join(self, endpoint: Endpoint) -> None:
        if self._agent is None:
            self._agent = Agent(endpoint)
            await self._agent.register()
        self._agent._endpoint, self._agent.revision = endpoint, 0
        await self._agent.ask(wait_s=0)

    async def next(self) -> dict[str, str]:
        assert self._agent is not None
        await self._agent.until_kept(self._seen + 1)
        found = self._agent.kept[self._seen]
        self._seen += 1
        credentials = found.credentials
        return {"id": credentials.credentials_id, "key": credentials.access_key_id}

    async def starts(self, task: str) -> None:
        assert self._agent is not None
        await self._agent.report(a_report(task, "RUNNING"))

    async def close(self) -> None:
        """Nothing is held."""


class AcsHost:
    def __init__(self) -> None:
        self._agent: RawAgent | None = None
        self._stack = contextlib.AsyncExitStack()
        self._session: Any = None

    async def join(self, endpoint: Endpoint) -> None:
        if self._agent is None:
            self._agent = RawAgent(endpoint)
            await self._agent.register()
        self._agent._endpoint, self._agent._url = endpoint, endpoint.url
        self._session = await self._stack.enter_async_context(self._agent.acs())

    async def next(self) -> dict[str, str]:
        async with asyncio.timeout(30):
            while True:
                kind, message = await self._session.hear_any(within_s=30)
                if kind in ("PayloadMessage", "TaskManifestMessage"):
                    await self._session.ack(message)
                if kind == "PayloadMessage":
                    given = message["tasks"][0].get("executionRoleCredentials")
                elif kind == "IAMRoleCredentialsMessage":
                    given = message["roleCredentials"]
                    await self._session.say(
                        "IAMRoleCredentialsAckRequest",
                        credentialsId=given["credentialsId"],
                        expiration=given["expiration"],
                        messageId=message["messageId"],
                    )
                else:
                    continue
                if given:
                    return {"id": given["credentialsId"], "key": given["accessKeyId"]}

    async def starts(self, task: str) -> None:
        assert self._agent is not None
        await self._agent.submit(task, "RUNNING")

    async def close(self) -> None:
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()


@pytest.fixture(params=[LongPollHost, AcsHost], ids=["long poll", "ACS"])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    made: Host = request.param()
    yield made
    await made.close()


def environment(aws: StandIn, url: str = "") -> dict[str, str]:
    return {**aws.admin.environment(), "AWS_ENDPOINT_URL_STS": url or aws.url}


async def test_credentials_are_renewed_before_they_expire_and_after_a_restart(
    aws: StandIn, role: str, host: Host, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with control(tmp_path, environment(aws), duration_s=4.0) as endpoint:
        await host.join(endpoint)
        task = await run_task(endpoint, role)
        found = [await host.next() for _ in range(3)]
        await host.starts(task)
        await host.close()
    async with control(tmp_path, environment(aws)) as endpoint:
        await host.join(endpoint)
        found.append(await host.next())
        await host.close()
    assert len({one["id"] for one in found}) == 1
    assert len({one["key"] for one in found}) == 4
    secrets = [SESSION_TOKEN, aws.admin.secret.encode()]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not [one for one in secrets if one in path.read_bytes()], path
    told = "".join(capfd.readouterr())
    assert not [one for one in secrets if one.decode() in told]


async def test_sts_that_is_away_hangs_and_comes_back(
    aws: StandIn, role: str, host: Host, tmp_path: Path
) -> None:
    with Gate(aws.port) as gate:
        gate.shut()
        async with control(tmp_path, environment(aws, gate.url)) as endpoint:
            await host.join(endpoint)
            task = await run_task(endpoint, role)
            reason = ""
            async with asyncio.timeout(30):
                while "listens on" not in reason:
                    shown = await endpoint.task(task)
                    reason = shown["containers"][0].get("reason", "")
                    await asyncio.sleep(0.05)
            assert reason.startswith(f"waiting for credentials of the role '{role}'")
            assert (await endpoint.task(task))["desiredStatus"] == "RUNNING"
            gate.hang()
            calls = gate.calls
            await until(lambda: gate.calls > calls, limit_s=30)
            gate.shut()
            gate.open()
            assert (await host.next())["key"].startswith("ASIA")
            assert "reason" not in (await endpoint.task(task))["containers"][0]
            await host.close()


async def test_keys_without_the_permission_end_the_task_with_the_reason(
    aws: StandIn, role: str, tmp_path: Path
) -> None:
    iam = aws.client("iam")
    iam.create_user(UserName="poor")
    made = iam.create_access_key(UserName="poor")["AccessKey"]
    environ = environment(aws) | {
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
    }
    async with control(tmp_path, environ) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        task = await run_task(endpoint, role)
        async with asyncio.timeout(30):
            while agent.held.get(task) != "STOPPED":
                await agent.poll()
        await agent.report(a_report(task, "STOPPED"))
        shown = await endpoint.task(task)
    assert shown["stopCode"] == "TaskFailedToStart"
    assert shown["stoppedReason"].startswith(
        f"ECS was unable to assume the role '{role}' that was provided for this task as "
        "executionRoleArn: AssumeRole: AccessDenied: User: arn:aws:iam::"
    ), shown["stoppedReason"]
    assert made["SecretAccessKey"] not in json.dumps(shown)


async def test_keys_that_sts_does_not_know_are_waited_for(
    aws: StandIn, role: str, tmp_path: Path
) -> None:
    environ = environment(aws) | {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWNUNKNOWN00"}
    async with control(tmp_path, environ) as endpoint:
        agent = Agent(endpoint)
        await agent.register()
        task = await run_task(endpoint, role)
        reason = ""
        async with asyncio.timeout(30):
            while not reason:
                reason = (await endpoint.task(task))["containers"][0].get("reason", "")
                await asyncio.sleep(0.05)
        assert "STS refuses the keys of control" in reason
        assert "InvalidClientTokenId" in reason
        await asyncio.sleep(1.0)
        assert (await endpoint.task(task))["desiredStatus"] == "RUNNING"


async def test_without_keys_nothing_that_needs_a_role_is_taken(role: str, tmp_path: Path) -> None:
    async with control(tmp_path, {"AWS_EC2_METADATA_DISABLED": "true"}) as endpoint:
        await Agent(endpoint).register()
        with pytest.raises(ApiFailure, match="control has no keys to assume a role with"):
            await run_task(endpoint, role)
