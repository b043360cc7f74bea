"""Removes the host's tracked connections of a finished task by netlink.

A connection from a task to the outside stays in the host's table after the end of the task, for
days if it is TCP, and each datagram from the other side renews it. The next task with the same
address would receive data for the previous one, and could continue its connections. Sources:
``linux/netfilter/nfnetlink.h``, ``linux/netfilter/nfnetlink_conntrack.h``. Functions not marked as
pure block.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from agent.errors import NetworkFailure
from agent.network.kernel.raw_messages import (
    ACK,
    DONE,
    DUMP,
    ERROR,
    NESTED,
    REQUEST,
    attribute,
    attributes,
    message,
    messages,
    raise_refusal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETFILTER: Final = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_NEW: Final = 1 << 8
"""Type of an answer with a connection."""
_ORIGINAL, _ZONE, _FILTER = 1, 18, 25
_IP = 1
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_SOURCE: Final = 1
_FAMILY_BYTES: Final = 4
_FAMILIES: Final = {socket.AF_INET: 1, socket.AF_INET6: 3}
"""The attribute of a source address, by family."""
_DATAGRAM: Final = 262_144
_AT_ONCE: Final = 200
"""Removals per batch of answers; more of them do not fit the buffers."""
_LIMIT_S: Final = 10.0


def forget(address: str) -> int:
    """Remove every connection started from an address; return their number. Idempotent.

    Takes 3 ms, because the kernel scans the whole table.

    Raises:
        NetworkFailure: the kernel refused, or does not offer connection tracking by netlink.
    """
    try:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with socket.socket(socket.AF_NETLINK, kind, _NETFILTER) as talk:
            talk.settimeout(_LIMIT_S)
            talk.bind((0, 0))
            found = list(_listed(talk, address))
            for start in range(0, len(found), _AT_ONCE):
                _remove(talk, found[start : start + _AT_ONCE], _family_of(address))
    except OSError as error:
        raise NetworkFailure(f"connections of {address} cannot be removed: {error}") from None
    return len(found)


def listing(address: str) -> bytes:
    """Return the request for the connections started from this address. Pure.

    Kernels before 5.8 ignore the filter and list all.
    """
    family = _family_of(address)
    source = attribute(_FAMILIES[family], socket.inet_pton(family, address))
    flags = struct.pack("=I", _BY_SOURCE)
    content = attribute(_ORIGINAL | NESTED, attribute(_IP | NESTED, source)) + attribute(
        _FILTER | NESTED,
        attribute(_FILTER_ORIGINAL, flags) + attribute(_FILTER_REPLY, bytes(4)),
    )
    return _message(_GET, REQUEST | DUMP, 1, content, family)


def removal(number: int, tuples: bytes, family: int = socket.AF_INET) -> bytes:
    """Return the request that removes one connection. Pure."""
    return _message(_DELETE, REQUEST | ACK, number, tuples, family)


def tuples_of(body: bytes, address: str) -> bytes:
    """Return the attributes that identify a connection; empty if it is not of ``address``. Pure."""
    connection = dict(attributes(body[_FAMILY_BYTES:]))
    family = _family_of(address)
    original = connection.get(_ORIGINAL, b"")
    addresses = dict(attributes(dict(attributes(original)).get(_IP, b"")))
    if addresses.get(_FAMILIES[family]) != socket.inet_pton(family, address):
        return b""
    zone = attribute(_ZONE, connection[_ZONE]) if _ZONE in connection else b""
    return attribute(_ORIGINAL | NESTED, original) + zone


def _listed(talk: socket.socket, address: str) -> Iterator[bytes]:
    talk.send(listing(address))
    while True:
        for kind, body in messages(talk.recv(_DATAGRAM)):
            if kind in (ERROR, DONE):
                raise_refusal(body)
                return
            if kind == _NEW and (tuples := tuples_of(body, address)):
                yield tuples


def _remove(talk: socket.socket, found: list[bytes], family: int) -> None:
    talk.send(b"".join(removal(number, each, family) for number, each in enumerate(found, 1)))
    waiting = len(found)
    while waiting > 0:
        for kind, body in messages(talk.recv(_DATAGRAM)):
            if kind == ERROR:
                waiting -= 1
                raise_refusal(body, errno.ENOENT)  # the connection has just ended


def _family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _message(kind: int, flags: int, number: int, content: bytes, family: int) -> bytes:
    return message(kind, flags, number, struct.pack("=BBH", family, 0, 0) + content)
