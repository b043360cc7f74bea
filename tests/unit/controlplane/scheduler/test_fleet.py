"""A fleet that was followed for long is the same as one that was read just now."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from agent.controlplane import records
from agent.controlplane.records import AliveRecord, AttributeRecord, InstanceRecord, TaskRecord
from agent.controlplane.scheduler.fleet import LENT, Fleet
from agent.controlplane.store.contract import Delete, Op, Put, StoreUnavailable
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import Gpu, HostResources, Needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.scheduler.pool import Pool

CLUSTERS = ("one", "two")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "control.db")
    yield opened
    await opened.close()


def an_instance(dice: random.Random, number: int) -> Put:
    cluster, name = CLUSTERS[number % 2], f"i{number}"
    record = InstanceRecord(
        id=name,
        arn=f"arn:{name}",
        cluster=cluster,
        client_token=name,
        status=dice.choice(["ACTIVE", "ACTIVE", "DRAINING", "INACTIVE"]),
        attributes={
            "zone": AttributeRecord(value=dice.choice("xy")),
            **dice.choice([{}, {LENT: AttributeRecord()}]),
        },
        resources=HostResources(
            cpu_units=dice.randint(1000, 2000), memory_mib=4096, gpus=(Gpu(uuid="GPU-0"),)
        ),
    )
    return Put(records.instance_key(cluster, name), records.encode(record))


def a_task(dice: random.Random, number: int) -> Put:
    cluster, name = CLUSTERS[number % 2], f"t{number}"
    record = TaskRecord(
        id=name,
        arn=f"arn:{name}",
        cluster=cluster,
        task_definition_arn="arn:d",
        family="web",
        revision=1,
        instance_id=f"i{dice.choice([0, 2, 4]) + number % 2}",
        last_status=dice.choice(["PENDING", "RUNNING", "STOPPED"]),
        desired_status=dice.choice(["RUNNING", "STOPPED"]),
        group=dice.choice(["a", "b"]),
        needs=Needs(cpu_units=dice.randint(1, 9), tcp_ports=frozenset({dice.randint(1, 9)})),
    )
    return Put(records.task_key(cluster, name), records.encode(record))


def an_op(dice: random.Random, lease: int) -> Op:
    number = dice.randrange(6)
    match dice.randrange(8):
        case 0:
            return an_instance(dice, number)
        case 1:
            key = an_instance(dice, number).key
            return Delete(key) if dice.random() < 0.5 else Put(key, b"{")
        case 2:
            return Put(records.placement_key(f"i{number}"), b"")
        case 3:
            return Delete(records.placement_key(f"i{number}"))
        case 4:
            alive = records.encode(AliveRecord(generation=1))
            return Put(records.alive_key(f"i{number}"), alive, lease)
        case 5:
            key = a_task(dice, number).key
            return Delete(key) if dice.random() < 0.5 else Put(key, b"{")
        case _:
            return a_task(dice, dice.randrange(12))


def content(pool: Pool) -> list[object]:
    """All that a pool says of its hosts."""
    fields = ("cpu", "memory")
    zones = pool.connected.parts("zone")
    return [
        pool.hosts,
        [pool.connected.order_of(field) for field in fields],
        {zone: [part.order_of(field) for field in fields] for zone, part in zones.items()},
        [
            (found.hosts, found.levels, found.by_bucket("attribute:zone", pool.hosts))
            for found in map(pool.group, ("a", "b"))
        ],
    ]


@pytest.mark.parametrize("seed", range(5))
async def test_following_is_reading(store: SqliteStore, seed: int) -> None:
    dice = random.Random(seed)
    followed = Fleet(store)
    lease = await store.grant_lease(60)
    for step in range(150):
        await store.txn([], [an_op(dice, lease)])
        if dice.random() < 0.03:
            await store.revoke_lease(lease)
            lease = await store.grant_lease(60)
        if dice.random() < 0.03:
            await store.compact(store.revision)
        if dice.random() < 0.4:
            for cluster in CLUSTERS:
                told, fresh = await followed.read(cluster), await Fleet(store).read(cluster)
                assert told == fresh, f"step {step}"
                for borrows in (False, True):
                    kept = await followed.places(cluster, borrows=borrows)
                    made = await Fleet(store).places(cluster, borrows=borrows)
                    assert content(kept.pool) == content(made.pool), f"step {step}"


async def test_one_that_fell_far_behind_reads_all_again(store: SqliteStore) -> None:
    dice = random.Random(1)
    followed = Fleet(store)
    await store.txn([], [an_instance(random.Random(3), 0)])
    assert set(await followed.read("one")) == {"arn:i0"}
    for _ in range(45):
        await store.txn([], [Put(f"/elsewhere/{n}", b"") for n in range(100)])
    await store.txn([], [a_task(dice, 0), a_task(dice, 2), a_task(dice, 4)])
    await store.compact(store.revision)
    assert await followed.read("one") == await Fleet(store).read("one")


async def test_reading_sees_every_commit_before_it(store: SqliteStore) -> None:
    fleet = Fleet(store)
    await store.txn([], [an_instance(random.Random(3), 0)])

    async def place() -> None:
        for _ in range(50):
            revision = (await store.txn([], [Put(records.placement_key("i0"), b"")])).revision
            host = (await fleet.read("one"))["arn:i0"]
            assert host.compares[1].value >= revision  # type: ignore[operator]

    await asyncio.gather(*(place() for _ in range(8)))


async def test_a_closed_store_is_said_to_be_closed(store: SqliteStore) -> None:
    fleet = Fleet(store)
    await fleet.read("one")
    await store.txn([], [Put("/x", b"")])
    await store.close()
    with pytest.raises(StoreUnavailable):
        await fleet.read("one")
