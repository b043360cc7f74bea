"""The real control endpoint is killed again and again: no order is lost, no report lost or doubled."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest

from agent.controlplane import records
from agent.controlplane.records import TaskRecord
from agent.controlplane.store.sqlite import SqliteStore
from agent.state import StateStore
from tests.support.control_endpoint import ApiFailure, Endpoint, a_report, definition
from tests.support.control_host import Host, until
from tests.support.fleet import Control, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fake_control import FakeControl

pytestmark = pytest.mark.integration

ROUNDS = 6
REPORTS = 10
"""A round; a task remembers the last 64 in all."""


async def insist(endpoint: Endpoint, operation: str, **request: Any) -> dict[str, Any]:
    """Call until it is answered; the endpoint may be starting."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await endpoint.call(operation, **request)
            except (aiohttp.ClientError, ApiFailure):
                await asyncio.sleep(0.05)


async def test_orders_and_reports_through_kill_9_of_control(tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "control"
    listen = ["control", "--open", "--listen", f"127.0.0.1:{port}", "--data-dir", str(data)]
    control = Control(name="control", arguments=listen, directory=tmp_path, port=port)
    store = await StateStore.open(tmp_path / "agent.db")
    host = Host(store, cast("FakeControl", control))
    dice = random.Random(5)
    sent: list[str] = []
    await asyncio.to_thread(control.start)
    try:
        async with aiohttp.ClientSession() as session, host.running() as client:
            endpoint = Endpoint(control.url, session)
            await until(lambda: client.status.connected, limit_s=20)
            await insist(endpoint, "RegisterTaskDefinition", **definition())
            first = (await insist(endpoint, "RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
            arns = {first}
            for number in range(ROUNDS):
                for _ in range(REPORTS):
                    report = a_report(first, "RUNNING", id=f"r{len(sent)}")
                    sent.append(report.id)
                    await host.report(report)
                token = f"token-{number}"
                ordering = asyncio.create_task(
                    insist(endpoint, "RunTask", taskDefinition="web", clientToken=token)
                )
                await asyncio.sleep(dice.uniform(0.0, 0.05))
                await asyncio.to_thread(control.kill)
                await asyncio.to_thread(control.start)
                arns.add((await ordering)["tasks"][0]["taskArn"])
                await until(lambda: arns <= host.arns(), limit_s=20)
            await until(lambda: not client.status.unsent, limit_s=20)
            assert client.status.generation == 1, "no restart of control needs a registration"
            listed = await insist(endpoint, "ListTasks")
            assert set(listed["taskArns"]) == arns, "a repeated RunTask is the same task"
    finally:
        await asyncio.to_thread(control.kill)
        await store.close()
    kept = await SqliteStore.open(data / "control.db")
    kv = await kept.get(records.task_key("default", first.rsplit("/", 1)[-1]))
    await kept.close()
    assert kv is not None
    assert records.decode(TaskRecord, kv).recent_changes == sent
