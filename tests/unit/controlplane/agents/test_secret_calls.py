"""Secrets that control keeps: marked in payloads, given to the host of their task, and to no other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog

from agent.model import payload as payloads
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import (
    CAPABILITIES,
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
)
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model.payload import TaskPayload

SSM = "arn:aws:ssm:us-east-1:000000000000:parameter/"
OURS = dict.fromkeys(
    (
        "ecs-host-agent.control-secrets",
        "ecs.capability.secrets.ssm.environment-variables",
        "ecs.capability.secrets.asm.environment-variables",
        "ecs.capability.secrets.ssm.bootstrap.log-driver",
        "ecs.capability.private-registry-authentication.secretsmanager",
        "com.amazonaws.ecs.capability.logging-driver.splunk",
    ),
    "",
)


class Host(ScriptedAgent):
    def __init__(self, endpoint: Endpoint, **register: Any) -> None:
        super().__init__(endpoint, attributes=CAPABILITIES | OURS, **register)

    async def ask(self, task: str, *names: str, **more: Any) -> tuple[int, dict[str, Any]]:
        body = {"instance": self.arn, "taskArn": task, "names": list(names)} | more
        status, raw = await self.send("POST", "/v1/secrets", body)
        return status, json.loads(raw)

    async def payload(self, task: str) -> TaskPayload:
        self.revision = 0
        answer = await self.poll(wait_s=0)
        assert answer is not None
        raw = next(one.payload for one in answer.tasks if one.task_arn == task)
        return payloads.decode(msgspec.Raw(raw))


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        yield running


async def store(endpoint: Endpoint, **values: str) -> None:
    ssm = await AwsClient.of(endpoint, "ssm")
    for name, value in values.items():
        await ssm.call("put_parameter", Name=name, Value=value, Type="SecureString", Overwrite=True)
    ssm.close()


async def run_task(endpoint: Endpoint, *values_from: str, **container: Any) -> str:
    secrets = [{"name": f"S{n}", "valueFrom": v} for n, v in enumerate(values_from)]
    await endpoint.call(
        "RegisterTaskDefinition",
        family="web",
        containerDefinitions=[
            {"name": "main", "image": "img", "memory": 64, "secrets": secrets} | container
        ],
    )
    answer = await endpoint.call("RunTask", taskDefinition="web")
    assert answer["failures"] == []
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


async def test_a_host_gets_what_its_task_names(endpoint: Endpoint, tmp_path: Path) -> None:
    await store(endpoint, a="canary-a", b="canary-b", c="canary-c")
    asm = await AwsClient.of(endpoint, "secretsmanager")
    made = await asm.call("create_secret", Name="login", SecretString='{"user": "canary-u"}')
    asm.close()
    host = Host(endpoint)
    await host.register()
    user = f"{made['ARN']}:user::"
    task = await run_task(endpoint, f"{SSM}a", "b", user)
    assert await host.ask(task, f"{SSM}a", "b", user) == (
        200,
        {"values": {f"{SSM}a": "canary-a", "b": "canary-b", user: "canary-u"}},
    )
    # What the definition does not name is not given, though control has it.
    status, body = await host.ask(task, f"{SSM}a", f"{SSM}c", "c")
    assert (status, body["missing"]) == (404, [f"{SSM}c", "c"])
    assert "canary" not in body["error"]
    payload = await host.payload(task)
    (container,) = payload.containers
    assert [(s.name, s.provider, s.endpoint, s.region) for s in container.secrets] == [
        ("S0", "ssm", "control", "us-east-1"),
        ("S1", "ssm", "control", "us-east-1"),
        ("S2", "asm", "control", "us-east-1"),
    ]
    assert payload.execution_role_credentials is None
    assert b"canary" not in payloads.encode(payload)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()


async def test_nobody_else_gets_it(endpoint: Endpoint) -> None:
    await store(endpoint, a="canary-a")
    host, other = Host(endpoint), Host(endpoint)
    await host.register()
    task = await run_task(endpoint, "a")
    await other.register()
    status, body = await other.ask(task, "a")
    assert (status, body["missing"]) == (404, ["a"])
    # The registration is one of the other host.
    other.generation += 1
    status, body = await other.ask(task, "a", instance=host.arn)
    assert (status, body["code"]) == (404, "InstanceUnknown")
    old = host.generation
    await host.register()
    host.generation = old
    status, body = await host.ask(task, "a")
    assert (status, body["code"]) == (409, "StaleGeneration")
    host.generation += 1
    for unknown in (f"{task}x", "no arn", host.arn):
        status, body = await host.ask(unknown, "a")
        assert (status, body["missing"]) == (404, ["a"])
    await host.report(a_report(task, "STOPPED"))
    status, _ = await host.ask(task, "a")
    assert status == 404


async def test_a_secret_that_is_stored_later_is_given_then(endpoint: Endpoint) -> None:
    host = Host(endpoint)
    await host.register()
    with structlog.testing.capture_logs() as logs:
        task = await run_task(endpoint, f"{SSM}late")
    assert any("not stored yet" in log["event"] for log in logs)
    status, body = await host.ask(task, f"{SSM}late")
    assert (status, body["missing"]) == (404, [f"{SSM}late"])
    await store(endpoint, late="canary")
    assert (await host.ask(task, f"{SSM}late"))[0] == 200


async def test_a_name_that_control_does_not_keep_is_that_of_aws(endpoint: Endpoint) -> None:
    host = Host(endpoint)
    await host.register()
    with pytest.raises(ApiFailure) as caught:
        await run_task(endpoint, "unknown")
    assert caught.value.message.startswith(
        "When you are specifying container secrets, you must also specify a value for "
        "'executionRoleArn': secret 'S0' of container 'main' is fetched by that role."
    )


async def test_log_options_and_logins_to_registries(endpoint: Endpoint) -> None:
    asm = await AwsClient.of(endpoint, "secretsmanager")
    login = await asm.call("create_secret", Name="reg", SecretString='{"username":"canary"}')
    asm.close()
    await store(endpoint, token="canary")
    host = Host(endpoint)
    await host.register()
    task = await run_task(
        endpoint,
        logConfiguration={
            "logDriver": "splunk",
            "secretOptions": [{"name": "splunk-token", "valueFrom": "token"}],
        },
        repositoryCredentials={"credentialsParameter": login["ARN"]},
    )
    (container,) = (await host.payload(task)).containers
    (option,) = container.secrets
    assert (option.target, option.endpoint) == ("LOG_DRIVER", "control")
    assert container.registry_authentication == {
        "type": "asm",
        "asmAuthData": {
            "credentialsParameter": login["ARN"],
            "region": "us-east-1",
            "endpoint": "control",
        },
    }
    status, body = await host.ask(task, login["ARN"], "token")
    assert (status, set(body["values"])) == (200, {login["ARN"], "token"})


async def test_hosts_whose_agent_cannot_are_not_chosen(endpoint: Endpoint) -> None:
    await store(endpoint, a="canary-a")
    await RawAgent(endpoint).register()
    await endpoint.call(
        "RegisterTaskDefinition",
        family="web",
        containerDefinitions=[
            {
                "name": "main",
                "image": "img",
                "memory": 64,
                "secrets": [{"name": "A", "valueFrom": "a"}],
            }
        ],
    )
    answer = await endpoint.call("RunTask", taskDefinition="web")
    (failure,) = answer["failures"]
    assert failure["reason"] == "ATTRIBUTE"
    assert "ecs-host-agent.control-secrets" in failure.get("detail", "")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"instance": 1}', json.dumps({"names": []}).encode()]
)
async def test_a_call_that_cannot_be_read_is_refused(endpoint: Endpoint, body: bytes) -> None:
    host = Host(endpoint)
    await host.register()
    status, raw = await host.send("POST", "/v1/secrets", body)
    assert (status, json.loads(raw)["code"]) == (400, "InvalidRequest")


async def test_a_lost_key_is_told_and_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "secrets.keys"
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        await store(endpoint, a="canary-a")
        host = Host(endpoint)
        await host.register()
        task = await run_task(endpoint, "a")
    kept = file.read_bytes()
    file.unlink()
    reload = asyncio.Event()
    async with control_endpoint(tmp_path, reload=reload) as endpoint:
        host._endpoint = endpoint
        status, body = await host.ask(task, "a")
        assert (status, body["code"]) == (503, "SecretsClosed")
        assert "is not in the file of secret keys; put that file back" in body["message"]
        file.write_bytes(kept)
        file.chmod(0o600)
        reload.set()
        async with asyncio.timeout(10):
            while status != 200:
                status, body = await host.ask(task, "a")
        assert body["values"] == {"a": "canary-a"}
