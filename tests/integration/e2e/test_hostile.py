"""A real agent between a control endpoint that says anything and an engine that hangs."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.bench.control import ScriptedControl
from tests.bench.measures import make_agent, payload
from tests.support.fleet import eventually
from tests.support.relay import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.fleet import Agent

pytestmark = pytest.mark.integration
CANARY = "canary-c0ffee-0b5e55ed"


@pytest.fixture
async def control() -> AsyncIterator[ScriptedControl]:
    control = ScriptedControl()
    await control.start()
    yield control
    await control.close()


@pytest.fixture
async def agent(leak_check: None, tmp_path: Path, control: ScriptedControl) -> AsyncIterator[Agent]:
    del leak_check
    made = make_agent(tmp_path, control.port)
    yield made
    await asyncio.to_thread(made.stop)


async def until_forgotten(agent: Agent) -> None:
    await asyncio.to_thread(eventually, agent.has_no_tasks, what="no tasks")


def sees_hanging_engine(agent: Agent) -> bool:
    return any("does not answer" in line for line in agent.json("status").get("degraded", []))


async def test_secrets_reach_neither_disk_nor_log_nor_engine_nor_operators(
    agent: Agent, control: ScriptedControl, busybox_image: str, tmp_path: Path
) -> None:
    agent.environment |= {
        "ECS_ENGINE_AUTH_TYPE": "docker",
        "ECS_ENGINE_AUTH_DATA": json.dumps(
            {"registry.test": {"username": "u", "password": CANARY}}
        ),
        "ECS_LOGLEVEL": "debug",
    }
    order = payload(busybox_image, "none")
    for key in ("roleCredentials", "executionRoleCredentials"):
        order[key] = {
            "credentialsId": "id",
            "accessKeyId": f"{CANARY}-key",
            "secretAccessKey": f"{CANARY}-secret",
            "sessionToken": f"{CANARY}-token",
        }
    agent.start()
    await control.order(order)
    await control.until(order["arn"], "RUNNING")
    runtime_id = control.seen[order["arn"]][-1][1]["containers"][0]["runtimeId"]
    inspected = await asyncio.to_thread(
        subprocess.check_output, ["docker", "inspect", runtime_id], text=True
    )
    views = [await asyncio.to_thread(agent.cli, *w, "--json") for w in (["tasks"], ["status"])]
    await control.stop(order["arn"])
    await control.until(order["arn"], "STOPPED")
    await until_forgotten(agent)
    assert CANARY not in inspected
    assert all(CANARY not in view for view in views)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


async def test_a_hanging_engine_fails_no_task_and_is_seen(
    agent: Agent, control: ScriptedControl, busybox_image: str, tmp_path: Path
) -> None:
    async with Relay("/var/run/docker.sock", tmp_path / "engine.sock") as relay:
        agent.environment["DOCKER_HOST"] = f"unix://{relay.path}"
        agent.start()
        running, late = payload(busybox_image, "none"), payload(busybox_image, "none")
        await control.order(running)
        await control.until(running["arn"], "RUNNING")

        relay.hang()
        await control.order(late)
        await asyncio.to_thread(eventually, lambda: sees_hanging_engine(agent), within_s=40)
        assert late["arn"] not in control.seen
        relay.flow()
        await control.until(late["arn"], "RUNNING", limit_s=90)
        statuses = [change["status"] for _, change in control.seen[running["arn"]]]
        assert statuses == ["RUNNING"]

        await control.stop(running["arn"], late["arn"])
        for order in (running, late):
            await control.until(order["arn"], "STOPPED")
        await until_forgotten(agent)
        await asyncio.to_thread(agent.stop)


async def test_broken_orders_are_refused_one_by_one_and_disturb_nothing(
    agent: Agent, control: ScriptedControl, busybox_image: str
) -> None:
    agent.start()
    good = payload(busybox_image, "none")
    broken = {**payload(busybox_image, "none"), "containers": [{"name": 7, "image": []}]}
    cyclic = payload(busybox_image, "none")
    cyclic["containers"][0]["dependsOn"] = [{"containerName": "main", "condition": "START"}]
    greedy = {
        **payload(busybox_image, "none"),
        "associations": [{"name": "GPU-none", "type": "gpu", "containers": ["main"]}],
    }
    futuristic = {**payload(busybox_image, "none"), "somethingNew": {"deep": [1, None]}}
    await control.order(broken, cyclic, good, greedy, futuristic)
    await control.until(good["arn"], "RUNNING")
    await control.until(futuristic["arn"], "RUNNING")
    reasons = {}
    for order in (broken, cyclic, greedy):
        await control.until(order["arn"], "STOPPED")
        reasons[order["arn"]] = control.seen[order["arn"]][-1][1]["reason"]
    assert reasons[broken["arn"]].startswith("UnrecogniedTaskError: Error loading task - ")
    assert "containers" in reasons[broken["arn"]]
    assert reasons[cyclic["arn"]].startswith("Task dependencies cannot be resolved, taskArn: ")
    assert "GPU-none" in reasons[greedy["arn"]]
    await control.stop(good["arn"], futuristic["arn"])
    for order in (good, futuristic):
        await control.until(order["arn"], "STOPPED")
    await until_forgotten(agent)
