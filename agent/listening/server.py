"""Serves an aiohttp application on sockets, with limits on what each sender may use.

It accepts connections itself. asyncio's accept loop takes a whole backlog in one turn, and when
descriptors run out it logs thousands of tracebacks a second. Here each turn of the event loop
accepts a few connections. When descriptors run short, a stranger's connection is closed and one
line is logged.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio import sslproto
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from agent.listening.connection import Connection, Shared
from agent.listening.rates import RateLimits
from agent.listening.table import ConnectionTable, OpenConnection, address_of
from agent.throttle import LogThrottle

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from agent.listening.limits import Limits

BACKLOG: Final = 1024
_PER_TURN: Final = 4
_PER_TURN_TLS: Final = 2
"""A handshake blocks the event loop for a millisecond."""
_RESOLVE_S: Final = 10.0
"""How long the look-up of a host name may take."""
_REST_S: Final = 0.2
"""Pause of accepting when descriptors are short and no connection could be closed."""
_TLS_BUFFER_BYTES: Final = 32 * 1024
_TLS_SHUTDOWN_S: Final = 5.0
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class HttpServer:
    """Serves one application on any number of sockets; for one event loop."""

    def __init__(self, runner: web.AppRunner, shared: Shared, lingering_s: float) -> None:
        """Take the parts that ``open`` made."""
        self._runner = runner
        self._shared = shared
        self._lingering_s = lingering_s
        self._listeners: list[_Listener] = []
        self._silent: set[_Silent] = set()
        self._setups: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls,
        app: web.Application,
        limits: Limits,
        *,
        shutdown_s: float,
        lingering_s: float,
        handler_cancellation: bool = False,
    ) -> HttpServer:
        """Return a server that does not listen yet; close it with ``close``.

        Args:
            app: the application to serve.
            limits: what senders may use.
            shutdown_s: how long requests may continue when the server closes.
            lingering_s: how long the rest of a body is read and discarded after its answer.
            handler_cancellation: whether to cancel a handler when its client disconnects.
        """
        runner = web.AppRunner(
            app, handler_cancellation=handler_cancellation, shutdown_timeout=shutdown_s
        )
        await runner.setup()
        log = LogThrottle()

        def gave_way(entry: OpenConnection, why: str) -> None:
            log.note("connection closed: its place was needed", peer=entry.address, cause=why)

        rates = RateLimits(limits.answers_per_s, limits.answers_burst)
        return cls(
            runner, Shared(limits, ConnectionTable(limits, gave_way), log, rates), lingering_s
        )

    @property
    def addresses(self) -> list[Any]:
        """The addresses it listens on, as ``getsockname`` returns them."""
        return [listener.socket.getsockname() for listener in self._listeners]

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._shared.table)

    async def listen_tcp(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen on every address of a host name; port 0 picks a free one.

        Raises:
            OSError: the name does not resolve in time, or an address cannot be bound; then it
                listens on none of them.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_S):
                found = await loop.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
        except TimeoutError:
            text = f"the name {host} did not resolve within {_RESOLVE_S:g} s"
            raise OSError(errno.ETIMEDOUT, text) from None
        for one in _all_bound(list(dict.fromkeys(found))):
            self.listen(one, tls=tls)

    def listen(
        self, bound: socket.socket, *, tls: ssl.SSLContext | None = None, is_trusted: bool = False
    ) -> None:
        """Listen on a bound socket, which is closed with the server or by ``leave``.

        Args:
            bound: the socket.
            tls: the context for TLS; None for plain HTTP.
            is_trusted: everyone who can connect is known, as on a Unix socket with mode 0600.

        Raises:
            OSError: listening on it failed.
        """
        if tls is not None:
            # asyncio's buffer per connection is 256 KiB, but a TLS record needs only 16.
            sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES
        bound.setblocking(False)
        bound.listen(BACKLOG)
        listener = _Listener(bound, self, tls, is_trusted=is_trusted)
        self._listeners.append(listener)
        listener.resume()

    def leave(self, bound: socket.socket) -> None:
        """Stop listening on a socket; its connections stay open."""
        for listener in [one for one in self._listeners if one.socket is bound]:
            listener.close()
            self._listeners.remove(listener)

    async def close(self) -> None:
        """Stop listening and end all requests; idempotent."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for silent in list(self._silent):
            silent.cut()
        for setup in self._setups:
            setup.cancel()
        if self._setups:
            await asyncio.wait(self._setups)
        await self._runner.cleanup()

    def take(
        self, accepted: socket.socket, peer: Any, tls: ssl.SSLContext | None, *, is_trusted: bool
    ) -> None:
        """Serve an accepted connection once its first byte arrives."""
        entry = self._shared.table.enter(address_of(peer), accepted.close)
        if is_trusted:
            entry.is_trusted = True
            self._shared.table.prove(entry)
            if entry.is_open:
                self._serve(accepted, entry, tls)
        else:
            silent = _Silent(
                accepted, entry, self._shared, lambda: self._serve(accepted, entry, tls)
            )
            self._silent.add(silent)
            silent.wait(self._silent.discard)

    def _serve(
        self, accepted: socket.socket, entry: OpenConnection, tls: ssl.SSLContext | None
    ) -> None:
        table = self._shared.table
        setup = asyncio.get_running_loop().create_task(self._set_up(accepted, entry, tls))
        self._setups.add(setup)

        def cut() -> None:
            setup.cancel()

        def done(task: asyncio.Task[None]) -> None:
            self._setups.discard(task)
            if task.cancelled():  # Possibly before it started; then nothing else closes the socket.
                accepted.close()
                table.leave(entry)

        entry.close = cut
        setup.add_done_callback(done)

    def make_room(self) -> bool:
        """Close a connection to free a descriptor; return whether there was one to close."""
        self._shared.log.note("out of file descriptors; raise the limit (LimitNOFILE=)")
        return self._shared.table.make_room()

    async def _set_up(
        self, accepted: socket.socket, entry: OpenConnection, tls: ssl.SSLContext | None
    ) -> None:
        """Set up a connection on an accepted socket; the TLS handshake is limited to ``head_s``."""
        server = self._runner.server
        limit_s = self._shared.limits.head_s if tls is not None else None
        shutdown_s = _TLS_SHUTDOWN_S if tls is not None else None

        def protocol() -> Connection:
            assert server is not None  # noqa: S101 - the runner is set up
            return Connection(server, self._shared, entry, lingering_s=self._lingering_s)

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=limit_s,
                ssl_shutdown_timeout=shutdown_s,
            )
        except OSError as error:
            self._shared.table.leave(entry)
            self._shared.log.note(
                "connection closed: TLS handshake failed",
                peer=entry.address,
                cause=getattr(error, "verify_message", "") or type(error).__name__,
            )


