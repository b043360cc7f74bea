"""Orders and reports through kill -9 of the agent's side and of control's, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from agent.state import StateStore
from tests.support.fake_control import FakeControl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.integration

AGENT = """
import asyncio, sys
from pathlib import Path
from agent.upstream.longpoll.client import LongPollClient, LongPollSettings
from agent.upstream.protocol import RegisterInfo
from agent.model.changes import TaskChange
from agent.model.resources import HostResources
from agent.resources.role_credentials import RoleCredentials
from agent.state import Batch, StateStore

class NothingHeld:
    def held(self, control_id):
        return []
    def ended(self, control_id):
        return []
    async def brought(self, control_id, instance):
        return []
    def keep(self, task_arns):
        pass

async def work(store):
    done = (await store.load("counter", int)).get("n", 0)
    while True:
        done += 1
        batch = Batch()
        batch.put("counter", "n", b"%d" % done)
        batch.enqueue(TaskChange(id=f"c{done}", task_arn="a", status="RUNNING", at=1.0))
        await store.commit(batch)
        await asyncio.sleep(0.002)

async def main():
    store = await StateStore.open(Path(sys.argv[1]))
    async def take(assignments, control_id, instance=""):
        batch = Batch()
        for order in assignments.tasks:
            batch.put("order", order.task_arn, order.desired_status.encode())
        await store.commit(batch)
    control = await LongPollClient.open(
        LongPollSettings(
            endpoint=sys.argv[2], cluster="default", wait_s=5.0,
            backoff_first_s=0.02, backoff_limit_s=0.1,
        ),
        store,
        lambda: RegisterInfo(resources=HostResources(cpu_units=1, memory_mib=1)),
        take,
        NothingHeld(),
        RoleCredentials(),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(control.run())
        group.create_task(work(store))

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def agent(path: Path, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        AGENT,
        str(path),
        url,
        stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_no_report_is_lost_or_overtakes_another(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    chance = random.Random(3)
    control = FakeControl()
    async with control.running():
        for number in range(8):
            control.want(f"arn:task/{number}")
            async with agent(path, control.url):
                seen = len(control.seen)
                async with asyncio.timeout(20):
                    while len(control.seen) < seen + 5:  # noqa: ASYNC110 - the other side is a process
                        await asyncio.sleep(0.01)
                await asyncio.sleep(chance.uniform(0.0, 0.1))
                if number % 2:
                    await control.stop()
                    await asyncio.sleep(chance.uniform(0.0, 0.1))
                    await control.start()
                    await asyncio.sleep(chance.uniform(0.0, 0.2))
    store = await StateStore.open(path)
    written = (await store.load("counter", int))["n"]
    left = [change.id for _, change in await store.outbox.peek(500)]
    orders = await store.load("order", bytes.decode)
    await store.close()
    arrived = list(control.seen)
    # What is left may have arrived already: at least once, never out of order.
    assert arrived == [f"c{number}" for number in range(1, len(arrived) + 1)]
    assert left == [f"c{number}" for number in range(written - len(left) + 1, written + 1)]
    assert len(arrived) + len(left) >= written
    assert set(orders) <= {f"arn:task/{number}" for number in range(8)}
    assert len(orders) >= 7
    assert list(control.generations) == ["arn:instance/i1"]
