"""Sockets with TCP keepalive, which notice when the other host is gone.

An idle connection, such as a held poll or a quiet websocket, does not notice that the other host
lost power. Without keepalive, only a deadline half a minute later would end it, even if the host
came back long before. The kernel's probes find out sooner: a host that is back answers the next one
with a reset.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Final, Protocol

IDLE_S: Final = 10
"""A connection that was silent for this long is probed."""
INTERVAL_S: Final = 2
PROBES: Final = 5
"""Number of unanswered probes that end a connection."""
UNANSWERED_S: Final = 300
"""How long data of a watched connection may wait for the other host, which may just not read for a while."""


class Probed(Protocol):
    """A socket, or what a transport shows of one."""

    @property
    def family(self) -> int:
        """Of its addresses."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option."""


def socket_for(address: tuple[Any, ...]) -> socket.socket:
    """Return a new socket with keepalive for an address in the form of ``getaddrinfo``."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    _probe(made)
    return made


def watch(connection: Probed | None) -> None:
    """Have the kernel end an open TCP connection whose other host is gone; leaves others as they are.

    Data on its way is not probed, so its answer has a time limit, too.
    """
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # it was closed meanwhile
        _probe(connection)
        limit_ms = UNANSWERED_S * 1000
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)


def _probe(connection: Probed) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
