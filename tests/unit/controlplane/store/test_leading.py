"""Who leads among several processes over one etcd."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store import etcd_settings
from agent.controlplane.store.contract import Put, StoreFailure, unchanged
from agent.controlplane.store.etcd import EtcdStore, NotLeading
from agent.controlplane.store.leading import Leadership, current
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.etcd_nodes import Etcd

_numbers = itertools.count(1)


@pytest.fixture
async def stores(etcd: Etcd) -> AsyncIterator[tuple[EtcdStore, EtcdStore]]:
    settings = etcd_settings.parse(etcd.address(f"/leading/{next(_numbers)}"), {})
    one, other = await EtcdStore.open(settings), await EtcdStore.open(settings)
    yield one, other
    await one.close()
    await other.close()


async def test_one_leads_and_the_next_takes_over_when_it_ends(
    stores: tuple[EtcdStore, EtcdStore],
) -> None:
    one, other = stores
    first = await Leadership.acquire(one)
    told: list[str] = []
    waiting = asyncio.create_task(
        Leadership.acquire(other, standing_by=lambda leader: told.append(str(leader)))
    )
    await asyncio.sleep(0.3)
    assert not waiting.done()
    assert told == [str(await current(other))]
    assert (await one.txn([], [Put("/a", b"1")])).succeeded
    await first.close()
    async with asyncio.timeout(1.5):
        second = await waiting
    with pytest.raises(NotLeading):
        await one.txn([], [Put("/a", b"2")])
    kv = await other.get("/a")
    assert kv is not None
    assert kv.value == b"1"
    assert (await other.txn([unchanged(kv)], [Put("/a", b"3")])).succeeded
    assert not (await other.txn([unchanged(kv)], [Put("/a", b"4")])).succeeded
    await second.close()


async def test_a_leader_that_does_nothing_is_replaced_and_can_do_no_harm(
    stores: tuple[EtcdStore, EtcdStore],
) -> None:
    one, other = stores
    first = await Leadership.acquire(one)
    assert first._renewing is not None
    first._renewing.cancel()  # as if the process were stopped
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(8):
        second = await Leadership.acquire(other, standing_by=lambda _: None)
    assert asyncio.get_running_loop().time() - began < 5.5
    first._renewing = asyncio.create_task(first._renew())
    with pytest.raises(NotLeading):
        await one.txn([], [Put("/a", b"late")])
    async with asyncio.timeout(3):
        await first.lost.wait()
    assert await other.get("/a") is None
    await first.close()
    assert (await current(other)) is not None, "the end of the old leader ended the new one's lease"
    await second.close()


async def test_a_leader_whose_lease_ended_unseen_leads_again(
    stores: tuple[EtcdStore, EtcdStore],
) -> None:
    one, _ = stores
    leadership = await Leadership.acquire(one)
    await one.revoke_lease(leadership._lease)
    async with asyncio.timeout(5):
        while await current(one) is None:  # noqa: ASYNC110 - etcd has no event for it
            await asyncio.sleep(0.05)
        while True:
            try:
                await one.txn([], [Put("/a", b"1")])
            except NotLeading:
                await asyncio.sleep(0.05)
            else:
                break
    assert not leadership.lost.is_set()
    await leadership.close()


async def test_a_leader_that_another_has_followed_does_not_lead_again(
    stores: tuple[EtcdStore, EtcdStore],
) -> None:
    one, other = stores
    first = await Leadership.acquire(one)
    assert first._renewing is not None
    first._renewing.cancel()
    await one.revoke_lease(first._lease)
    second = await Leadership.acquire(other)
    await second.close()
    first._renewing = asyncio.create_task(first._renew())
    async with asyncio.timeout(5):
        await first.lost.wait()
    await first.close()


async def test_a_second_one_that_will_not_wait_is_refused_by_name(
    stores: tuple[EtcdStore, EtcdStore],
) -> None:
    one, other = stores
    first = await Leadership.acquire(one)
    with pytest.raises(StoreFailure, match=r"control on .* leads this fleet; stop it first"):
        await Leadership.acquire(other)
    await first.close()


async def test_one_that_is_not_fit_does_not_lead(stores: tuple[EtcdStore, EtcdStore]) -> None:
    one, _ = stores

    async def fit() -> None:
        raise ConfigError("other keys")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await Leadership.acquire(one, standing_by=lambda _: None, fit=fit)
    assert await current(one) is None
