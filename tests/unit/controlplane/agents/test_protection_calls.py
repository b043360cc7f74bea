"""Agents ask for the protection of the tasks of their own host, over the real wire."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.control_endpoint import (
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)
from tests.support.services import SERVICE, let_run_task_serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Host(ScriptedAgent):
    async def ask(self, task: str, **change: Any) -> tuple[int, dict[str, Any]]:
        body = {"taskArn": task} | ({"change": change} if change else {})
        status, raw = await self.send("POST", f"/v1/instances/{self.id}/protection", body)
        return status, json.loads(raw)


@pytest.fixture
async def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    let_run_task_serve(monkeypatch)
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        await running.call("RegisterTaskDefinition", **definition())
        yield running


async def run_task(endpoint: Endpoint, group: str = SERVICE) -> str:
    answer = await endpoint.call("RunTask", taskDefinition="web", group=group)
    assert answer["failures"] == []
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


async def test_a_host_protects_its_task(endpoint: Endpoint) -> None:
    host = Host(endpoint)
    await host.register()
    alone = await run_task(endpoint, "family:web")
    detail = "The task is not part of a service."
    assert await host.ask(alone, protectionEnabled=True) == (
        200,
        {"failures": [{"arn": alone, "reason": "TASK_NOT_VALID", "detail": detail}]},
    )
    task = await run_task(endpoint)
    before = time.time()
    status, body = await host.ask(task, protectionEnabled=True, expiresInMinutes=5)
    assert status == 200
    (protected,) = body["protectedTasks"]
    assert before + 300 <= protected["expirationDate"] <= time.time() + 300
    assert await host.ask(task) == (200, body)
    # The operators' API sees the same.
    shown = await endpoint.call("GetTaskProtection", cluster="default", tasks=[task])
    assert shown["protectedTasks"][0]["protectionEnabled"] is True
    assert await host.ask(task, protectionEnabled=False) == (
        200,
        {"protectedTasks": [{"taskArn": task}]},
    )
    status, body = await host.ask(task, protectionEnabled=True, expiresInMinutes=2881)
    assert (status, body["code"]) == (400, "InvalidParameterException")
    assert body["message"] == "expiresInMinutes must be between 1 and 2880, not 2881."


async def test_an_agent_speaks_for_its_own_tasks_alone(endpoint: Endpoint) -> None:
    host, other = Host(endpoint), Host(endpoint)
    await host.register()
    task = await run_task(endpoint)
    await other.register()
    for unknown in (task, f"{task}x", "no arn", host.arn, task.replace("us-east-1", "eu-west-1")):
        for change in ({}, {"protectionEnabled": True}):
            status, body = await other.ask(unknown, **change)
            assert (status, body) == (200, {"failures": [{"arn": unknown, "reason": "MISSING"}]})
    old = host.generation
    await host.register()
    status, raw = await host.send(
        "POST",
        f"/v1/instances/{host.id}/protection",
        {"taskArn": task, "change": {"protectionEnabled": True}},
        generation=old,
    )
    assert (status, json.loads(raw)["code"]) == (409, "StaleGeneration")
    assert await host.ask(task) == (200, {"protectedTasks": [{"taskArn": task}]})
    await host.report(a_report(task, "STOPPED"))
    _, body = await host.ask(task, protectionEnabled=True)
    assert body["failures"][0]["detail"] == "The task has stopped."


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"taskArn": 1}', b'{"taskArn": "a", "change": {}}']
)
async def test_a_call_that_cannot_be_read_is_refused(endpoint: Endpoint, body: bytes) -> None:
    host = Host(endpoint)
    await host.register()
    status, raw = await host.send("POST", f"/v1/instances/{host.id}/protection", body)
    assert (status, json.loads(raw)["code"]) == (400, "InvalidRequest")
