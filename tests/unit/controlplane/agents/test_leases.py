"""Renewals of quiet polls are collected; a lease that has ended in between is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.controlplane import records
from agent.controlplane.agents.leases import Leases
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import HostResources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TTL_S = 1.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "control.db")
    yield opened
    await opened.close()


async def an_instance(store: SqliteStore) -> InstanceRecord:
    record = InstanceRecord(
        id="i1",
        arn="arn:i1",
        cluster="one",
        client_token="t",
        resources=HostResources(cpu_units=1, memory_mib=1),
    )
    await store.txn([], [Put(records.instance_key("one", "i1"), records.encode(record))])
    return record


async def test_renewed_together_a_lease_lives_on(store: SqliteStore) -> None:
    record, lost = await an_instance(store), list[str]()
    leases = Leases(store, ttl_s=TTL_S, clock=lambda: 0.0)
    assert not leases.renew_soon("i1", 0), "nobody renews yet"
    running = asyncio.create_task(leases.run(lost.append))
    await asyncio.sleep(0)
    assert not leases.renew_soon("i1", record.generation), "there is no lease"
    await leases.renew(record)
    assert not leases.renew_soon("i1", record.generation + 1), "that of another registration"
    for _ in range(10):
        assert leases.renew_soon("i1", record.generation)
        await asyncio.sleep(TTL_S / 4)
    assert await store.get(records.alive_key("i1")) is not None
    assert not lost
    running.cancel()
    await asyncio.wait({running})
    assert not leases.renew_soon("i1", record.generation), "nobody renews any more"


async def test_a_lease_that_has_ended_is_told_and_begins_again(store: SqliteStore) -> None:
    record, lost = await an_instance(store), asyncio.Queue[str]()
    leases = Leases(store, ttl_s=TTL_S, clock=lambda: 0.0)
    running = asyncio.create_task(leases.run(lost.put_nowait))
    await leases.renew(record)
    kv = await store.get(records.alive_key("i1"))
    assert kv is not None
    await store.revoke_lease(kv.lease)
    assert leases.renew_soon("i1", record.generation)
    async with asyncio.timeout(10):
        assert await lost.get() == "i1"
    assert not leases.is_known("i1")
    await leases.renew(record)
    assert await store.get(records.alive_key("i1")) is not None
    running.cancel()
    await asyncio.wait({running})
