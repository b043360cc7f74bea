"""Events of what control commits: their shapes, their order, and from where a reader resumes."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane import records
from agent.controlplane.events.changes import Changes
from agent.controlplane.events.feed import OLDEST, EventFeed
from agent.controlplane.names import Names
from agent.controlplane.records import ContainerRecord, InstanceRecord, TaskRecord
from agent.controlplane.services.record import EventRecord, EventsRecord
from agent.controlplane.store.contract import Delete, Event, KeyValue, Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import HostResources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.events.envelope import Envelope
    from agent.controlplane.store.contract import Op

NAMES = Names()
T0 = 1_700_000_000.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "control.db")
    await opened.txn([], [Put(records.CONTROL_ID_KEY, b"id")])
    yield opened
    await opened.close()


def task(version: int = 1, **more: Any) -> TaskRecord:
    values: dict[str, Any] = {
        "id": "0" * 32,
        "arn": NAMES.task("default", "0" * 32),
        "cluster": "default",
        "task_definition_arn": NAMES.task_definition("web", 1),
        "family": "web",
        "revision": 1,
        "containers": [ContainerRecord(name="main", arn="c", memory=64)],
        "created_at": T0,
        "version": version,
    }
    return TaskRecord(**(values | more))


def instance() -> InstanceRecord:
    return InstanceRecord(
        id="i",
        arn=NAMES.instance("default", "i"),
        cluster="default",
        resources=HostResources(cpu_units=1024, memory_mib=512),
        client_token="t",
    )


def put(record: TaskRecord) -> Put:
    return Put(records.task_key(record.cluster, record.id), records.encode(record))


async def read(store: SqliteStore, *, after: int | None, until: int) -> list[tuple[int, Envelope]]:
    """Everything up to a revision."""
    found: list[tuple[int, Envelope]] = []
    async with EventFeed(store, NAMES, lambda: T0 + 100, after=after) as feed:
        place = OLDEST
        while place < until:
            async with asyncio.timeout(40):
                batch = await feed.next()
            found += batch.events
            place = batch.place
    return found


async def commit(store: SqliteStore, *ops: Op) -> int:
    return (await store.txn([], list(ops))).revision


async def test_a_task_has_the_envelope_and_the_detail_of_amazon_ecs(store: SqliteStore) -> None:
    start = store.revision
    end = await commit(store, put(task(started_by="me", enable_execute_command=False)))
    ((place, event),) = await read(store, after=start, until=end)
    assert place == end
    assert (event.version, event.source, event.detail_type) == (
        "0",
        "aws.ecs",
        "ECS Task State Change",
    )
    assert (event.account, event.region) == (NAMES.account, NAMES.region)
    assert event.resources == [NAMES.task("default", "0" * 32)]
    detail = event.detail
    assert (detail["lastStatus"], detail["desiredStatus"], detail["version"]) == (
        "PENDING",
        "RUNNING",
        1,
    )
    assert detail["createdAt"] == "2023-11-14T22:13:20.000Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event.time)
    # What has no value is absent, and so is health where nothing checks it.
    assert not {"stoppedAt", "healthStatus", "stopCode"} & set(detail)
    assert set(detail["containers"][0]) == {
        "containerArn", "taskArn", "name", "image", "lastStatus", "networkBindings",
        "networkInterfaces", "cpu", "memory",
    }  # fmt: skip
    assert None not in detail.values()


async def test_a_reader_resumes_behind_any_event_and_misses_nothing(store: SqliteStore) -> None:
    start = store.revision
    for version in range(1, 6):
        # Two tasks in each commit.
        other = task(version, id="1" * 32, arn=NAMES.task("default", "1" * 32))
        end = await commit(store, put(task(version)), put(other))
    whole = await read(store, after=start, until=end)
    assert len(whole) == 10
    for at, (place, _) in enumerate(whole[:-1]):
        rest = await read(store, after=place, until=end)
        behind = [event for _, event in whole[at + 1 :]]
        assert [event.id for event in behind] == [event.id for _, event in rest][-len(behind) :]
        assert len(rest) - len(behind) <= 1, "at most one of the same commit comes again"


async def test_only_what_is_shown_is_an_event(store: SqliteStore) -> None:
    start = store.revision
    await commit(store, put(task(1)))
    await commit(store, put(task(1, counted=True)))
    await commit(store, Put("/placement/x", b""))
    await commit(store, put(task(2, last_status="RUNNING")))
    end = await commit(store, Delete(records.task_key("default", "0" * 32)))
    events = [event for _, event in await read(store, after=start, until=end)]
    assert [event.detail["version"] for event in events] == [1, 2]


async def test_an_instance_tells_its_connection_and_its_tasks(store: SqliteStore) -> None:
    record = instance()
    start = store.revision
    await commit(store, Put(records.instance_key("default", "i"), records.encode(record)))
    lease = await store.grant_lease(60)
    await commit(store, Put(records.alive_key("i"), b"{}", lease))
    end = await commit(store, Put(records.alive_key("i"), b'{"generation": 2}', lease))
    events = [event for _, event in await read(store, after=start, until=end)]
    # One batch of history is one event: what the instance is now.
    (event,) = events
    assert event.detail_type == "ECS Container Instance State Change"
    assert event.detail["agentConnected"] is True
    assert event.detail["clusterArn"] == NAMES.cluster("default")
    await store.revoke_lease(lease)
    ((_, event),) = await read(store, after=end, until=store.revision)
    assert event.detail["agentConnected"] is False
    assert event.detail["version"] == store.revision


async def test_what_is_compacted_is_a_gap_unless_all_that_is_kept_is_wanted(
    store: SqliteStore,
) -> None:
    start = store.revision
    middle = await commit(store, put(task(1)))
    end = await commit(store, put(task(2)))
    await store.compact(middle)
    for after, is_gap in ((start, True), (OLDEST, False)):
        async with EventFeed(store, NAMES, time.time, after=after) as feed:
            first = await feed.next()
            assert (first.is_gap, first.place, first.events) == (is_gap, middle, [])
            second = await feed.next()
            assert [place for place, _ in second.events] == [end]


async def test_a_host_that_came_in_a_gap_is_known(store: SqliteStore) -> None:
    start = store.revision
    await commit(store, put(task(1)))
    async with EventFeed(store, NAMES, time.time, after=start) as feed:
        await commit(store, Put(records.instance_key("default", "i"), records.encode(instance())))
        await store.compact(store.revision)
        assert (await feed.next()).is_gap
        lease = await store.grant_lease(60)
        await commit(store, Put(records.alive_key("i"), b"{}", lease))
        async with asyncio.timeout(40):
            ((_, event),) = (await feed.next()).events
        assert event.resources == [instance().arn]


def _kv(version: int, record: EventsRecord) -> Event:
    return Event(
        "put", KeyValue("/service-events/c/web", records.encode(record), 1, version, version)
    )


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 7))
def test_each_event_of_a_service_is_told_once_and_in_order(counts: list[int], begins: int) -> None:
    """Also by a reader that begins in the middle: from its first commit on."""
    changes = Changes(NAMES)
    kept: list[EventRecord] = []
    told: list[float] = []
    expected: list[float] = []
    for number, count in enumerate(counts):
        new = [
            EventRecord(id=f"{number}-{n}", at=float(number), message="(service web) has reached a steady state.")
            for n in range(count)
        ]  # fmt: skip
        kept = [*reversed(new), *kept][:5]
        if number >= begins:
            happened = changes.of([_kv(number + 1, EventsRecord(events=kept))], 0.0, is_past=False)
            told += [draft.at for draft in happened.drafts]
            expected += [one.at for one in new]
    assert told == expected
