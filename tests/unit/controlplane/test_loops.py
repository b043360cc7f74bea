"""No loop of control ends when its store, or the file of figures, fails for a while: the others would end with it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import records
from agent.controlplane.agents.wakeups import WakeUps
from agent.controlplane.api.ecs import operations
from agent.controlplane.discovery.loop import RegistrationLoop
from agent.controlplane.host_scaling.hooks import HostHooks
from agent.controlplane.host_scaling.loop import HostScalingLoop
from agent.controlplane.iam.directory import Directory
from agent.controlplane.iam.user_records import USERS, sealed_kinds
from agent.controlplane.janitor import Janitor
from agent.controlplane.metric_store import facts
from agent.controlplane.metric_store.store import MetricStore
from agent.controlplane.parts import Parts
from agent.controlplane.scaling.action_loop import ActionLoop
from agent.controlplane.scaling.alarm_loop import AlarmLoop
from agent.controlplane.scaling.loop import ScalingLoop
from agent.controlplane.scaling.target import TARGETS
from agent.controlplane.schedules.loop import ScheduleLoop
from agent.controlplane.schedules.record import SCHEDULES
from agent.controlplane.secrets.keeper import SecretKeeper
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.store.contract import Put, StoreFailure, StoreFull, StoreUnavailable
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

WAIT_S = 60.0


class FailingWatch:
    """A watch that ends when its store fails, as the real one does when the store is closed."""

    def __init__(self, store: FailingStore, watch: Any) -> None:
        self._store = store
        self._watch = watch

    async def __aenter__(self) -> FailingWatch:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> FailingWatch:
        return self

    async def __anext__(self) -> Any:
        self._store.check()
        batch = await self._watch.__anext__()
        self._store.check()
        return batch

    async def aclose(self) -> None:
        await self._watch.aclose()


class FailingStore:
    """A real store whose calls fail while it is told to."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.failure: StoreFailure | None = None
        self.refused = 0

    def check(self) -> None:
        if self.failure is not None:
            self.refused += 1
            raise self.failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, *given: Any) -> Any:
        self.check()
        return await self._store.get(*given)

    async def get_many(self, *given: Any) -> Any:
        self.check()
        return await self._store.get_many(*given)

    async def range(self, *given: Any, **more: Any) -> Any:
        self.check()
        return await self._store.range(*given, **more)

    async def txn(self, *given: Any, **more: Any) -> Any:
        self.check()
        return await self._store.txn(*given, **more)

    async def compact(self, *given: Any) -> None:
        self.check()
        await self._store.compact(*given)

    def watch(self, *given: Any, **more: Any) -> Any:
        return FailingWatch(self, self._store.watch(*given, **more))


class Control:
    """What the loops of a control endpoint are made of."""

    def __init__(self, store: FailingStore, metrics: MetricStore, folder: Path) -> None:
        self.store = store
        self.parts = Parts(store=store, metrics=metrics)
        self.metrics = metrics
        self.folder = folder

    async def directory(self) -> Directory:
        keeper = await SecretKeeper.open(
            self.parts.store, self.folder / "secrets.keys", sealed_kinds()
        )
        return await Directory.open(self.parts.store, keeper, self.parts.names)

    async def touch(self) -> None:
        """Change something that every loop hears of."""
        of_hosts = (records.TASKS, records.ASSIGNMENTS, records.INSTANCES)
        for prefix in (USERS, SCHEDULES, TARGETS, *of_hosts):
            await self.store._store.txn([], [Put(f"{prefix}default/{random.random()}", b"{}")])


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    inner = await SqliteStore.open(tmp_path / "control.db")
    store = FailingStore(inner)
    metrics = await MetricStore.open(tmp_path / "metrics.db", lambda: facts.read(inner))
    made = Control(store, metrics, tmp_path)
    handlers = operations.handlers()
    await handlers["CreateCluster"](made.parts, {})
    await handlers["RegisterTaskDefinition"](made.parts, definition())
    await handlers["CreateService"](
        made.parts, {"serviceName": "shop", "taskDefinition": "web", "desiredCount": 1}
    )
    yield made
    store.failure = None
    await metrics.close()
    await inner.close()


LOOPS: dict[str, Callable[[Control], Any]] = {
    "services": lambda one: ServiceLoop(one.parts),
    "schedules": lambda one: ScheduleLoop(one.parts),
    "scheduled actions": lambda one: ActionLoop(one.parts),
    "names of tasks": lambda one: RegistrationLoop(one.parts.store, one.parts.names),
    "janitor": lambda one: Janitor(one.parts, round_s=0.05),
    "wake-ups": lambda one: WakeUps(one.parts.store),
    "managed scaling": lambda one: HostScalingLoop(one.parts, HostHooks(None, {}), one.folder),
}


async def survives(control: Control, loop: Any, failure: StoreFailure) -> None:
    """Run a loop while its store works, then fails, then works again."""
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0.1)
    control.store.failure = failure
    async with asyncio.timeout(WAIT_S):
        while not control.store.refused:
            await control.touch()
            await asyncio.sleep(0.05)
    control.store.failure = None
    await control.touch()
    await asyncio.sleep(0.1)
    is_done = running.done()
    running.cancel()
    found = await asyncio.gather(running, return_exceptions=True)
    assert not is_done, found


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), StoreFull("full")], ids=repr)
@pytest.mark.parametrize("name", LOOPS)
async def test_a_loop_goes_on_when_the_store_fails(
    control: Control, name: str, failure: StoreFailure
) -> None:
    await survives(control, LOOPS[name](control), failure)


async def test_users_go_on_when_the_store_fails(control: Control) -> None:
    await survives(control, await control.directory(), StoreUnavailable("gone"))


@pytest.mark.parametrize("make", [ScalingLoop, AlarmLoop])
@pytest.mark.parametrize("what", ["store", "figures"])
async def test_a_loop_of_minutes_goes_on_when_store_or_figures_fail(
    control: Control, make: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make(control.parts, control.metrics)
    asked = asyncio.Event()

    async def look(minute: int) -> None:
        asked.set()
        if what == "store":
            await control.parts.store.get("/any")
        else:
            await control.metrics.minute([], minute)

    monkeypatch.setattr(loop, "decide" if make is ScalingLoop else "look", look)
    running = asyncio.create_task(loop.run())
    if what == "store":
        control.store.failure = StoreFull("full")
    else:
        monkeypatch.setattr(control.metrics._file, "rows", locked)
    for minute in (10, 11):
        asked.clear()
        async with control.metrics._keeping:
            control.metrics._kept = minute
            control.metrics._keeping.notify_all()
        async with asyncio.timeout(WAIT_S):
            await asked.wait()
        await asyncio.sleep(0.05)
    is_done = running.done()
    running.cancel()
    found = await asyncio.gather(running, return_exceptions=True)
    assert not is_done, found


def locked(*_: object) -> None:
    raise sqlite3.OperationalError("database is locked")
