"""A server on one port of this host's own addresses, which is listened on as soon as it is free.

Whoever holds the port keeps the agent from serving it, and from nothing else.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from agent.supervision.held_sockets import HeldSockets

LOOPBACK: Final = "127.0.0.1"
_RETRY_S: Final = (0.5, 15.0)
"""First and longest wait before the port is tried again."""

_log = structlog.get_logger(__name__)


class Server(Protocol):
    """What serves a socket."""

    async def close(self) -> None:
        """Serve it no longer."""


class LoopbackServer:
    """One server; ``run`` listens."""

    def __init__(
        self,
        sockets: HeldSockets,
        name: str,
        port: int,
        serve: Callable[[socket.socket], Awaitable[Server]],
        *,
        loss: str,
        host: str = LOOPBACK,
    ) -> None:
        """Nothing is bound before ``run``.

        Args:
            sockets: hold the socket over a restart of the agent.
            name: of the socket.
            port: of TCP.
            serve: opens the server on a bound socket, which it closes; raises ``OSError``.
            loss: what does not work while the port is taken, and the mend, for a person.
            host: the address; one of those on the loopback link.
        """
        self.name = name
        self.problem = ""
        """Why it does not listen; empty when it does."""
        self._sockets = sockets
        self._port = port
        self._serve = serve
        self._loss = loss
        self._host = host

    async def run(self) -> None:
        """Serve until cancelled."""
        wait_s, longest_s = _RETRY_S
        while True:
            try:
                server = await self._serve(
                    self._sockets.listening(self.name, self._host, self._port)
                )
            except OSError as error:
                self._failed(error)
                await asyncio.sleep(wait_s)
                wait_s = min(longest_s, wait_s * 2)
                continue
            self.problem = ""
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await server.close()

    def _failed(self, error: OSError) -> None:
        problem = f"cannot listen on {self._host}:{self._port} ({error.strerror}): {self._loss}"
        if problem != self.problem:
            _log.error("a port of the agent is taken", problem=problem)
        self.problem = problem
