"""The webhook gets every event in order, whatever it answers, and nothing of its URL is told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from agent.aws.http import AwsHttp
from agent.controlplane.events import webhook as sending
from agent.controlplane.events import webhook_file
from agent.controlplane.events.webhook import PLACE_KEY, EventWebhook
from agent.controlplane.janitor import HISTORY_ROUNDS, Janitor
from agent.controlplane.names import Names
from agent.controlplane.parts import Parts
from agent.errors import ConfigError
from tests.unit.controlplane.events.test_feed import commit, put, store, task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.store.sqlite import SqliteStore

__all__ = ["store"]


class Receiver:
    """Answers as a test says."""

    def __init__(self) -> None:
        self.got: list[int] = []
        """Versions of the tasks of accepted events."""
        self.status = 200
        self.calls = 0
        self.headers: dict[str, str] = {}
        self.news = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.calls += 1
        event = await request.json()
        self.headers = dict(request.headers)
        version = event["detail"]["version"]
        status = 400 if version == 666 else self.status
        if status == 200:
            self.got.append(version)
        self.news.set()
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async def until(self, count: int) -> None:
        async with asyncio.timeout(40):
            while len(self.got) < count:
                self.news.clear()
                await self.news.wait()

    async def until_called(self, times: int) -> None:
        calls = self.calls + times
        async with asyncio.timeout(40):
            while self.calls < calls:
                self.news.clear()
                await self.news.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(sending, "LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr(sending, "SAVE_S", 0.0)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def file(receiver: Receiver, tmp_path: Path) -> AsyncIterator[Path]:
    app = web.Application()
    app.router.add_post("/canary", receiver.take)
    async with TestServer(app) as server:
        path = tmp_path / "webhook"
        path.write_text(f"# where\n{server.make_url('/canary?key=canary')}\nX-Key: canary\n")
        yield path


@contextlib.asynccontextmanager
async def running(store: SqliteStore, file: Path) -> AsyncIterator[EventWebhook]:
    async with AwsHttp() as http:
        webhook = await EventWebhook.open(store, Names(), lambda: 1.0, http, file)
        work = asyncio.create_task(webhook.run())
        try:
            yield webhook
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            await webhook.close()


async def test_events_come_in_order_and_a_restart_goes_on(
    store: SqliteStore, file: Path, receiver: Receiver
) -> None:
    await commit(store, put(task(1)))
    async with running(store, file):
        for version in (2, 3):
            await commit(store, put(task(version)))
        await receiver.until(2)
    assert receiver.headers["X-Key"] == "canary"
    assert receiver.headers["Content-Type"] == "application/json"
    for version in (4, 5):
        await commit(store, put(task(version)))
    async with running(store, file):
        await commit(store, put(task(6)))
        async with asyncio.timeout(40):
            while 6 not in receiver.got:  # noqa: ASYNC110 - what comes may come twice
                await asyncio.sleep(0.01)
    # What came before the first start is not sent; the call that the stop cut off may be sent again.
    assert list(dict.fromkeys(receiver.got)) == [2, 3, 4, 5, 6]
    assert len(receiver.got) <= 6


@pytest.mark.parametrize("status", [500, 429, 401, 302])
async def test_a_webhook_that_fails_gets_it_later_and_keeps_the_order(
    store: SqliteStore, file: Path, receiver: Receiver, status: int
) -> None:
    async with running(store, file) as webhook:
        receiver.status = status
        with capture_logs() as told:
            await commit(store, put(task(1)))
            await commit(store, put(task(2)))
            await receiver.until_called(3)
            held = webhook.held_from()
            for _ in range(20):
                await commit(store, put(task(2)))
            assert webhook.held_from() == held < store.revision
        assert len(told) == 1
        assert str(status) in told[0]["error"]
        assert "canary" not in str(told)
        receiver.status = 200
        await receiver.until(2)
    assert receiver.got == [1, 2]


async def test_what_is_refused_for_good_is_dropped(
    store: SqliteStore, file: Path, receiver: Receiver
) -> None:
    with capture_logs() as told:
        async with running(store, file):
            for version in (1, 666, 667):
                await commit(store, put(task(version)))
            await receiver.until(2)
    assert receiver.got == [1, 667]
    assert [line["event"] for line in told if line["log_level"] == "warning"] == [
        "the webhook refuses an event; it is dropped"
    ]


async def test_a_webhook_that_is_not_there_is_told_without_its_url(
    store: SqliteStore, file: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LAGS_S", 0.0)
    there = file.read_text()
    file.write_text("http://127.0.0.1:1/canary\n")
    with capture_logs() as told:
        async with running(store, file) as webhook:
            await commit(store, put(task(1)))
            async with asyncio.timeout(40):
                while not webhook.problem():  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)
            assert "canary" not in webhook.problem()
            # The file is read again, so that a mended one needs no restart.
            file.write_text(there)
            await receiver.until(1)
    assert "canary" not in str(told)


async def test_history_waits_for_a_webhook_but_not_without_end(
    store: SqliteStore, file: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rounds(janitor: Janitor) -> None:
        for _ in range(HISTORY_ROUNDS + 1):
            await commit(store, put(task(1)))
            await janitor.clean()

    receiver.status = 500
    async with running(store, file) as webhook:
        janitor = Janitor(Parts(store), held_from=webhook.held_from)
        for version in (1, 2):
            await commit(store, put(task(version)))
        await receiver.until_called(1)
        await rounds(janitor)
        receiver.status = 200
        await receiver.until(2)
        assert receiver.got[:2] == [1, 2]
        receiver.status = 500
        await commit(store, put(task(3)))
        await receiver.until_called(2)
    monkeypatch.setattr(sending, "HELD_REVISIONS", 3)
    for version in (4, 5):
        await commit(store, put(task(version)))
    async with AwsHttp() as http:
        webhook = await EventWebhook.open(store, Names(), lambda: 1.0, http, file)
        await rounds(Janitor(Parts(store), held_from=webhook.held_from))
    receiver.status = 200
    with capture_logs() as told:
        async with running(store, file):
            await commit(store, put(task(6)))
            await receiver.until(3)
            async with asyncio.timeout(40):
                while receiver.got[-1] != 6:  # noqa: ASYNC110 - what comes may come twice
                    await asyncio.sleep(0.01)
    assert 3 not in receiver.got
    assert "events are lost to the webhook: it was away for too long" in [
        line["event"] for line in told
    ]


async def test_an_idle_control_writes_no_place(
    store: SqliteStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_SAVE_IDLE_S", 0.0)
    async with running(store, file):
        before = store.revision
        await asyncio.sleep(0.1)
        assert store.revision == before
    kv = await store.get(PLACE_KEY)
    assert kv is not None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("ftp://canary", "line 1 is not a URL"),
        ("canary", "line 1 is not a URL"),
        ("http://h/canary\ncanary", "line 2 is not a header"),
        ("http://h/canary\nX-Key: can\x00ary", "line 2 is not a header"),
        ("http://h/canary\n\nContent-Type: canary", "line 3 is a header that control sets"),
        ("http://canary@h/canary\nauthorization: canary", "remove one of them"),
    ],
)
def test_a_file_that_says_something_else(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "webhook"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        webhook_file.read(path)
    assert "canary" not in str(caught.value)


def test_a_file_that_is_missing_and_what_is_shown_of_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        webhook_file.read(tmp_path / "none")
    (tmp_path / "w").write_text("https://user:canary@h:8443/canary\nX-Key: canary\n")
    read: Any = webhook_file.read(tmp_path / "w")
    assert repr(read) == "Webhook(https://h:8443)"
