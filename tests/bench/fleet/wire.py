"""HTTP/1.1 over raw sockets, with as little work as possible: the simulator shares its processors with control.

A ``Line`` is one connection with one call at a time. A ``Pool`` gives calls to a few lines.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_CHUNKED: Final = b"transfer-encoding: chunked"

Answer = tuple[int, bytes]
"""Status and body."""


class BrokenLine(Exception):
    """The other side closed the connection, or sent what is not understood here."""


class Line(asyncio.Protocol):
    """One connection; calls ``answered`` with each answer."""

    def __init__(self, answered: Callable[[int, bytes], None], broken: Callable[[], None]) -> None:
        self._answered = answered
        self._broken = broken
        self._data = b""
        self._wire: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._wire is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it is over."""
        self._wire = None
        self._broken()

    def send(self, data: bytes) -> None:
        """Send one request; raises ``BrokenLine``."""
        if self._wire is None:
            raise BrokenLine
        self._wire.write(data)

    def close(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes; an answer is passed on once it is whole."""
        self._data = self._data + data if self._data else data
        end = self._data.find(_END)
        if end < 0:
            return
        head = self._data[:end].lower()
        status = int(head[9:12])
        start, length = end + len(_END), 0
        if _CHUNKED in head:
            raise BrokenLine("chunked")
        at = head.find(_LENGTH)
        if at >= 0:
            stop = head.find(b"\r\n", at)
            length = int(head[at + len(_LENGTH) : stop if stop >= 0 else len(head)])
        if len(self._data) < start + length:
            return
        body, self._data = self._data[start : start + length], self._data[start + length :]
        self._answered(status, body)


class Caller:
    """One connection that is awaited for each answer."""

    def __init__(self, port: int = 0, path: str = "") -> None:
        self._to = port, path
        self._line = Line(self._take, self._fail)
        self._waiting: asyncio.Future[Answer] | None = None

    async def connect(self) -> None:
        """Connect to a port of the loopback, or to a Unix socket."""
        loop = asyncio.get_running_loop()
        port, path = self._to
        if path:
            await loop.create_unix_connection(lambda: self._line, path)
        else:
            await loop.create_connection(lambda: self._line, "127.0.0.1", port)

    async def call(self, data: bytes) -> Answer:
        """Make one call; connects again if control closed the connection meanwhile. Raises ``BrokenLine``."""
        if not self._line.is_open:
            await self.connect()
        self._waiting = asyncio.get_running_loop().create_future()
        self._line.send(data)
        return await self._waiting

    def close(self) -> None:
        """Close the connection."""
        self._line.close()

    def _take(self, status: int, body: bytes) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((status, body))

    def _fail(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BrokenLine())


class Pool:
    """A few connections that share the calls of many."""

    def __init__(self) -> None:
        self._all: list[Caller] = []
        self._free: asyncio.Queue[Caller] = asyncio.Queue()

    def open(self, count: int, port: int = 0, path: str = "") -> None:
        """Use so many connections, to a port of the loopback or to a Unix socket."""
        for _ in range(count):
            caller = Caller(port, path)
            self._all.append(caller)
            self._free.put_nowait(caller)

    async def call(self, data: bytes) -> Answer:
        """Make one call on the first free connection."""
        caller = await self._free.get()
        try:
            return await caller.call(data)
        finally:
            self._free.put_nowait(caller)

    def close(self) -> None:
        """Close all connections."""
        for caller in self._all:
            caller.close()


def request(method: str, path: str, headers: str, body: bytes = b"") -> bytes:
    """Return a request; ``headers`` are lines that end with CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}{length}\r\n".encode() + body
