"""The beat of the sampler, its thread, and its manners when something hangs or fails."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.metrics.sampler import Sampler, next_beat_s
from tests.unit.metrics.conftest import RUNTIME_ID, target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.metrics.targets import SampleTarget
    from agent.model.metrics import MetricsBatch
    from tests.unit.metrics.conftest import Trees


@asynccontextmanager
async def running(sampler: Sampler) -> AsyncIterator[list[MetricsBatch]]:
    batches: list[MetricsBatch] = []
    sampler.subscribe(batches.append)
    task = asyncio.create_task(sampler.run())
    try:
        yield batches
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - conditions of any kind, in tests only
            await asyncio.sleep(0.01)


@given(st.floats(0, 1e9), st.floats(0, 1e6), st.sampled_from([0.5, 5.0, 10.0]))
def test_beats_do_not_drift(start_s: float, passed_s: float, interval_s: float) -> None:
    due_s = next_beat_s(start_s, start_s + passed_s, interval_s)
    assert 0 < due_s - (start_s + passed_s) <= interval_s * 1.0001
    beats = (due_s - start_s) / interval_s
    assert beats == pytest.approx(round(beats), abs=1e-6)


async def test_hands_every_round_on() -> None:
    sampler = Sampler(list, interval_s=0.05)
    before = sampler.latest
    async with running(sampler) as batches:
        await until(lambda: len(batches) >= 6)
    assert before is None
    assert sampler.latest is batches[-1]
    assert sampler.round_s > 0


async def test_a_newcomer_is_looked_at_twice_in_short_order(trees: Trees) -> None:
    trees.v1(f"docker/{RUNTIME_ID}")
    sampler = Sampler(lambda: [target()], interval_s=60, cgroup_root=trees.cgroup, proc=trees.proc)
    async with running(sampler) as batches:
        await until(lambda: len(batches) == 2)
    assert batches[0].tasks[0].containers[0].cpu_percent is None
    assert batches[1].tasks[0].containers[0].cpu_percent is not None
    assert 0.9 < batches[1].host.at - batches[0].host.at < 2


async def test_poke_asks_for_a_round_but_not_for_two_a_second() -> None:
    sampler = Sampler(list, interval_s=60)
    async with running(sampler) as batches:
        await until(lambda: batches)
        for _ in range(10):
            sampler.poke()
        await until(lambda: len(batches) == 2)
        await asyncio.sleep(0.2)
    assert len(batches) == 2
    assert batches[1].host.at - batches[0].host.at > 0.9


async def test_a_failing_consumer_disturbs_nobody() -> None:
    sampler = Sampler(list, interval_s=0.05)

    def fail(_batch: MetricsBatch) -> None:
        raise ValueError("no")

    sampler.subscribe(fail)
    with capture_logs() as lines:
        async with running(sampler) as batches:
            await until(lambda: len(batches) >= 2)
    assert lines[0]["event"] == "a consumer of samples failed"


async def test_unsubscribing_ends_the_calls() -> None:
    sampler = Sampler(list, interval_s=0.05)
    seen: list[MetricsBatch] = []
    end = sampler.subscribe(seen.append)
    async with running(sampler) as batches:
        await until(lambda: batches)
        end()
        end()
        count = len(seen)
        await until(lambda: len(batches) >= 3)
    assert len(seen) == count


async def test_targets_that_fail_are_reported_once_and_tried_again() -> None:
    broken = True

    def targets() -> list[SampleTarget]:
        if broken:
            raise RuntimeError("not ready")
        return []

    sampler = Sampler(targets, interval_s=0.05)
    with capture_logs() as lines:
        async with running(sampler) as batches:
            await asyncio.sleep(0.2)
            assert not batches
            broken = False
            await until(lambda: batches)
    assert [line["cause"] for line in lines] == ["RuntimeError: not ready"]


async def test_a_hung_round_is_reported_once_and_nothing_piles_up(
    trees: Trees, tmp_path: Path
) -> None:
    """A FIFO that nobody writes to hangs whoever opens it, as a dead disk would."""
    trees.v1(f"docker/{RUNTIME_ID}")
    usage = trees.cgroup / "cpuacct/docker" / RUNTIME_ID / "cpuacct.usage"
    usage.unlink()
    os.mkfifo(usage)
    sampler = Sampler(
        lambda: [target()],
        interval_s=0.05,
        cgroup_root=trees.cgroup,
        proc=trees.proc,
        disks={"data": tmp_path},
        round_limit_s=0.1,
    )
    with capture_logs() as lines:
        async with running(sampler) as batches:
            await asyncio.sleep(0.5)
            assert not batches
            assert sum(thread.name == "sampler" for thread in threading.enumerate()) == 1
            fd = os.open(usage, os.O_RDWR | os.O_NONBLOCK)
            os.write(fd, b"1\n")
            await until(lambda: batches)
            os.close(fd)
    assert len(lines) == 1
    assert "took longer than 0.1 s" in lines[0]["cause"]


async def test_its_thread_ends_with_it() -> None:
    async with running(Sampler(list, interval_s=60)) as batches:
        await until(lambda: batches)
    await until(lambda: all(thread.name != "sampler" for thread in threading.enumerate()))
