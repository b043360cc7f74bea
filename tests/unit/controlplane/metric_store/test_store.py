"""Usage in, points out: through the clock, restarts and damage."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import records
from agent.controlplane.metric_store import catalogue, facts, scopes
from agent.controlplane.metric_store.roll_up import Facts
from agent.controlplane.metric_store.store import FRESH_S, MetricStore, MetricsUnavailable
from agent.controlplane.records import InstanceRecord, TaskRecord
from agent.controlplane.store.contract import Put, StoreUnavailable
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import MIB, HostResources, Needs
from agent.model.statistics import StatisticSet, one
from agent.model.usage import HostUsage, TaskUsage, Usage
from tests.unit.controlplane.metric_store.test_roll_up import fact, host, usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BEGIN_S = 1_700_000_040.0
"""The first second of a minute."""
FACTS = Facts(tasks=[fact(1), fact(2)], hosts=[host()])
WEB = scopes.service("c", "web")


class Clock:
    """Says what a test says."""

    now = BEGIN_S + 30

    def __call__(self) -> float:
        return self.now


async def read_facts() -> Facts:
    return FACTS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[MetricStore]:
    opened = await MetricStore.open(None, read_facts, clock=clock)
    yield opened
    await opened.close()


async def values(store: MetricStore, **more: Any) -> list[tuple[int, float]]:
    asked: dict[str, Any] = {"scope": WEB, "metric": catalogue.CPU_UTILIZED} | more
    found = await store.points(asked["scope"], asked["metric"], BEGIN_S - 3600, BEGIN_S + 36000)
    return [(int(point.at * 60 - BEGIN_S), point.values.average) for point in found]


async def test_usage_becomes_a_point_of_its_minute(store: MetricStore, clock: Clock) -> None:
    for second, units in ((15, 100.0), (35, 200.0), (55, 300.0), (75, 400.0)):
        clock.now = BEGIN_S + second
        store.take("i", Usage(tasks=[usage(1, units)]))
    # 55 is of the seconds from 35 to 55; 75 as well is of the next minute by ten seconds.
    clock.now = BEGIN_S + 80
    await store.close_minutes()
    assert await values(store) == [(0, 200.0), (60, 400.0)]
    clock.now = BEGIN_S + 131
    await store.close_minutes()
    await store.close_minutes()
    assert await values(store) == [(0, 200.0), (60, 400.0)]


async def test_the_open_minute_is_seen_as_it_is(store: MetricStore, clock: Clock) -> None:
    store.take("i", Usage(tasks=[usage(1, 100.0)]))
    assert await values(store) == [(0, 100.0)]
    clock.now += 20
    store.take("i", Usage(tasks=[usage(1, 200.0)]))
    assert await values(store) == [(0, 150.0)]


async def test_what_ends_has_no_points(store: MetricStore, clock: Clock) -> None:
    for minute in range(5):
        clock.now = BEGIN_S + 60 * minute + 30
        if minute < 2:
            store.take("i", Usage(tasks=[usage(1, 100.0)]))
        await store.close_minutes()
    assert await values(store) == [(0, 100.0), (60, 100.0)]
    running = await values(store, metric=catalogue.RUNNING_TASKS)
    assert [at for at, _ in running] == [0, 60, 120, 180]


async def test_minutes_go_on_after_the_clock_was_set_back(store: MetricStore, clock: Clock) -> None:
    right_s = clock.now
    clock.now += 24 * 3600
    store.take("i", Usage(tasks=[usage(1, 900.0)]))
    await store.close_minutes()
    clock.now += 60
    await store.close_minutes()
    assert store.newest("i", "arn:1") is not None
    for minute in range(5):
        clock.now = right_s + 60 * minute
        await store.close_minutes()
    running = await values(store, metric=catalogue.RUNNING_TASKS)
    assert [at for at, _ in running] == [0, 60, 120, 180], "also minutes without usage"
    assert store.newest("i", "arn:1") is None, "that was before"
    assert store._newest == {}


async def test_the_newest_usage_of_a_task_and_a_host(store: MetricStore, clock: Clock) -> None:
    told = Usage(host=HostUsage(cpu_units=one(5.0)), tasks=[usage(1, 100.0)])
    store.take("i", told)
    newest, of_host = store.newest("i", "arn:1"), store.newest_host("i")
    assert newest == (clock.now, told.tasks[0])
    assert of_host == (clock.now, told.host)
    assert store.newest("j", "arn:1") is None
    clock.now += FRESH_S + 1
    assert store.newest("i", "arn:1") is None
    assert store.newest_host("i") is None
    await store.close_minutes()
    assert store._newest == {}


async def test_utilization_of_a_set_of_tasks(store: MetricStore, clock: Clock) -> None:
    for minute, units in enumerate((64.0, 128.0, 192.0)):
        clock.now = BEGIN_S + 60 * minute + 30
        tasks = [usage(1, units, mib=10), usage(2, 0.0, mib=30)]
        store.take("i", Usage(tasks=tasks[: 2 - minute // 2]))
        await store.close_minutes()
    clock.now += 60
    await store.close_minutes()
    placed = [
        TaskRecord(
            id=name,
            arn=f"arn:{name}",
            cluster="c",
            task_definition_arn="d",
            family="f",
            revision=1,
        )
        for name in ("1", "2", "3")
    ]
    found = await store.utilization(placed, minutes=3)
    # Of five task minutes: 384 of 5 x 256 units, 90 of 5 x 100 MiB.
    assert found.cpu_percent == pytest.approx(30.0)
    assert found.memory_percent == pytest.approx(18.0)
    assert found.tasks == 2
    assert await store.utilization(placed[2:]) == (None, None, 0)


async def test_nothing_is_lost_when_control_stops(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "metrics.db"
    store = await MetricStore.open(path, read_facts, clock=clock)
    store.take("i", Usage(tasks=[usage(1, 100.0)]))
    await store.close()
    clock.now += 200
    store = await MetricStore.open(path, read_facts, clock=clock)
    assert await values(store) == [(0, 100.0)]
    await store.close()


async def test_damage_costs_figures_alone(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "metrics.db"
    path.write_bytes(b"this is not a database" * 1000)
    store = await MetricStore.open(path, read_facts, clock=clock)
    store.take("i", Usage(tasks=[usage(1, 100.0)]))
    clock.now += 60
    await store.close_minutes()
    assert await values(store) == [(0, 100.0)]
    await store.close()
    assert path.with_name("metrics.db.damaged").exists()
    assert path.read_bytes().startswith(b"SQLite format 3")
    # A place that cannot be used at all.
    store = await MetricStore.open(tmp_path / "missing" / "metrics.db", read_facts, clock=clock)
    store.take("i", Usage(tasks=[usage(1, 100.0)]))
    assert (await values(store))[-1] == (60, 100.0)
    await store.close()


async def test_a_store_that_cannot_be_read_costs_a_minute(clock: Clock) -> None:
    failures = itertools.chain([StoreUnavailable("gone")], itertools.repeat(None))

    async def read() -> Facts:
        if (failure := next(failures)) is not None:
            raise failure
        return FACTS

    store = await MetricStore.open(None, read, clock=clock)
    for minute in range(3):
        clock.now = BEGIN_S + 60 * minute + 30
        store.take("i", Usage(tasks=[usage(1, 100.0 + minute)]))
        if minute:
            await store.close_minutes()
    assert await values(store) == [(60, 101.0), (120, 102.0)]
    await store.close()


async def test_a_file_that_cannot_be_used_is_a_failure_of_a_store(
    tmp_path: Path, clock: Clock
) -> None:
    store = await MetricStore.open(tmp_path / "metrics.db", read_facts, clock=clock)
    await store._do(store._file.close)
    for call in (store.minute([scopes.cluster("c")], 1), store.listed(None, 1)):
        with pytest.raises(MetricsUnavailable):
            await call
    store.take("i", Usage(tasks=[usage(1, 100.0)]))
    clock.now += 120
    await store.close_minutes()  # costs a minute
    await store.close()


async def test_an_agent_that_names_tasks_without_end(store: MetricStore) -> None:
    for number in range(3):
        tasks = [TaskUsage(task_arn=f"arn:{number}-{n}") for n in range(1500)]
        store.take("i", Usage(tasks=tasks))
    assert len(store._newest["i"]) == 2000


async def test_facts_are_those_of_controls_store(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "control.db")
    instance = InstanceRecord(
        id="i",
        arn="arn:i",
        cluster="c",
        client_token="t",
        ec2_instance_id="i-1",
        resources=HostResources(cpu_units=2048, memory_mib=1000),
    )
    task = TaskRecord(
        id="1",
        arn="arn:1",
        cluster="c",
        task_definition_arn="d",
        family="f",
        revision=1,
        instance_id="i",
        last_status="RUNNING",
        group="service:web",
        needs=Needs(cpu_units=256, memory_mib=100),
    )
    gone = InstanceRecord(
        id="j",
        arn="arn:j",
        cluster="c",
        client_token="t",
        status="INACTIVE",
        resources=instance.resources,
    )
    await store.txn(
        [],
        [
            Put(records.instance_key("c", "i"), records.encode(instance)),
            Put(records.instance_key("c", "j"), records.encode(gone)),
            Put(records.task_key("c", "1"), records.encode(task)),
        ],
    )
    expected = host(ec2_instance_id="i-1", cpu_reserved=256, memory_reserved=100, running_tasks=1)
    assert await facts.read(store) == Facts(tasks=[fact(1)], hosts=[expected])
    await store.close()
    assert facts.service_of("family:web") == ""
    assert StatisticSet(0, 0, 0, 1).times(MIB) == StatisticSet(0, 0, 0, 1)
