"""What an exporter sends to a real HTTP server that is well, busy, gone, or refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.metrics.prometheus import Snapshot
from agent.model.views import AgentView
from agent.otlp import exporter
from agent.otlp.exporter import Exporter, OtlpSettings, metrics_url, retry_after_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Collector:
    """Answers as scripted, then 200; keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self.headers: dict[str, str] = {}
        self.port = 0
        self.news = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.times.append(time.monotonic())
        self.headers = dict(request.headers)
        status, wait = self.answers.pop(0) if self.answers else (200, "")
        self.news.set()
        return web.Response(
            status=status,
            headers={"Retry-After": wait} if wait else {},
            text='{"partialSuccess":{}}',
        )

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.bodies) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/metrics", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


@contextlib.asynccontextmanager
async def exporting(port: int, interval_s: float = 0.02) -> AsyncIterator[Exporter]:
    numbers = iter(range(1, 1_000_000))

    def take() -> Snapshot:
        return Snapshot(at=float(next(numbers)), agent=AgentView(version="1", cluster="c"))

    settings = OtlpSettings(
        url=metrics_url(f"http://127.0.0.1:{port}/"),
        interval_s=interval_s,
        headers={"api-key": "of-the-tests"},
        first_wait_s=0.01,
    )
    made = await Exporter.open(settings, take)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        await made.close()


def order(bodies: list[bytes]) -> list[int]:
    """Return the numbers of the snapshots that were sent."""
    found = []
    for body in bodies:
        (resource, *_) = json.loads(body)["resourceMetrics"]  # aiohttp has inflated it
        (first, *_) = resource["scopeMetrics"][0]["metrics"]
        (point, *_) = first["gauge"]["dataPoints"]
        found.append(int(point["timeUnixNano"]) // 1_000_000_000)
    return found


async def test_requests_are_sent_in_order(collector: Collector) -> None:
    async with exporting(collector.port) as made:
        await collector.until(3)
        assert made.sent >= 2
        assert made.dropped == 0
    assert order(collector.bodies)[:3] == [1, 2, 3]
    assert collector.headers["Content-Type"] == "application/json"
    assert collector.headers["Content-Encoding"] == "gzip"
    assert collector.headers["api-key"] == "of-the-tests"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_collector_gets_the_same_again(collector: Collector, status: int) -> None:
    collector.answers = [(status, ""), (status, "")]
    async with exporting(collector.port):
        await collector.until(4)
    assert order(collector.bodies)[:4] == [1, 1, 1, 2]


async def test_the_wait_is_the_one_that_was_asked_for(collector: Collector) -> None:
    collector.answers = [(503, "1")]
    async with exporting(collector.port):
        await collector.until(2)
    assert collector.times[1] - collector.times[0] >= 1.0


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_what_is_refused_is_dropped(collector: Collector, status: int) -> None:
    collector.answers = [(status, "")]
    async with exporting(collector.port) as made:
        await collector.until(2)
        assert made.dropped == 1
    assert order(collector.bodies)[:2] == [1, 2]


async def test_a_collector_that_is_away_costs_the_oldest_only(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "QUEUE_MOST", 3)
    collector.answers = [(503, "1")]
    async with exporting(collector.port) as made:
        await collector.until(5)
        assert made.dropped > 0
    sent = order(collector.bodies)
    assert sent[0] == 1
    assert sent[1] > 4, "the first were given up"
    assert sent[1:] == list(range(sent[1], sent[1] + len(sent) - 1))


async def test_nobody_listens(unused_tcp_port: int) -> None:
    async with exporting(unused_tcp_port) as made:
        async with asyncio.timeout(20):
            await made._filled.wait()
        assert made.sent == 0


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("", None),
        ("soon", None),
        ("7", 7.0),
        ("999999", exporter.LONGEST_RETRY_AFTER_S),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(header: str, wait_s: float | None) -> None:
    assert retry_after_s(header, now=10.0) == wait_s
