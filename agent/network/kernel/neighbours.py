"""Lists the host's permanent IPv6 neighbours by netlink; ``/proc`` shows only those of IPv4.

The answer is parsed as bytes: as objects, it would take twenty times as long. Sources: rtnetlink(7),
``linux/neighbour.h``.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from agent.errors import NetworkFailure
from agent.network.kernel.raw_messages import (
    DONE,
    DUMP,
    ERROR,
    REQUEST,
    attributes,
    message,
    messages,
    raise_refusal,
)

_GET, _NEW = 30, 28
_NEIGHBOUR: Final = struct.Struct("=BBHiHBB")
_PERMANENT: Final = 0x80
_ADDRESS, _MAC = 1, 2
_DATAGRAM: Final = 65_536
_LIMIT_S: Final = 5.0


class Neighbour(NamedTuple):
    """A permanent entry of the host's table."""

    link: int
    """The kernel's index of the link."""
    address: str
    mac: str


def permanent() -> frozenset[Neighbour]:
    """Return the host's permanent IPv6 neighbours; none on a kernel without IPv6. Blocks.

    Raises:
        NetworkFailure: the kernel did not answer.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    found: set[Neighbour] = set()
    try:
        with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as talk:
            talk.settimeout(_LIMIT_S)
            talk.bind((0, 0))
            body = _NEIGHBOUR.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0)
            talk.send(message(_GET, REQUEST | DUMP, 1, body))
            while not read(talk.recv(_DATAGRAM), found):
                pass
    except OSError as error:
        raise NetworkFailure(f"the host's neighbours cannot be listed: {error}") from None
    return frozenset(found)


def read(data: bytes, found: set[Neighbour]) -> bool:
    """Add the permanent neighbours in a datagram; return whether it is the last one. Pure.

    Raises:
        OSError: it is the kernel's refusal.
    """
    for kind, body in messages(data):
        if kind in (ERROR, DONE):
            raise_refusal(body)
            return True
        if kind == _NEW and len(body) >= _NEIGHBOUR.size:
            _, _, _, link, state, _, _ = _NEIGHBOUR.unpack_from(body)
            values = dict(attributes(body[_NEIGHBOUR.size :]))
            address = values.get(_ADDRESS, b"")
            if state & _PERMANENT and len(address) == 16:
                text = socket.inet_ntop(socket.AF_INET6, address)
                found.add(Neighbour(link, text, values.get(_MAC, b"").hex(":")))
    return False
