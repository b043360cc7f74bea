"""Connections that notice by themselves when the other host is gone.

A connection on which nothing is sent, a held poll or a quiet websocket, does not notice that the
other host lost its power: its end would be noticed by a deadline half a minute later, and a host that is
back again long before would not be asked. The kernel's probes find out: a host that is back answers
the next one with a reset.
"""

from __future__ import annotations

import socket
from typing import Any, Final

IDLE_S: Final = 10
"""A connection is probed when it was silent for so long."""
INTERVAL_S: Final = 2
PROBES: Final = 5
"""Probes without an answer that end a connection."""


def socket_for(address: tuple[Any, ...]) -> socket.socket:
    """Return a new socket for an address as ``getaddrinfo`` gives it, probed by the kernel."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    return made
