"""Frames: how records stand one behind the other in a file that is only appended to. Pure.

A frame is a mark, the length and the checksum of what it holds, and that. A process that ended while
it wrote leaves a part of one at the end: the **torn tail**. What lies between two good frames and is
none is damage: the frames behind it are found by their mark and read all the same.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = struct.Struct("<4sII")
_MARK: Final = b"\xf7LF1"
HEAD_BYTES: Final = _HEAD.size


class Scan(NamedTuple):
    """What a file of frames holds."""

    payloads: list[bytes]
    end: int
    """Behind the last good frame: from here on is the torn tail."""
    damaged_bytes: int
    """Between good frames, or before the first one."""


def frame(payload: bytes) -> bytes:
    """Return a payload as it is written."""
    return _HEAD.pack(_MARK, len(payload), zlib.crc32(payload)) + payload


def payload_of(written: bytes) -> bytes | None:
    """Return what exactly one frame holds; None when it is damaged."""
    return _payload_at(written, 0)


def scan(data: bytes) -> Scan:
    """Return the payloads of all good frames."""
    payloads: list[bytes] = []
    end = damaged = 0
    for start, payload in _good(data):
        damaged += start - end
        end = start + HEAD_BYTES + len(payload)
        payloads.append(payload)
    return Scan(payloads, end, damaged)


def _good(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while 0 <= at < len(data):
        payload = _payload_at(data, at)
        if payload is None:
            at = data.find(_MARK, at + 1)
        else:
            yield at, payload
            at += HEAD_BYTES + len(payload)


def _payload_at(data: bytes, at: int) -> bytes | None:
    if len(data) - at < HEAD_BYTES:
        return None
    mark, length, checksum = _HEAD.unpack_from(data, at)
    payload = data[at + HEAD_BYTES : at + HEAD_BYTES + length]
    if mark != _MARK or len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    return payload
