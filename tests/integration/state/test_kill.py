"""What commit() promised is there after kill -9, whenever it comes, and always in order."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from agent.state import StateStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

WRITER = """
import asyncio, json, sys
from pathlib import Path
from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

async def writer(store, name, count):
    while True:
        count += 1
        batch = Batch()
        batch.put("task", name, b"%d" % count)
        batch.enqueue(TaskChange(id=f"{name}-{count}", task_arn=name, status="RUNNING", at=1.0))
        await store.commit(batch)
        print(json.dumps([name, count]), flush=True)

async def main():
    store = await StateStore.open(Path(sys.argv[1]))
    known = await store.load("task", int)
    print(json.dumps(known), flush=True)
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b", "c"):
            group.create_task(writer(store, name, known.get(name, 0)))

asyncio.run(main())
"""


async def write_and_kill(path: Path, after_s: float, promised: dict[str, int]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WRITER,
        str(path),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        known = json.loads(await process.stdout.readline())
    for name, count in promised.items():
        assert known[name] >= count, "the writer itself no longer finds what was promised"
    await asyncio.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    rest = await process.stdout.read()
    await process.wait()
    for line in rest.split(b"\n")[:-1]:
        name, count = json.loads(line)
        promised[name] = count


async def test_nothing_promised_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    chance = random.Random(7)
    promised: dict[str, int] = {}
    acknowledged: list[str] = []
    for _ in range(12):
        await write_and_kill(path, chance.uniform(0.0, 0.15), promised)
        store = await StateStore.open(path)
        assert store.problems == []
        found = await store.load("task", int)
        for name, count in promised.items():
            assert found[name] >= count
        while rows := await store.outbox.peek(100):
            acknowledged += [change.id for _, change in rows]
            store.outbox.settle([seq for seq, _ in rows])
        for name, count in found.items():
            ids = [change for change in acknowledged if change.startswith(name)]
            assert ids == [f"{name}-{number}" for number in range(1, count + 1)]
        await store.close()
    assert sum(promised.values()) > 100
