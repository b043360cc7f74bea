"""A writer that is killed at any moment loses nothing that it was told is durable."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

WRITER = """
import asyncio, sys
from pathlib import Path
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore

async def write(store, lane, start):
    number = start
    while True:
        ops = [Put(f"/{lane}/count", str(number).encode()), Put(f"/{lane}/{number}", b"x" * 300)]
        result = await store.txn([], ops)
        sys.stdout.write(f"{lane} {number} {result.revision}\\n")
        sys.stdout.flush()
        number += 1

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    async with asyncio.TaskGroup() as group:
        for lane in range(8):
            kv = await store.get(f"/{lane}/count")
            group.create_task(write(store, lane, int(kv.value) + 1 if kv else 0))

asyncio.run(main())
"""


async def test_kill_9_loses_no_acknowledged_transaction(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    rng = random.Random(7)
    acknowledged: dict[int, int] = {}
    newest_revision = 1
    for _ in range(6):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        first = await process.stdout.readline()
        await asyncio.sleep(rng.uniform(0.01, 0.3))
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
        # The last line may be cut: what was not written whole was not acknowledged.
        for line in (first + rest).decode().split("\n")[:-1]:
            lane, number, revision = map(int, line.split())
            acknowledged[lane] = max(number, acknowledged.get(lane, -1))
            newest_revision = max(newest_revision, revision)
        await _check(path, acknowledged, newest_revision)
    assert sum(acknowledged.values()) > 50


async def _check(path: Path, acknowledged: dict[int, int], newest_revision: int) -> None:
    store = await SqliteStore.open(path)
    try:
        assert store.revision >= newest_revision
        for lane, number in acknowledged.items():
            count = await store.get(f"/{lane}/count")
            assert count is not None
            kept = int(count.value)
            assert kept >= number
            keys = {kv.key for kv in (await store.range(f"/{lane}/")).items}
            # Each transaction is there whole, and none is missing in between.
            assert keys == {f"/{lane}/{n}" for n in range(kept + 1)} | {f"/{lane}/count"}
    finally:
        await store.close()
