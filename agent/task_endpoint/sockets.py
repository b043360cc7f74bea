"""Asks the kernel for the socket at the other end of a connection, in this network namespace or another.

One request about one connection, answered at once: the cost does not grow with the number of connections,
as it does for ``/proc/net/tcp``. A socket of the address family IPv6 with IPv4 addresses is found, too.
Source of the wire: sock_diag(7).
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from agent.task_endpoint.contract import Peer

NETLINK_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST: Final = 1
_LISTEN: Final = 10
_ALL_STATES: Final = 0xFFFFFFFF
_NO_COOKIE: Final = bytes([0xFF] * 8)
_HEADER: Final = struct.Struct("=IHHII")
_ANSWER_BYTES: Final = 4096
_AT_STATE: Final = 16 + 1
_AT_PORTS: Final = 16 + 4
_AT_OWNER: Final = 16 + 4 + 48 + 12
"""Offset of user and inode: after the header, four bytes, the connection, and three numbers."""


class ConnectedSocket(NamedTuple):
    """A socket that is connected to the agent's server."""

    inode: int
    uid: int
    """The user who made it."""


def open_diag() -> socket.socket:
    """Return a socket for questions about this thread's network namespace.

    Raises:
        OSError: the kernel has no socket diagnosis, or descriptors ran out.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    made = socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG)
    made.settimeout(1.0)
    return made


def find(diag: socket.socket, own: Peer, other: Peer) -> ConnectedSocket | None:
    """Return the socket with this connection; None if there is none, or nobody has it any more.

    Blocks for the time of a system call.

    Args:
        diag: from ``open_diag``.
        own: its own end of the connection.
        other: the end to which it is connected.

    Raises:
        OSError: the kernel did not answer.
    """
    diag.send(_question(own, other))
    said = diag.recv(_ANSWER_BYTES)
    if len(said) < _AT_OWNER + 8 or _HEADER.unpack_from(said)[1] != _BY_FAMILY:
        return None
    if said[_AT_STATE] == _LISTEN or said[_AT_PORTS : _AT_PORTS + 4] != _ports(own, other):
        return None
    uid, inode = struct.unpack_from("=II", said, _AT_OWNER)
    return ConnectedSocket(inode, uid) if inode else None


def _ports(own: Peer, other: Peer) -> bytes:
    return struct.pack("!HH", own.port, other.port)


def _question(own: Peer, other: Peer) -> bytes:
    connection = b"".join(
        (
            _ports(own, other),
            socket.inet_aton(own.ipv4) + bytes(12),
            socket.inet_aton(other.ipv4) + bytes(12),
            bytes(4),
            _NO_COOKIE,
        )
    )
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + connection
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body
