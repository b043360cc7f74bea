"""CBOR (RFC 8949) as rpcv2Cbor uses it, with bounds: it comes from the network. Pure.

Reads definite and indefinite lengths, all floats, and times (tag 1) as Unix seconds; other tags are left
out, and binary becomes base64, as JSON has it.
"""

from __future__ import annotations

import base64
import struct
from typing import Any, Final

_DEEPEST: Final = 64
_BREAK: Final = object()
_FLOATS: Final = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_UNDEFINED: Final = 23
_SIMPLE: Final = {20: False, 21: True, 22: None, _UNDEFINED: None}
_INDEFINITE: Final = 31
_LENGTH_BYTES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _OTHER = range(8)


class NotCbor(ValueError):
    """The bytes are not CBOR, or more than is read; the text says why."""


def decode(raw: bytes, *, most_values: int) -> Any:
    """Return the value that the bytes are.

    Args:
        raw: the whole document.
        most_values: how many values it may have, with those inside others.

    Raises:
        NotCbor: it cannot be read.
    """
    reader = _Reader(raw, most_values)
    value = reader.value(0)
    if value is _BREAK or not reader.at_end:
        raise NotCbor("it does not end where its value ends")
    return value


class _Reader:
    def __init__(self, raw: bytes, most_values: int) -> None:
        self._raw = raw
        self._at = 0
        self._left = most_values

    @property
    def at_end(self) -> bool:
        return self._at == len(self._raw)

    def value(self, depth: int) -> Any:
        """Return the next value; ``_BREAK`` for the end of an indefinite one."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise NotCbor("it has too many values")
        head = self._take(1)[0]
        major, info = head >> 5, head & 31
        if major == _OTHER:
            return self._other(info)
        length = self._length(major, info)
        match major:
            case 0:
                return length
            case 1:
                return -1 - _known(length)
            case 2:
                return base64.b64encode(self._string(major, length)).decode()
            case 3:
                return self._text(length)
            case 4:
                return self._array(length, depth)
            case 5:
                return self._map(length, depth)
        return self.value(depth + 1)  # a tag, of which only times are in use: numbers

    def _take(self, count: int) -> bytes:
        taken = self._raw[self._at : self._at + count]
        if len(taken) < count:
            raise NotCbor("it is cut off")
        self._at += count
        return taken

    def _length(self, major: int, info: int) -> int | None:
        if info < min(_LENGTH_BYTES):
            return info
        if info == _INDEFINITE and major in (_BYTES, _TEXT, _ARRAY, _MAP):
            return None
        if info not in _LENGTH_BYTES:
            raise NotCbor("a length is not valid")
        return int.from_bytes(self._take(_LENGTH_BYTES[info]), "big")

    def _other(self, info: int) -> Any:
        if info == _INDEFINITE:
            return _BREAK
        if info in _FLOATS:
            packed = _FLOATS[info]
            return packed.unpack(self._take(packed.size))[0]
        if info in _SIMPLE:
            return _SIMPLE[info]
        raise NotCbor("it has a value of an unknown kind")

    def _string(self, major: int, length: int | None) -> bytes:
        if length is not None:
            return self._take(length)
        parts = []
        while (head := self._take(1)[0]) != (_OTHER << 5 | _INDEFINITE):
            if head >> 5 != major:
                raise NotCbor("a string has a part that is not a string")
            parts.append(self._take(_known(self._length(_UNSIGNED, head & 31))))
        return b"".join(parts)

    def _text(self, length: int | None) -> str:
        try:
            return self._string(_TEXT, length).decode()
        except UnicodeDecodeError:
            raise NotCbor("a text is not UTF-8") from None

    def _array(self, length: int | None, depth: int) -> list[Any]:
        items: list[Any] = []
        while length is None or len(items) < length:
            item = self.value(depth + 1)
            if item is _BREAK:
                if length is not None:
                    raise NotCbor("a list ends too early")
                break
            items.append(item)
        return items

    def _map(self, length: int | None, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        read = 0
        while length is None or read < length:
            name = self.value(depth + 1)
            if name is _BREAK and length is None:
                break
            item = self.value(depth + 1)
            if not isinstance(name, str) or item is _BREAK:
                raise NotCbor("a map has a name that is not text, or ends too early")
            members[name] = item
            read += 1
        return members


def _known(length: int | None) -> int:
    if length is None:
        raise NotCbor("a length is missing")
    return length


def integer(value: int) -> bytes:
    """Return an integer."""
    return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)


def number(value: float) -> bytes:
    """Return a number as a double."""
    return b"\xfb" + struct.pack(">d", value)


def text(value: str) -> bytes:
    """Return a text."""
    raw = value.encode()
    return _head(_TEXT, len(raw)) + raw


def binary(value: bytes) -> bytes:
    """Return binary data."""
    return _head(_BYTES, len(value)) + value


def boolean(value: bool) -> bytes:
    """Return a truth value."""
    return b"\xf5" if value else b"\xf4"


def time(unix_s: float) -> bytes:
    """Return a time."""
    return b"\xc1" + number(unix_s)


def array(items: list[bytes]) -> bytes:
    """Return a list of encoded items."""
    return _head(_ARRAY, len(items)) + b"".join(items)


def mapping(members: dict[str, bytes]) -> bytes:
    """Return a map of encoded members."""
    parts = [part for name, item in members.items() for part in (text(name), item)]
    return _head(_MAP, len(members)) + b"".join(parts)


def _head(major: int, value: int) -> bytes:
    if value < min(_LENGTH_BYTES):
        return bytes([major << 5 | value])
    for info, size in _LENGTH_BYTES.items():
        if value < 1 << (8 * size):
            return bytes([major << 5 | info]) + value.to_bytes(size, "big")
    raise ValueError(f"{value} does not fit into 64 bits")
