"""What parts give to the server, and what their handlers get; no I/O of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    import re

BODY_LIMIT_BYTES: Final = 64 * 1024
"""A larger body is refused with 413."""
BODY_LIMIT_S: Final = 5.0
"""A body that takes longer to arrive is refused with 408."""


class Peer(NamedTuple):
    """The other end of a connection, as the server's socket shows it."""

    ipv4: str
    port: int

    def text(self) -> str:
        """Return ``ADDRESS:PORT``."""
        return f"{self.ipv4}:{self.port}"


class Caller(NamedTuple):
    """Who asks; all fields are empty for one that nobody knows."""

    task_arn: str = ""
    container: str = ""
    """Name of the container; empty where only the task is known: containers of an ``awsvpc`` task have one
    address."""
    is_host: bool = False
    """A process of the host's superuser that belongs to no task: the engine, a volume plugin, a person."""


class AsksWho(Protocol):
    """Finds out who asks; ``callers.Callers``."""

    async def of(self, peer: Peer) -> Caller:
        """Return who has the other end of a connection."""

    async def is_of(self, peer: Peer, task_arn: str) -> bool:
        """Return whether a container of this task has it; costs less than ``of``."""

    async def is_host(self, peer: Peer) -> bool:
        """Return whether ``Caller.is_host``."""


class Call(NamedTuple):
    """One request."""

    request: web.Request
    match: re.Match[str]
    """Of the route's path."""
    peer: Peer
    callers: AsksWho

    async def caller(self) -> Caller:
        """Return who asks."""
        return await self.callers.of(self.peer)

    async def is_from(self, task_arn: str) -> bool:
        """Return whether a container of this task asks."""
        return await self.callers.is_of(self.peer, task_arn)

    async def is_from_host(self) -> bool:
        """Return whether a process of the host's superuser asks that belongs to no task."""
        return await self.callers.is_host(self.peer)

    async def body(self) -> bytes:
        """Return the body.

        Raises:
            web.HTTPRequestEntityTooLarge: it is larger than ``BODY_LIMIT_BYTES``.
            web.HTTPRequestTimeout: it took longer than ``BODY_LIMIT_S``.
        """
        try:
            async with asyncio.timeout(BODY_LIMIT_S):
                return await self.request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One path, and who answers it."""

    path: str
    """Regular expression of the whole path, decoded; ``[^/]*`` where a part of it may be empty."""
    handler: Handler
    methods: frozenset[str] = frozenset()
    """Others get 405; empty if any is allowed."""


def answer(body: Any, *, status: int = 200) -> web.Response:
    """Return a JSON answer for anything that msgspec can encode."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )
