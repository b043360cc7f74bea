"""What a change costs control, and an idle minute, with a thousand services of ten tasks on a thousand hosts.

Costs are processor time of the process, all threads, and never elapsed time.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.controlplane.services.record import LOST_AFTER_S
from agent.controlplane.store.sqlite import SqliteStore
from tests.bench.idle_control import idle_minute
from tests.bench.measures import Row
from tests.support.many_services import HOSTS, RACK_HOSTS, TASKS, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SIZES: Final = (10, 100, 1000)
LIMIT: Final = 2.0
"""How many times as much as with the fewest services a change may cost with the most."""
_LOSSES: Final = 7
_BACK_S: Final = 5 * 3600.0
"""The simulated time begins so long ago, so that control's clock does not go back afterwards."""


class Costs(NamedTuple):
    """Milliseconds of processor time."""

    scaled: float
    """``UpdateService`` with one task more, until the task runs."""
    exited: float
    """A task exits, until its successor runs."""
    lost: float
    """A host is lost, until the successors of its tasks run; for each task."""
    nothing: float
    """The loop looks, and nothing has changed."""


async def measured(directory: Path, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Return the rows of the table."""
    store = await SqliteStore.open(directory / "control.db")
    try:
        world = World(store, time.time() - _BACK_S)
        await world.begin()
        costs: dict[int, Costs] = {}
        for size in SIZES:
            began = time.monotonic()
            await world.grow(size)
            say(f"{size} services of {TASKS} tasks run after {time.monotonic() - began:.1f} s")
            costs[size] = await _costs(world, rounds)
            say(f"{size} services: {costs[size]}")
        assert await world.is_whole(), "a service has too few tasks or too many"
        hosts = list(world.leases)
    finally:
        await store.close()
    return [*_rows(costs), *await idle_minute(directory, hosts, say)]


async def _costs(world: World, rounds: int) -> Costs:
    scaled, exited, lost, nothing = [], [], [], []
    for number in range(rounds):
        name = world.services[number % RACK_HOSTS]
        scaled.append(await _cost(partial(_scale, world, name, TASKS + 1)))
        await _scale(world, name, TASKS)
        await world.steady()
        exited.append(await _cost(partial(_exit, world, name)))
        await world.steady()
        nothing.append(await _cost(world.loop.settle))
    for _ in range(_LOSSES):
        host = max(
            (
                task.instance_id
                for name in world.services[:RACK_HOSTS]
                for task in world.tasks(name)
            ),
            key=lambda id_: len(_tasks_on(world, id_)),
        )
        count = len(_tasks_on(world, host))
        lost.append(await _cost(partial(_lose, world, host)) / count)
        await world.find(host)
        await world.obey(world.services[:RACK_HOSTS])
        await world.steady()
    return Costs(median(scaled), median(exited), median(lost), median(nothing))


async def _scale(world: World, name: str, desired: int) -> None:
    await world.call("UpdateService", service=name, desiredCount=desired)
    await world.loop.settle()
    await world.obey([name])
    await world.loop.settle()


async def _exit(world: World, name: str) -> None:
    await world.report(world.tasks(name)[:1], "STOPPED")
    await world.loop.settle()
    await world.obey([name])
    await world.loop.settle()


async def _lose(world: World, host: str) -> None:
    await world.lose(host)
    await world.loop.settle()
    world.now += LOST_AFTER_S + 1
    await world.loop.settle()
    await world.obey(world.services[:RACK_HOSTS])
    await world.loop.settle()


def _tasks_on(world: World, host: str) -> list[str]:
    names = world.services[:RACK_HOSTS]
    return [task.id for name in names for task in world.tasks(name) if task.instance_id == host]


async def _cost(work: Callable[[], Awaitable[None]]) -> float:
    """Return the milliseconds of processor time that something takes."""
    await asyncio.sleep(0)
    began = time.process_time()
    await work()
    return (time.process_time() - began) * 1000


def _rows(costs: dict[int, Costs]) -> list[Row]:
    least, most = SIZES[0], SIZES[-1]
    names = {
        "scaled": "`UpdateService` with one task more, until it runs",
        "exited": "a task exits, until its successor runs",
        "lost": "a host is lost, until the successors of its tasks run, each",
        "nothing": "the loop looks, and nothing has changed",
    }
    rows = []
    for name, what in names.items():
        few, many = getattr(costs[least], name), getattr(costs[most], name)
        between = " / ".join(f"{getattr(costs[size], name):.2f}" for size in SIZES)
        rows.append(
            Row(
                f"{what}: CPU with {' / '.join(map(str, SIZES))} services on {HOSTS} hosts",
                f"{between} ms",
                f"{few:.2f} ms ({least} services)",
                many / few,
                f"≤ {LIMIT:.2f}×",
                many / few <= LIMIT,
            )
        )
    return rows
