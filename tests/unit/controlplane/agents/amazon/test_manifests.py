"""Timelines that only grow, and rows that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.agents.amazon.manifests import Manifests
from agent.controlplane.history import History
from agent.controlplane.parts import Parts
from agent.controlplane.records import AssignRecord, InstanceRecord, TaskRecord
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import HostResources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

INSTANCE = InstanceRecord(
    id="i1",
    arn="arn:aws:ecs:us-east-1:000000000000:container-instance/default/i1",
    cluster="default",
    resources=HostResources(cpu_units=1024, memory_mib=1024),
    client_token="t",
)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(tmp_path / "control.db")
    key = records.instance_key("default", "i1")
    await store.txn([], [Put(key, records.encode(INSTANCE))])
    yield Parts(store=store, clock=Clock())
    await store.close()


def manifests_of(parts: Parts, history: str = "h1") -> Manifests:
    return Manifests(parts, History(parts.store, "control", history))


async def test_timelines_grow_whatever_the_clock_does(parts: Parts) -> None:
    manifests, clock = manifests_of(parts), parts.clock
    assert isinstance(clock, Clock)
    given = [await manifests.next_timeline(INSTANCE)]
    assert given == [1_000_000_000]
    for moment in (1_000_000.0, 500_000.0, 1_000_001.0):
        clock.now = moment
        given.append(await manifests_of(parts).next_timeline(INSTANCE))
    assert given == [1_000_000_000, 1_000_000_001, 1_000_000_002, 1_000_001_000]
    await parts.store.txn([], [Put(records.manifest_key("i1"), b"junk")])
    assert await manifests.next_timeline(INSTANCE) == 1_000_001_000


async def test_what_cannot_be_read_is_wanted(parts: Parts) -> None:
    manifests, name = manifests_of(parts), parts.names.task
    good = AssignRecord(task_arn=name("default", "t1"), cluster="default", desired_status="STOPPED")
    await parts.store.txn(
        [],
        [
            Put(records.assignment_key("i1", "t1"), records.encode(good)),
            Put(records.assignment_key("i1", "t2"), b"\xffjunk"),
        ],
    )
    rows = (await parts.store.range(records.assignments_prefix("i1"))).items
    assert manifests.wanted(INSTANCE, rows) == [
        (name("default", "t1"), "STOPPED"),
        (name("default", "t2"), "RUNNING"),
    ]
    asked = [name("default", "t1"), name("default", "t2"), name("default", "t3")]
    assert await manifests.unwanted(INSTANCE, asked) == [asked[0], asked[2]]


async def test_a_task_that_should_run_here_is_not_stopped_for_want_of_its_row(
    parts: Parts,
) -> None:
    arn = parts.names.task("default", "t1")
    task = TaskRecord(
        id="t1",
        arn=arn,
        cluster="default",
        task_definition_arn="d",
        family="f",
        revision=1,
        instance_id="i1",
    )
    await parts.store.txn([], [Put(records.task_key("default", "t1"), records.encode(task))])
    assert await manifests_of(parts).unwanted(INSTANCE, [arn]) == []


async def test_what_the_store_may_have_forgotten_is_not_stopped(parts: Parts) -> None:
    arn = parts.names.task("default", "t9")
    of_now, of_before = (replace(INSTANCE, history=history) for history in ("h1", "h0"))
    assert await manifests_of(parts).unwanted(of_now, [arn]) == [arn]
    assert await manifests_of(parts).unwanted(of_before, [arn]) == []
