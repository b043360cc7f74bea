"""The binary messages of session-manager-plugin: one header of 120 bytes, and a payload. Pure.

All numbers are big-endian. Source: what the plugin of AWS sends and takes, version 1.2 of its messages.
"""

from __future__ import annotations

import hashlib
import struct
import time
import uuid
from typing import Final

import msgspec
from msgspec import Struct, field

from agent.errors import BAD_JSON, AgentError

INPUT: Final = "input_stream_data"
OUTPUT: Final = "output_stream_data"
ACKNOWLEDGE: Final = "acknowledge"
CLOSED: Final = "channel_closed"
PAUSE: Final = "pause_publication"
RESUME: Final = "start_publication"
"""Kinds of messages."""

NOTHING: Final = 0
DATA: Final = 1
SIZE: Final = 3
HANDSHAKE_REQUEST: Final = 5
HANDSHAKE_RESPONSE: Final = 6
HANDSHAKE_COMPLETE: Final = 7
FLAG: Final = 10
"""Kinds of payloads."""

TERMINATE: Final = (2).to_bytes(4, "big")
"""Payload of a ``FLAG`` by which a client ends its session."""
ALONE: Final = 3
"""Flags of a message that is no part of a sequence: it is both the first and the last."""

FRAME_LIMIT_BYTES: Final = 16 * 1024
"""Longest message of a client; the plugin sends up to 1,024 bytes of input in one."""
PAYLOAD_BYTES: Final = 1024
"""Longest payload that a client gets, as from AWS."""

_HEADER: Final = struct.Struct(">I32sIQqQ16s32sII")
_HEADER_LENGTH: Final = _HEADER.size - 4
"""As the header gives it: without the length of the payload, its last number."""
_VERSION: Final = 1
_HALF: Final = 8


class FrameInvalid(AgentError):
    """Bytes that are no message; the text says what is wrong with them."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Frame(Struct, frozen=True, kw_only=True):
    """One message."""

    kind: str
    sequence: int = 0
    """Of the messages that are acknowledged, from 0 in each direction."""
    payload: bytes = b""
    payload_kind: int = NOTHING
    flags: int = 0
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    created_ms: int = field(default_factory=_now_ms)
    """Milliseconds since 1970; never 0."""


class Acknowledged(Struct, frozen=True, rename="pascal"):
    """Payload of an ``ACKNOWLEDGE``."""

    acknowledged_message_type: str
    acknowledged_message_id: str
    acknowledged_message_sequence_number: int
    is_sequential_message: bool = True


_acknowledged = msgspec.json.Decoder(Acknowledged)


def encode(frame: Frame) -> bytes:
    """Return a message as bytes."""
    raw_id = frame.id.bytes
    head = _HEADER.pack(
        _HEADER_LENGTH,
        frame.kind.encode().ljust(32),
        _VERSION,
        frame.created_ms,
        frame.sequence,
        frame.flags,
        raw_id[_HALF:] + raw_id[:_HALF],
        hashlib.sha256(frame.payload).digest(),
        frame.payload_kind,
        len(frame.payload),
    )
    return head + frame.payload


def decode(data: bytes) -> Frame:
    """Return the message that bytes are.

    Raises:
        FrameInvalid: they are none; nothing else is raised for any bytes.
    """
    if len(data) < _HEADER.size:
        raise FrameInvalid(f"a message of {len(data)} bytes is shorter than its header")
    head = _HEADER.unpack_from(data)
    length, kind, _, created_ms, sequence, flags, raw_id, digest, payload_kind, size = head
    payload = data[_HEADER.size :]
    if length != _HEADER_LENGTH:
        raise FrameInvalid(f"the header's length is {length}, not {_HEADER_LENGTH}")
    if size != len(payload):
        raise FrameInvalid(f"the payload has {len(payload)} bytes, not {size}")
    if payload and hashlib.sha256(payload).digest() != digest:
        raise FrameInvalid("the payload does not have its digest")
    try:
        name = kind.strip(b" \0").decode("ascii")
    except UnicodeDecodeError:
        raise FrameInvalid("the kind of the message is not ASCII") from None
    return Frame(
        kind=name,
        sequence=sequence,
        payload=payload,
        payload_kind=payload_kind,
        flags=flags,
        id=uuid.UUID(bytes=raw_id[_HALF:] + raw_id[:_HALF]),
        created_ms=created_ms,
    )


def acknowledgement(of: Frame) -> Frame:
    """Return the message that says that another one has arrived."""
    payload = Acknowledged(of.kind, str(of.id), of.sequence)
    return Frame(kind=ACKNOWLEDGE, payload=msgspec.json.encode(payload), flags=ALONE)


def acknowledged(frame: Frame) -> int:
    """Return the sequence number that a message acknowledges; raises ``FrameInvalid``."""
    try:
        return _acknowledged.decode(frame.payload).acknowledged_message_sequence_number
    except BAD_JSON as error:
        raise FrameInvalid(f"an acknowledgement cannot be read: {error}") from None


def closed(session_id: str, output: str) -> Frame:
    """Return the last message of a session; the plugin shows ``output`` and ends."""
    frame_id, created_ms = uuid.uuid4(), _now_ms()
    payload = {
        "MessageType": CLOSED,
        "MessageId": str(frame_id),
        "DestinationId": session_id,
        "SessionId": session_id,
        "SchemaVersion": _VERSION,
        "CreatedDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created_ms / 1000)),
        "Output": output,
    }
    return Frame(
        kind=CLOSED,
        payload=msgspec.json.encode(payload),
        flags=ALONE,
        id=frame_id,
        created_ms=created_ms,
    )
