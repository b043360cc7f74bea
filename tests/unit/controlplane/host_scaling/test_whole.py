"""A whole control endpoint with a program whose hosts are agents in this process: from a task that waits to its end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from agent.controlplane.scheduler.placement import CAPACITY_PROVIDER
from tests.support.control_endpoint import (
    CAPABILITIES,
    ScriptedAgent,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAIT_S = 60.0
RACK = {"capacityProvider": "rack", "weight": 1}


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.05)


async def test_a_task_that_waits_runs_on_a_host_that_the_program_starts(tmp_path: Path) -> None:
    told, file = tmp_path / "told", tmp_path / "hooks.json"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\ncat > {told}.new && mv {told}.new "{told}"\n')
    program.chmod(0o755)
    file.write_text(json.dumps({"rack": {"command": [str(program)], "maximumSize": 2}}))
    data = tmp_path / "data"
    async with control_endpoint(data, host_hooks=file) as control:
        await control.call("CreateCluster")
        await control.call("RegisterTaskDefinition", **definition())
        await control.call(
            "CreateCapacityProvider",
            name="rack",
            autoScalingGroupProvider={
                "autoScalingGroupArn": "rack",
                "managedScaling": {"status": "ENABLED"},
            },
        )
        await control.call(
            "PutClusterCapacityProviders",
            cluster="default",
            capacityProviders=["rack"],
            defaultCapacityProviderStrategy=[RACK],
        )
        ran = await control.call("RunTask", taskDefinition="web")
        (task,) = ran["tasks"]
        assert task["lastStatus"] == "PROVISIONING"
        await until(lambda: told.exists() and json.loads(told.read_text())["desiredHosts"] == 1)
        async with control.session.get(f"{control.url}/metrics") as answer:
            page = await answer.text()
        labels = 'cluster="default",capacity_provider="rack"'
        assert f'ecs_control_managed_hosts{{{labels},kind="desired"}} 1' in page
        assert f"ecs_control_capacity_provider_reservation_percent{{{labels}}} 200" in page
    # Control is gone in between, and another one goes on.
    async with control_endpoint(data, host_hooks=file) as control:
        host = ScriptedAgent(control, attributes={**CAPABILITIES, CAPACITY_PROVIDER: "rack"})
        await host.register()
        working = asyncio.create_task(host.obey())

        async def runs() -> bool:
            return bool((await control.task(task["taskArn"]))["lastStatus"] == "RUNNING")

        await until(runs)
        shown = await control.task(task["taskArn"])
        assert shown["containerInstanceArn"] == host.arn
        assert shown["capacityProviderName"] == "rack"
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
