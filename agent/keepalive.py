"""Sockets with TCP keepalive, which notice when the other host is gone.

An idle connection, such as a held poll or a quiet websocket, does not notice that the other host
lost power. Without keepalive, only a deadline half a minute later would end it, even if the host
came back long before. The kernel's probes find out sooner: a host that is back answers the next one
with a reset.
"""

from __future__ import annotations

import socket
from typing import Any, Final

IDLE_S: Final = 10
"""A connection that was silent for this long is probed."""
INTERVAL_S: Final = 2
PROBES: Final = 5
"""Number of unanswered probes that end a connection."""


def socket_for(address: tuple[Any, ...]) -> socket.socket:
    """Return a new socket with keepalive for an address in the form of ``getaddrinfo``."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    return made
