"""Tags for agents: of the instance itself and of the tasks placed on it, as they are at the moment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.control_endpoint import CAPABILITIES, Endpoint, ScriptedAgent, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        yield running


async def registered(endpoint: Endpoint, **register: Any) -> ScriptedAgent:
    agent = ScriptedAgent(endpoint, attributes=CAPABILITIES, **register)
    await agent.register()
    return agent


async def ask(agent: ScriptedAgent, resource: Any) -> tuple[int, Any]:
    body = json.dumps({"instance": agent.arn, "resource": resource}).encode()
    status, raw = await agent.send("POST", "/v1/tags", body)
    return status, json.loads(raw)


async def run_task(endpoint: Endpoint, **tags: str) -> str:
    await endpoint.call(
        "RegisterTaskDefinition",
        family="web",
        containerDefinitions=[{"name": "main", "image": "img", "memory": 64}],
    )
    shown = [{"key": key, "value": value} for key, value in tags.items()]
    answer = await endpoint.call("RunTask", taskDefinition="web", tags=shown)
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


async def test_a_host_is_told_its_tags_and_those_of_its_tasks_as_they_change(
    endpoint: Endpoint,
) -> None:
    agent = await registered(endpoint, tags={"room": "1"})
    task = await run_task(endpoint, team="red")
    assert await ask(agent, agent.arn) == (200, {"tags": {"room": "1"}})
    assert await ask(agent, task) == (200, {"tags": {"team": "red"}})
    await endpoint.call("TagResource", resourceArn=task, tags=[{"key": "team", "value": "blue"}])
    assert await ask(agent, task) == (200, {"tags": {"team": "blue"}})


async def test_a_host_is_told_nothing_of_others(endpoint: Endpoint) -> None:
    first = await registered(endpoint)
    task = await run_task(endpoint, team="red")
    other = await registered(endpoint, client_token="other")
    for resource in (task, first.arn, "", "arn:aws:ecs:r:1:cluster/default", f"{task}x"):
        status, body = await ask(other, resource)
        assert (status, body["code"]) == (400, "InvalidRequest")
        assert "red" not in json.dumps(body)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"instance": "a"}', b'{"resource": 1}'])
async def test_a_call_that_cannot_be_read_is_refused(endpoint: Endpoint, body: bytes) -> None:
    agent = await registered(endpoint)
    status, raw = await agent.send("POST", "/v1/tags", body)
    assert (status, json.loads(raw)["code"]) == (400, "InvalidRequest")
