"""Netlink messages as bytes, where objects would take too long. Pure. Source: netlink(7).

Tests: ``tests/unit/network/kernel/test_connections.py``,
``tests/unit/network/kernel/test_neighbours.py``.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
"""Flags of requests."""
ERROR, DONE = 2, 3
"""Types of the answers that end others; an error may be none."""
NESTED: Final = 0x8000
"""In the type of an attribute: its value is attributes."""
_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_CODE: Final = struct.Struct("=i")


def message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """Return a message of this type."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each message in a datagram; stops at invalid data."""
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size or start + length > len(data):
            return
        yield kind, data[start + _HEADER.size : start + length]
        start += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute of this type."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type, without flags, and value of each attribute; stops at invalid data."""
    start = 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size or start + length > len(data):
            return
        yield kind & _TYPE_MASK, data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3


def raise_refusal(body: bytes, *tolerated: int) -> None:
    """Raise the ``OSError`` in the body of an answer that ends others, unless it is 0 or tolerated."""
    code = -_CODE.unpack_from(body)[0] if len(body) >= _CODE.size else 0
    if code > 0 and code not in tolerated:
        raise OSError(code, os.strerror(code))
