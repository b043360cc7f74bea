"""When the guard looks, and what it tells."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from agent.errors import NetworkFailure
from agent.network.host.kernel_messages import EVERYTHING, FOR_EACH_TASK, Part
from agent.network.host.repair_loop import (
    CALM_S,
    WHOLE_EVERY,
    RepairLoop,
    RepairResult,
    Suspicions,
    pause_s,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sized


class Looks:
    """Plays the look: notes what it is asked for and answers as told."""

    def __init__(self) -> None:
        self.asked: list[Part] = []
        self.answers: list[RepairResult | NetworkFailure] = []

    async def __call__(self, parts: Part) -> RepairResult:
        self.asked.append(parts)
        answer = self.answers.pop(0) if self.answers else RepairResult([])
        if isinstance(answer, NetworkFailure):
            raise answer
        return answer


@contextlib.asynccontextmanager
async def running(guard: RepairLoop) -> AsyncIterator[None]:
    run = asyncio.create_task(guard.run())
    try:
        yield
    finally:
        run.cancel()
        await asyncio.wait([run])


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - several things at once
            await asyncio.sleep(0.005)


def longer(things: Sized, than: int) -> bool:
    return len(things) > than


async def test_what_comes_in_one_breath_is_one_look_and_one_line() -> None:
    looks = Looks()
    looks.answers = [RepairResult(["bridge br was gone", "3 links were off the bridge"])]
    suspicions = Suspicions()
    guard = RepairLoop(looks, suspicions, interval_s=60)
    with capture_logs() as logs:
        async with running(guard):
            suspicions.add(Part.BRIDGE)
            await asyncio.sleep(0)
            suspicions.add(Part.PORTS)
            await until(lambda: guard.repairs)
            await asyncio.sleep(2 * CALM_S)
    assert looks.asked == [Part.BRIDGE | Part.PORTS]
    (line,) = logs
    assert line["found"] == "bridge br was gone; 3 links were off the bridge"
    assert line["noticed"] == "at once"
    assert guard.repairs[0].found == "bridge br was gone; 3 links were off the bridge"
    assert guard.problem == ""


async def test_without_news_the_links_of_all_tasks_are_looked_at_each_fourth_time() -> None:
    looks = Looks()
    async with running(RepairLoop(looks, Suspicions(), interval_s=0.01)):
        await until(lambda: len(looks.asked) >= 2 * WHOLE_EVERY)
    few = EVERYTHING & ~FOR_EACH_TASK
    assert few == Part.RULES | Part.FLEET | Part.FORWARDING | Part.AGENT_ADDRESS
    assert looks.asked[: 2 * WHOLE_EVERY] == [*[few] * (WHOLE_EVERY - 1), EVERYTHING] * 2


async def test_a_look_that_fails_is_repeated_and_its_problem_told_once() -> None:
    looks = Looks()
    looks.answers = [
        NetworkFailure("no memory"),
        RepairResult(["bridge br was gone"], "no memory"),
        RepairResult(["link a was down"]),
    ]
    suspicions = Suspicions()
    guard = RepairLoop(looks, suspicions, interval_s=60)
    with capture_logs() as logs:
        async with running(guard):
            suspicions.add(Part.PORTS)
            await until(lambda: guard.problem)
            assert "no memory" in guard.problem
            await until(lambda: len(guard.repairs) == 2)
            assert guard.problem == ""
    assert looks.asked == [Part.PORTS] * 3
    assert [line["event"] for line in logs] == [
        "task networks not repaired",
        "task networks were changed by others; repaired",
        "task networks were changed by others; repaired",
    ]


async def test_the_same_repair_again_is_counted_and_not_logged() -> None:
    looks = Looks()
    looks.answers = [RepairResult(["link a was down"])] * 3
    suspicions = Suspicions()
    guard = RepairLoop(looks, suspicions, interval_s=60)
    with capture_logs() as logs:
        async with running(guard):
            for n in range(3):
                suspicions.add(Part.PORTS)
                await until(partial(longer, guard.repairs, n))
    assert len(guard.repairs) == 3
    assert len(logs) == 1


async def test_looks_that_find_nothing_cost_no_patience() -> None:
    looks = Looks()
    suspicions = Suspicions()
    guard = RepairLoop(looks, suspicions, interval_s=60)
    async with running(guard):
        for n in range(25):
            suspicions.add(Part.PORTS)
            await until(partial(longer, looks.asked, n))
        looks.answers = [RepairResult(["link a was down"])]
        suspicions.add(Part.PORTS)
        await until(lambda: guard.repairs)


@pytest.mark.parametrize(
    ("repairs", "wait_s"), [(0, CALM_S), (20, CALM_S), (21, 0.2), (24, 1.6), (28, 15), (9999, 15)]
)
def test_who_breaks_it_time_and_again_is_answered_ever_more_slowly(
    repairs: int, wait_s: float
) -> None:
    assert pause_s(repairs, 15.0) == pytest.approx(wait_s)
