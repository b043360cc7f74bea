"""A control that is killed at any moment loses no log event that it took, and has none twice."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.log_store.contract import BEFORE_ALL, Bounds
from agent.controlplane.log_store.paging import Ask
from agent.controlplane.log_store.store import LogStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

WRITER = """
import asyncio, sys, time
from pathlib import Path
from agent.controlplane.log_store.changes import Batch
from agent.controlplane.log_store.contract import Bounds
from agent.controlplane.log_store.store import LogStore

async def write(store, lane, start):
    number = start
    while True:
        batch = Batch(group="g", stream=str(lane), times=[number * 10 + i for i in range(10)],
                      messages=[f"{number}.{i} ".ljust(80, "x") for i in range(10)],
                      id=f"{lane}/{number}", make_group=True, make_stream=True)
        await store.append(batch)
        sys.stdout.write(f"{lane} {number}\\n")
        sys.stdout.flush()
        number += 1

async def main():
    bounds = Bounds(journal_bytes=60_000, block_bytes=4096, keep_free_bytes=0)
    store = await LogStore.open(Path(sys.argv[1]), bounds)
    async with asyncio.TaskGroup() as group:
        for lane in range(8):
            group.create_task(write(store, lane, int(sys.argv[2 + lane])))

asyncio.run(main())
"""


async def test_kill_9_loses_no_event_and_doubles_none(tmp_path: Path) -> None:
    """What the writer was told is taken is there; it begins again with what it was not told of."""
    directory = tmp_path / "logs"
    rng = random.Random(11)
    told = [-1] * 8
    for _ in range(8):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WRITER,
            str(directory),
            *(str(number + 1) for number in told),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        first = await process.stdout.readline()
        await asyncio.sleep(rng.uniform(0.01, 0.5))
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
        # The last line may be cut: what was not written whole was not told.
        for line in (first + rest).decode().split("\n")[:-1]:
            lane, number = map(int, line.split())
            told[lane] = max(number, told[lane])
        await _check(directory, told)
    assert sum(told) > 200


async def _check(directory: Path, told: list[int]) -> None:
    store = await LogStore.open(directory, Bounds(keep_free_bytes=0))
    try:
        for lane, number in enumerate(told):
            if number < 0:
                continue
            found = await _messages(store, str(lane))
            count = len(found) // 10
            assert count > number, "a batch that was taken is gone"
            assert count <= number + 2, "more than one batch that nobody was told of"
            assert found == [f"{n}.{i} ".ljust(80, "x") for n in range(count) for i in range(10)]
    finally:
        await store.close()


async def _messages(store: LogStore, stream: str) -> list[str]:
    found: list[str] = []
    ask = Ask(BEFORE_ALL)
    while True:
        page = (await store.page("g", ask, streams=[stream])).page
        found += [event.message for event in page.events]
        if page.is_last:
            return found
        ask = ask._replace(at=page.at)
