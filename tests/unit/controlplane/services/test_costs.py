"""What a change costs depends on what has changed, not on how many services there are: work is counted, not timed."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from agent.controlplane import records
from agent.controlplane.services.record import LOST_AFTER_S
from agent.controlplane.services.step import step
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.many_services import RACK_HOSTS, TASKS, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.controlplane.store.contract import Store

STEP = "agent.controlplane.services.loop.step"
HOSTS = 50
FEW, MANY = 10, 50
MORE = 1.05
"""How much more may be done with many services than with few: hosts are chosen at random, so paths differ a little."""


class Work(NamedTuple):
    """What the loop did."""

    steps: int
    """Of services."""
    rows: int
    """Read from the store."""
    decoded: int
    """Records."""
    lines: int
    """Of control's code that ran."""


class Meter:
    """Counts the work of the loop while it does something."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self._steps = self._rows = self._decoded = self._lines = 0
        decode, get, get_many, range_ = records.decode, store.get, store.get_many, store.range

        def decoded(kind: Any, kv: Any) -> Any:
            self._decoded += 1
            return decode(kind, kv)

        def stepped(*args: Any) -> Any:
            self._steps += 1
            return step(*args)

        async def got(key: str) -> Any:
            self._rows += 1
            return await get(key)

        async def got_many(keys: Any) -> Any:
            found = await get_many(keys)
            self._rows += len(found)
            return found

        async def ranged(*args: Any, **more: Any) -> Any:
            found = await range_(*args, **more)
            self._rows += len(found.items)
            return found

        patch.setattr(records, "decode", decoded)
        patch.setattr(STEP, stepped)
        for name, counting in (("get", got), ("get_many", got_many), ("range", ranged)):
            patch.setattr(store, name, counting)

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if f"{os.sep}controlplane{os.sep}" not in frame.f_code.co_filename:
            return None
        self._lines += event == "line"
        return self._trace

    async def of(self, work: Callable[[], Awaitable[None]]) -> Work:
        """Return what something costs."""
        self._steps = self._rows = self._decoded = self._lines = 0
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            await work()
        finally:
            sys.settrace(before)
        return Work(self._steps, self._rows, self._decoded, self._lines)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await SqliteStore.open(tmp_path / "control.db")
    made = World(store, time.time())
    await made.begin(HOSTS)
    yield made
    await store.close()


async def costs(world: World, meter: Meter) -> dict[str, Work]:
    """Return what changes of the first services and of a host of theirs cost the loop."""
    found = {}
    name, settle = world.services[0], world.loop.settle

    async def changed(what: str) -> None:
        found[what] = await meter.of(settle)
        await world.obey(world.services[:RACK_HOSTS])
        await world.steady()

    await world.call("UpdateService", service=name, desiredCount=TASKS + 1)
    await changed("one task more")
    await world.call("UpdateService", service=name, desiredCount=TASKS)
    await changed("one task less")
    await world.report(world.tasks(name)[:1], "STOPPED")
    await changed("a task exits")
    found["nothing"] = await meter.of(settle)
    return found


async def test_a_change_costs_the_same_however_many_services_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(world.parts.store, monkeypatch)
    await world.grow(FEW)
    few = await costs(world, meter)
    await world.grow(MANY)
    many = await costs(world, meter)
    assert few["one task more"].steps >= 2
    for what, least in few.items():
        most = many[what]
        assert most[:3] == least[:3], what
        assert most.lines <= MORE * least.lines, (what, least, most)
    assert many["nothing"][:3] == (0, 0, 0)


async def test_a_lost_host_only_wakes_the_services_that_have_tasks_on_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.grow(MANY)
    stepped: set[str] = set()

    def noted(service: Any, *args: Any) -> Any:
        stepped.add(service.name)
        return step(service, *args)

    monkeypatch.setattr(STEP, noted)
    host = world.tasks(world.services[0])[0].instance_id
    there = {name for name in world.services for t in world.tasks(name) if t.instance_id == host}
    await world.lose(host)
    await world.loop.settle()
    world.now += LOST_AFTER_S + 1
    await world.loop.settle()
    assert stepped == there
    await world.obey(there)
    await world.steady()
    assert await world.is_whole()
