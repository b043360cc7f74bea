"""Answers datagrams of tasks, and passes on to the name servers what is not a name of a task.

A question that is passed on has a socket of its own, with a random port and a random id, so that nobody can guess
what its answer must have. As many are passed on at once as there is room for, and of one task not all of them;
others are dropped, and asked again.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import structlog

from agent.dns import message
from agent.dns.message import NotForUs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.dns.zones import Zones

    Address = tuple[str, int]
    ServersOf = Callable[[str], Sequence[Address]]
    NamespaceOf = Callable[[str], str]

_SERVER_LIMIT_S: Final = 2.0
"""How long one name server may take before the next is asked."""
_AT_ONCE: Final = 512
OF_ONE_MOST: Final = 64
"""How many questions of one address are passed on at once: a task that asks without end must not silence others."""
_ID_BYTES: Final = 2
_IP_FREEBIND: Final = 15
"""Binds an address that comes later (ip(7))."""

_log = structlog.get_logger(__name__)


def _nowhere(_peer: str) -> str:
    return ""


class NameServer:
    """One socket of a host. Belongs to one event loop; ``open`` makes it, ``close`` ends it."""

    def __init__(
        self, zones: Zones, servers_of: ServersOf, namespace_of: NamespaceOf = _nowhere
    ) -> None:
        """Take what answers.

        Args:
            zones: the names.
            servers_of: gives the name servers of who asks by its address, in the order to ask them.
            namespace_of: gives the namespace of Service Connect of who asks; empty without.
        """
        self._zones = zones
        self.servers_of = servers_of
        self._namespace_of = namespace_of
        self._transport: asyncio.DatagramTransport | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._of_peers: Counter[str] = Counter()

    @classmethod
    async def open(
        cls,
        zones: Zones,
        servers_of: ServersOf,
        namespace_of: NamespaceOf = _nowhere,
        *,
        host: str,
        port: int,
    ) -> Self:
        """Listen at an address of this host, which may come later; raises ``OSError``."""
        server = cls(zones, servers_of, namespace_of)
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            bound.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            bound.bind((host, port))
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Listener(server), sock=bound
            )
        except BaseException:
            bound.close()
            raise
        return server

    @property
    def port(self) -> int:
        """The port on which it listens."""
        assert self._transport is not None  # noqa: S101 - ``open`` has returned
        name: Address = self._transport.get_extra_info("sockname")
        return name[1]

    async def close(self) -> None:
        """Stop listening, and drop what is being asked."""
        if self._transport is not None:
            self._transport.close()
        asked = list(self._asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    def began(self, transport: asyncio.DatagramTransport) -> None:
        """Take the socket; called by its protocol."""
        self._transport = transport

    def take(self, data: bytes, peer: Address) -> None:
        """Answer one datagram, or begin to ask others for the answer."""
        try:
            question = message.read(data)
        except NotForUs:
            known = None
        else:
            known = self._zones.answer(question, partial(self._namespace_of, peer[0]))
        if known is not None:
            self._send(known, peer)
        elif len(data) > _ID_BYTES and self._has_room(peer[0]):
            servers = self.servers_of(peer[0])
            task = asyncio.get_running_loop().create_task(self._pass_on(data, peer, servers))
            self._asked.add(task)
            self._of_peers[peer[0]] += 1
            task.add_done_callback(partial(self._done, peer[0]))

    def _has_room(self, peer: str) -> bool:
        return len(self._asked) < _AT_ONCE and self._of_peers.get(peer, 0) < OF_ONE_MOST

    def _done(self, peer: str, task: asyncio.Task[None]) -> None:
        self._asked.discard(task)
        self._of_peers[peer] -= 1
        if not self._of_peers[peer]:
            del self._of_peers[peer]

    def _send(self, data: bytes, peer: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, peer)

    async def _pass_on(self, data: bytes, peer: Address, servers: Sequence[Address]) -> None:
        """Ask the name servers one after the other, and return the first answer; none of them, no answer."""
        for server in servers:
            try:
                answer = await _ask(server, data)
            except (OSError, TimeoutError):
                continue
            self._send(data[:_ID_BYTES] + answer[_ID_BYTES:], peer)
            return


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Hand over the socket."""
        self._server.began(transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Answer a datagram; whatever it has, others go on."""
        try:
            self._server.take(data, addr)
        except Exception as error:  # noqa: BLE001 - one question must not end the answers to others
            _log.error("a question for a name was not answered", error=repr(error))


class _Asker(asyncio.DatagramProtocol):
    """Waits for the answer of one name server."""

    def __init__(self, id_: bytes) -> None:
        self._id = id_
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _addr: Address) -> None:
        """Take the answer to our question."""
        if data[:_ID_BYTES] == self._id and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        """Take note that nobody listens there."""
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask(server: Address, data: bytes) -> bytes:
    """Return the answer of a name server; raises ``OSError`` or ``TimeoutError``."""
    id_ = secrets.token_bytes(_ID_BYTES)
    transport, asker = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Asker(id_), remote_addr=server
    )
    try:
        transport.sendto(id_ + data[_ID_BYTES:])
        async with asyncio.timeout(_SERVER_LIMIT_S):
            return await asker.answer
    finally:
        transport.close()