class _Silent:
    """A connection that has sent nothing yet: only a socket that is watched for its first byte.

    The objects for a request, and even more for a TLS handshake, need a hundred times as much
    memory.
    """

    def __init__(
        self,
        accepted: socket.socket,
        entry: OpenConnection,
        shared: Shared,
        begin: Callable[[], None],
    ) -> None:
        self._socket = accepted
        self._entry = entry
        self._shared = shared
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None
        self._gone: Callable[[_Silent], None] = lambda _: None

    def wait(self, gone: Callable[[_Silent], None]) -> None:
        """Wait for the first byte until the time limit; call ``gone`` when the wait ends."""
        self._gone = gone
        self._entry.close = self.cut
        self._loop.add_reader(self._socket, self._readable)
        # Not logged: load balancers and browsers open connections in advance.
        self._due = self._loop.call_later(self._shared.limits.head_s, self.cut)

    def cut(self) -> None:
        """Close the socket."""
        self._leave()
        self._shared.table.leave(self._entry)
        self._socket.close()

    def _readable(self) -> None:
        try:
            is_over = not self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            is_over = True
        if is_over:
            self.cut()
            return
        self._leave()
        self._shared.table.speak(self._entry)
        self._begin()

    def _leave(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._due is not None:
            self._due.cancel()
        self._gone(self)


class _Listener:
    """One listening socket."""

    def __init__(
        self,
        bound: socket.socket,
        server: HttpServer,
        tls: ssl.SSLContext | None,
        *,
        is_trusted: bool,
    ) -> None:
        self.socket = bound
        self._server = server
        self._tls = tls
        self._is_trusted = is_trusted
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None

    def resume(self) -> None:
        """Start to accept connections."""
        self._rest = None
        self._loop.add_reader(self.socket, self._accept)

    def close(self) -> None:
        """Stop accepting connections."""
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self.socket)
        self.socket.close()

    def _accept(self) -> None:
        for _ in range(_PER_TURN if self._tls is None else _PER_TURN_TLS):
            try:
                accepted, peer = self.socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause()
                    return
                continue  # The client disconnected before it was accepted.
            accepted.setblocking(False)
            self._server.take(accepted, peer, self._tls, is_trusted=self._is_trusted)

    def _pause(self) -> None:
        """Make room and accept again; if no room can be made, after a pause."""
        self._loop.remove_reader(self.socket)
        has_room = self._server.make_room()
        self._rest = self._loop.call_later(0 if has_room else _REST_S, self.resume)


def _all_bound(found: list[tuple[Any, ...]]) -> list[socket.socket]:
    """Return a bound socket for each address; skip address families that this host lacks.

    Raises:
        OSError: an address cannot be bound, or there is none to bind.
    """
    bound: list[socket.socket] = []
    absent: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            bound.append(_bound(family, kind, protocol, address))
        except OSError as error:
            absent = error
            if error.errno not in _ABSENT or len(found) == 1:
                for one in bound:
                    one.close()
                raise
    if not bound and absent is not None:
        raise absent
    return bound


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
