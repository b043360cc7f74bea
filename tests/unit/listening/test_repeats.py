"""Requests that are repeated and wait without being read; real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from msgspec import structs

from agent.listening.connection import prove, repeat, waited_s
from agent.listening.server import HttpServer
from tests.unit.listening.conftest import SHORT, Held, Raw, Served, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.listening.repeats import Repeated

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain"


class _Waiting:
    """Waits for what a test says."""

    def __init__(self) -> None:
        self.repeated: Repeated | None = None
        self.began = asyncio.Event()
        self.waits = True
        self.dropped = 0

    def wait(self, repeated: Repeated) -> bool:
        if not self.waits:
            return False
        self.repeated = repeated
        self.began.set()
        return True

    def drop(self) -> None:
        self.dropped += 1

    async def begun(self) -> Repeated:
        async with asyncio.timeout(10):
            await self.began.wait()
        self.began.clear()
        assert self.repeated is not None
        return self.repeated


class _Handler:
    """Answers what it reads, and has it wait when it is repeated."""

    def __init__(self, waiting: _Waiting) -> None:
        self.waiting = waiting
        self.read: list[tuple[str, bool]] = []
        """Path, and whether it had waited."""

    async def handle(self, asked: web.Request) -> web.Response:
        if "X-Known" in asked.headers:
            prove(asked)
        self.read.append((asked.path, waited_s(asked) is not None))
        repeat(asked, self.waiting)
        body = await asked.read()
        answer = web.Response(body=body or b"once")
        if asked.path == "/last":
            answer.force_close()
        return answer


@contextlib.asynccontextmanager
async def _serving() -> AsyncIterator[tuple[Served, _Handler]]:
    handler = _Handler(_Waiting())
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler.handle)
    limits = structs.replace(SHORT, head_s=5.0)
    server = await HttpServer.open(app, limits, shutdown_s=1, lingering_s=1)
    await server.listen_tcp("127.0.0.1", 0)
    served = Served(server, Held())
    try:
        yield served, handler
    finally:
        served.hang_up()
        await server.close()


async def _asked_once(served: Served, *, known: bool = True, path: str = "/poll") -> Raw:
    raw = await served.connect()
    raw.send(request(path, known=known))
    assert b"once" in await raw.answer()
    return raw


async def test_a_repeated_request_is_answered_unread_again_and_again() -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served)
        for _ in range(3):
            raw.send(request("/poll", known=True))
            (await handler.waiting.begun()).answer(_ANSWER)
            assert b"again" in await raw.answer()
        assert handler.read == [("/poll", False)]
        # And something else is read as ever.
        raw.send(request("/other", known=True))
        assert b"once" in await raw.answer()
        assert handler.read[1:] == [("/other", False)]


async def test_one_that_is_resumed_is_read_and_says_that_it_waited() -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served)
        raw.send(request("/poll", known=True))
        (await handler.waiting.begun()).resume()
        assert b"once" in await raw.answer()
        assert handler.read == [("/poll", False), ("/poll", True)]
        raw.send(request("/other", known=True))
        assert b"once" in await raw.answer()
        assert handler.read[2:] == [("/other", False)]


async def test_one_that_may_not_wait_is_read() -> None:
    async with _serving() as (served, handler):
        handler.waiting.waits = False
        raw = await _asked_once(served)
        raw.send(request("/poll", known=True))
        assert b"once" in await raw.answer()
        assert handler.read == [("/poll", False), ("/poll", False)]


async def test_what_follows_one_that_waits_has_both_read_in_order() -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served)
        raw.send(request("/poll", known=True))
        repeated = await handler.waiting.begun()
        raw.send(request("/other", known=True))
        assert b"once" in await raw.answer()
        assert b"once" in await raw.answer()
        assert handler.read == [("/poll", False), ("/poll", True), ("/other", False)]
        assert handler.waiting.dropped == 1
        repeated.answer(_ANSWER)  # too late: nobody gets two answers
        raw.send(request("/third", known=True))
        assert b"once" in await raw.answer()


@pytest.mark.parametrize(
    "again",
    [
        request("/poll", known=True) + request("/poll", known=True),
        request("/poll", known=True, more=b"X: y\r\n"),
        request("/poll", known=True).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["two at once", "another header", "another version"],
)
async def test_what_is_not_the_same_is_read(again: bytes) -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served)
        raw.send(again)
        assert b"once" in await raw.answer()
        assert len(handler.read) >= 2
        assert not handler.waiting.began.is_set()


async def test_requests_in_pieces_or_with_a_body_are_read_each_time() -> None:
    async with _serving() as (served, handler):
        raw = await served.connect()
        whole = request("/poll", known=True)
        for _ in range(2):
            raw.send(whole[:20])
            await asyncio.sleep(0.05)
            raw.send(whole[20:])
            assert b"once" in await raw.answer()
        posted = whole.replace(b"GET", b"POST").replace(
            b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\nab\r\n\r\n"
        )
        for _ in range(2):
            raw.send(posted)
            assert b"ab" in await raw.answer()
        assert len(handler.read) == 4


async def test_a_stranger_may_not_wait_so() -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served, known=False)
        raw.send(request("/poll"))
        assert await raw.end() == b""
        assert len(handler.read) == 1


async def test_after_the_last_answer_nothing_waits() -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served, path="/last")
        raw.send(request("/last", known=True))
        assert await raw.end() == b""
        assert not handler.waiting.began.is_set()


async def test_one_that_waits_for_long_is_not_idle_and_then_is() -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served)
        raw.send(request("/poll", known=True))
        repeated = await handler.waiting.begun()
        await asyncio.sleep(SHORT.idle_s * 2.5)
        repeated.answer(_ANSWER)
        assert b"again" in await raw.answer()
        assert await raw.end(within_s=SHORT.idle_s * 4) == b""


async def test_a_connection_that_ends_drops_what_waits() -> None:
    async with _serving() as (served, handler):
        raw = await _asked_once(served)
        raw.send(request("/poll", known=True))
        repeated = await handler.waiting.begun()
        assert not repeated.is_gone()
        raw.writer.transport.abort()
        await served.counts(0)
        assert handler.waiting.dropped == 1
        assert repeated.is_gone()
        repeated.answer(_ANSWER)
        repeated.resume()
        assert len(handler.read) == 1


async def test_a_connection_whose_request_waits_has_a_call_in_progress() -> None:
    """So it is not the first to be closed when there are too many."""
    async with _serving() as (served, handler):
        table = served.server._shared.table
        raw = await _asked_once(served)
        raw.send(request("/poll", known=True))
        repeated = await handler.waiting.begun()
        assert (table._busy.count, table._idle.count) == (1, 0)
        repeated.answer(_ANSWER)
        assert (table._busy.count, table._idle.count) == (0, 1)
        assert b"again" in await raw.answer()
