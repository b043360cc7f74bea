"""Lists the host's permanent IPv6 neighbours by netlink; ``/proc`` shows only those of IPv4.

The answer is parsed as bytes: as objects, it would take twenty times as long. Sources: rtnetlink(7),
``linux/neighbour.h``.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import NetworkFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

_GET, _NEW = 30, 28
_ERROR, _DONE = 2, 3
_REQUEST_DUMP: Final = 0x1 | 0x300
_HEADER: Final = struct.Struct("=IHHII")
_NEIGHBOUR: Final = struct.Struct("=BBHiHBB")
_ATTRIBUTE: Final = struct.Struct("=HH")
_CODE: Final = struct.Struct("=i")
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
            talk.send(_HEADER.pack(_HEADER.size + len(body), _GET, _REQUEST_DUMP, 1, 0) + body)
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
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size or start + length > len(data):
            return True
        body = data[start + _HEADER.size : start + length]
        if kind == _ERROR:
            code = -_CODE.unpack_from(body)[0] if len(body) >= _CODE.size else 0
            if code:
                raise OSError(code, os.strerror(code))
        if kind in (_ERROR, _DONE):
            return True
        if kind == _NEW and len(body) >= _NEIGHBOUR.size:
            _, _, _, link, state, _, _ = _NEIGHBOUR.unpack_from(body)
            values = dict(_attributes(body[_NEIGHBOUR.size :]))
            address = values.get(_ADDRESS, b"")
            if state & _PERMANENT and len(address) == 16:
                text = socket.inet_ntop(socket.AF_INET6, address)
                found.add(Neighbour(link, text, values.get(_MAC, b"").hex(":")))
        start += (length + 3) & ~3
    return False


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size or start + length > len(data):
            return
        yield kind, data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
