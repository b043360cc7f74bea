"""A task with a role that control keeps: its keys are accepted, for what the role's policies allow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.roles import issuer
from agent.controlplane.roles.settings import RoleSettings
from agent.model import payload as payload_model
from tests.support.control_endpoint import CAPABILITIES, ScriptedAgent, definition
from tests.support.keyed_control import ACCOUNT, KeyedControl, Keys, allow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model.payload import TaskPayload

URL = "http://10.0.0.5:6820"
TRUSTS_TASKS = {
    "Effect": "Allow",
    "Action": "sts:AssumeRole",
    "Principal": {"Service": "ecs-tasks.amazonaws.com"},
    "Condition": {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:ecs:*:{ACCOUNT}:*"},
    },
}
NOBODY = {**TRUSTS_TASKS, "Principal": {"Service": "lambda.amazonaws.com"}}
ROLES = {"com.amazonaws.ecs.capability.task-iam-role": ""}


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[KeyedControl]:
    roles = RoleSettings(task_endpoint=URL)
    async with KeyedControl.running(tmp_path, roles=roles) as running:
        yield running


async def started(control: KeyedControl, role: str, **container: Any) -> tuple[ScriptedAgent, str]:
    """Run a task of a role on a scripted host."""
    agent = ScriptedAgent(control.endpoint, attributes=CAPABILITIES | ROLES)
    await agent.register()
    asked = definition(taskRoleArn=role)
    asked["containerDefinitions"][0] |= container
    await control.call("ecs", "register_task_definition", **asked)
    answer = await control.call("ecs", "run_task", taskDefinition="web")
    assert answer["failures"] == []
    return agent, answer["tasks"][0]["taskArn"]


async def given(agent: ScriptedAgent) -> TaskPayload:
    """The payload, once it has credentials."""
    while True:
        polled = await agent.poll(after=0)
        assert polled is not None
        (assignment,) = polled.tasks
        payload = payload_model.decode(bytes(assignment.payload))
        if payload.role_credentials is not None and payload.role_credentials.secret_access_key:
            return payload


@pytest.mark.parametrize("by", ["name", "arn"])
async def test_a_task_calls_control_with_its_role_and_nothing_beyond(
    control: KeyedControl, by: str
) -> None:
    arn = await control.role("web", TRUSTS_TASKS, allow("ecs:ListClusters"))
    own = {"name": "AWS_REGION", "value": "eu-west-1"}
    agent, task = await started(control, arn if by == "arn" else "web", environment=[own])
    payload = await given(agent)
    credentials = payload.role_credentials
    assert credentials is not None
    assert (credentials.role_arn, credentials.expiration[-1:]) == (arn, "Z")
    environment = payload.containers[0].environment
    assert environment["AWS_ENDPOINT_URL_ECS"] == URL
    assert environment["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] == URL
    assert environment["AWS_ENDPOINT_URL_STS"] == URL
    assert environment["AWS_REGION"] == "eu-west-1"
    keys = Keys(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    await control.call("ecs", "list_clusters", keys)
    who = await control.call("sts", "get_caller_identity", keys)
    name = task.rpartition("/")[2]
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/web/{name}"
    for service, operation in (("ecs", "list_services"), ("logs", "describe_log_groups")):
        code, _ = await control.refused(service, operation, keys)
        assert code == "AccessDeniedException"


async def test_a_role_that_does_not_trust_tasks_stops_the_task(
    control: KeyedControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer, "REFUSED_FOR_S", 0.0)
    arn = await control.role("web", NOBODY)
    _, task = await started(control, arn)
    reason = ""
    async with asyncio.timeout(60):
        while not reason:
            (shown,) = (await control.call("ecs", "describe_tasks", tasks=[task]))["tasks"]
            reason = shown.get("stoppedReason", "")
    assert reason.startswith(f"ECS was unable to assume the role '{arn}'")
    assert "let the service ecs-tasks.amazonaws.com call sts:AssumeRole" in reason


async def test_other_roles_and_execution_roles_are_those_of_aws(control: KeyedControl) -> None:
    await control.call("ecs", "create_cluster")
    other = f"arn:aws:iam::{ACCOUNT}:role/other"
    await control.call("ecs", "register_task_definition", **definition(taskRoleArn=other))
    code, text = await control.refused("ecs", "run_task", taskDefinition="web")
    assert (code, "no keys to assume a role with" in text) == ("UnsupportedFeatureException", True)
    arn = await control.role("web", TRUSTS_TASKS)
    needs = definition(executionRoleArn=arn)
    needs["containerDefinitions"][0]["secrets"] = [
        {"name": "A", "valueFrom": "arn:aws:ssm:us-east-1:111111111111:parameter/x"}
    ]
    await control.call("ecs", "register_task_definition", **needs)
    code, text = await control.refused("ecs", "run_task", taskDefinition="web")
    assert (code, "executionRoleArn" in text) == ("UnsupportedFeatureException", True)
