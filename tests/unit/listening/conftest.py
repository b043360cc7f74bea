"""A server with small limits, and raw connections to it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.listening.connection import prove, wait_for_reader
from agent.listening.limits import Limits
from agent.listening.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KNOWN = b"X-Known: yes\r\n"
SHORT = Limits(
    connections=60,
    silent=20,
    silent_per_address=10,
    unproven=20,
    unproven_per_address=10,
    head_s=0.5,
    head_bytes=8192,
    idle_s=1.0,
    stall_s=0.3,
    answers_per_s=1000,
    answers_burst=1000,
)
PLENTY = Limits(
    connections=1500, silent=500, silent_per_address=500, unproven=500, unproven_per_address=500
)


class Held:
    """Calls that wait until they may be answered."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        prove(request)
        self.begun += 1
        await self.may_end.wait()
        return web.Response(text="held")


class Raw:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """Return an answer without reading for its end, which the next one needs."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return head + await self.reader.readexactly(length)

    async def end(self, within_s: float = 10) -> bytes:
        """Return all that comes until the other side ends the connection."""
        async with asyncio.timeout(within_s):
            got = b""
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    got += data
            return got


class Served:
    """A server, the port it listens on, and who connects to it."""

    def __init__(self, server: HttpServer, held: Held) -> None:
        self.server = server
        self.held = held
        self.port: int = server.addresses[0][1]
        self.bodies: list[bytes] = []
        self._raw: list[Raw] = []

    async def connect(self, **more: Any) -> Raw:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port, **more))
        self._raw.append(raw)
        return raw

    async def hold(self) -> Raw:
        """Return a connection with a call that waits."""
        raw, before = await self.connect(), self.held.begun
        raw.send(request("/held"))
        async with asyncio.timeout(10):
            while self.held.begun == before:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)
        return raw

    def hang_up(self) -> None:
        for raw in self._raw:
            raw.writer.transport.abort()

    async def counts(self, number: int) -> None:
        """Return when so many connections are open."""
        async with asyncio.timeout(10):
            while self.server.connections != number:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


def request(path: str = "/", *, known: bool = False, more: bytes = b"") -> bytes:
    """Return the head of a request."""
    return b"GET %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n" % (
        path.encode(),
        KNOWN if known else b"",
        more,
    )


async def _answer(request: web.Request) -> web.Response:
    if "X-Known" in request.headers:
        prove(request)
    if "patient" in request.query:
        wait_for_reader(request)
    return web.Response(body=b"x" * int(request.query.get("size", "2")))


async def _slow(request: web.Request) -> web.Response:
    prove(request)
    await asyncio.sleep(2)
    return web.Response(text="slow")


async def _fail(_: web.Request) -> web.Response:
    raise RuntimeError("nobody foresaw this")


@contextlib.asynccontextmanager
async def serving(limits: Limits = SHORT, **listen: Any) -> AsyncIterator[Served]:
    """Serve on a free port."""
    app, held = web.Application(), Held()
    app.router.add_get("/held", held.answer)
    app.router.add_get("/slow", _slow)
    app.router.add_get("/fail", _fail)
    app.router.add_route("*", "/{path:.*}", _answer)
    server = await HttpServer.open(app, limits, shutdown_s=0.2, lingering_s=0.5)
    await server.listen_tcp("127.0.0.1", 0, **listen)
    served = Served(server, held)
    try:
        yield served
    finally:
        served.hang_up()
        await server.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running
