"""More calls of etcd than it answers at once. What answers here is no etcd: a real one cannot be made slow enough."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.controlplane.store import etcd_client, etcd_settings
from agent.controlplane.store.etcd_client import EtcdClient, NotAsked
from agent.controlplane.store.etcd_words import RangeAnswer, TxnAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLACES = 3
LIMIT_S = 1.5


class Slow:
    """Answers reads and changes after a while, and renews leases at once."""

    def __init__(self) -> None:
        self.takes_s = 0.6
        self.running = self.most_running = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(self.takes_s)
        self.running -= 1
        return web.json_response({"header": {"revision": "1"}})

    async def renew(self, _: web.Request) -> web.Response:
        return web.json_response({})


@contextlib.asynccontextmanager
async def calling(slow: Slow) -> AsyncIterator[EtcdClient]:
    app = web.Application()
    app.router.add_post("/v3/kv/{any}", slow.answer)
    app.router.add_post("/v3/lease/keepalive", slow.renew)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = await EtcdClient.open(etcd_settings.parse(f"etcd://127.0.0.1:{port}/x", {}))
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_client, "PLACES", PLACES)
    monkeypatch.setattr(etcd_client, "READ_S", LIMIT_S)
    monkeypatch.setattr(etcd_client, "CHANGE_S", LIMIT_S)


async def test_a_busy_etcd_does_not_look_as_if_it_hung() -> None:
    slow = Slow()
    async with calling(slow) as client, asyncio.timeout(30):
        endpoints = client.preferred()
        await asyncio.gather(
            *(client.read("/v3/kv/range", {}, RangeAnswer) for _ in range(2 * PLACES)),
            *(client.change("/v3/kv/txn", {}, TxnAnswer) for _ in range(2 * PLACES)),
        )
        assert 4 * slow.takes_s > LIMIT_S, "the last ones waited for longer than one call may take"
        assert slow.most_running == PLACES
        assert client.preferred() == endpoints


async def test_what_keeps_a_control_leading_does_not_wait() -> None:
    slow = Slow()
    slow.takes_s = 3600
    async with calling(slow) as client:
        held = [asyncio.create_task(client.change("/v3/kv/txn", {}, TxnAnswer)) for _ in range(100)]
        while slow.running < PLACES:  # noqa: ASYNC110 - the stand-in has no event
            await asyncio.sleep(0.01)
        await client.at(client.endpoints[0], "/v3/lease/keepalive", {}, TxnAnswer, LIMIT_S)
        slow.takes_s = 0
        await client.change("/v3/kv/txn", {}, TxnAnswer, urgent=True)
        await client.read("/v3/kv/range", {}, RangeAnswer, urgent=True)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await client.change("/v3/kv/txn", {}, TxnAnswer)


async def test_a_call_that_finds_no_place_has_done_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_client, "PLACE_S", 0.1)
    async with calling(Slow()) as client:
        held = [
            asyncio.create_task(client.change("/v3/kv/txn", {}, TxnAnswer)) for _ in range(PLACES)
        ]
        await asyncio.sleep(0)
        with pytest.raises(NotAsked, match="make fewer at once"):
            await client.change("/v3/kv/txn", {}, TxnAnswer)
        await asyncio.gather(*held)
