"""What the engine's log driver says and hears: the few calls of CloudWatch Logs that it makes. Pure.

JSON 1.1: the operation stands in ``X-Amz-Target``, an error in ``__type`` of a 400. Observed with Docker
Engine 20.10.24 (aws-sdk-go 1.44); limits are those of the API reference of CloudWatch Logs.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON

T = TypeVar("T")

TARGET: Final = "Logs_20140328."
CONTENT_TYPE: Final = "application/x-amz-json-1.1"
BODY_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""A full batch, were each of its characters escaped with six."""
EVENTS_LIMIT: Final = 10_000
BATCH_LIMIT_BYTES: Final = 1_048_576
_PER_EVENT_BYTES: Final = 26
_NAME_LIMIT: Final = 512
_FAST: Final = 1
"""Level of compression."""


class LogsRefused(Exception):
    """A call is not answered as asked; ``kind`` is the name of the error on the wire."""

    def __init__(self, kind: str, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status


class _Call(Struct, frozen=True, rename="camel"):
    log_group_name: str
    log_stream_name: str


class _CreateGroup(Struct, frozen=True, rename="camel"):
    log_group_name: str


class _Event(Struct, frozen=True):
    timestamp: int
    message: str


class _Put(Struct, frozen=True, rename="camel"):
    log_group_name: str
    log_stream_name: str
    log_events: list[_Event]
    sequence_token: str | None = None


class PackedEvents(Struct, frozen=True, kw_only=True):
    """Events of one stream, ready to be kept."""

    id: str
    """The same for the same call, also when the driver makes it again."""
    group: str
    stream: str
    events: int
    """How many."""
    plain_bytes: int
    body: bytes
    """Compressed JSON: a list of pairs of a time in milliseconds and a line."""


_stream = msgspec.json.Decoder(_Call)
_group = msgspec.json.Decoder(_CreateGroup)
_put = msgspec.json.Decoder(_Put)
_encode = msgspec.json.Encoder().encode


def read_stream(body: bytes) -> tuple[str, str]:
    """Return group and stream of ``CreateLogStream``; raises ``LogsRefused``."""
    call = _read(_stream, body)
    _check_names(call.log_group_name, call.log_stream_name)
    return call.log_group_name, call.log_stream_name


def read_group(body: bytes) -> str:
    """Return the group of ``CreateLogGroup``; raises ``LogsRefused``."""
    group = _read(_group, body).log_group_name
    _check_names(group)
    return group


def read_put(body: bytes, invocation: str = "") -> PackedEvents:
    """Return the events of ``PutLogEvents``, packed. Takes milliseconds for a full batch.

    Args:
        body: of the call.
        invocation: what the SDK calls this call, however often it is sent; empty where it says none.

    Raises:
        LogsRefused: it cannot be read, or breaks a limit of the API.
    """
    call = _read(_put, body)
    _check_names(call.log_group_name, call.log_stream_name)
    if not call.log_events:
        raise _invalid("logEvents is empty")
    size = sum(len(e.message.encode()) + _PER_EVENT_BYTES for e in call.log_events)
    if len(call.log_events) > EVENTS_LIMIT or size > BATCH_LIMIT_BYTES:
        raise _invalid(
            f"a batch can have {EVENTS_LIMIT} events and {BATCH_LIMIT_BYTES} bytes; this one has "
            f"{len(call.log_events)} and {size}"
        )
    plain = _encode([(event.timestamp, event.message) for event in call.log_events])
    # The same lines can come twice in one millisecond; then the token differs, which is the id of the
    # batch before. What is sent again is sent with the same token.
    after = call.sequence_token or invocation
    words = (call.log_group_name, call.log_stream_name, after)
    digest = hashlib.sha256("\0".join(words).encode() + b"\0" + plain).hexdigest()
    return PackedEvents(
        id=digest[:32],
        group=call.log_group_name,
        stream=call.log_stream_name,
        events=len(call.log_events),
        plain_bytes=len(plain),
        body=zlib.compress(plain, _FAST),
    )


def unpacked(body: bytes) -> bytes:
    """Return the JSON of ``PackedEvents.body``; raises ``zlib.error``."""
    return zlib.decompress(body)


def answer_to_put(batch_id: str) -> bytes:
    """Return the body of a success; the driver brings the token along with its next batch."""
    return _encode({"nextSequenceToken": batch_id})


def refusal(error: LogsRefused) -> bytes:
    """Return the body of an error."""
    return _encode({"__type": error.kind, "message": str(error)})


def _read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except BAD_JSON as error:
        raise LogsRefused("SerializationException", f"the body cannot be read: {error}") from None


def _check_names(*names: str) -> None:
    for name in names:
        if not 0 < len(name) <= _NAME_LIMIT:
            raise _invalid(f"a name must have 1 to {_NAME_LIMIT} characters")


def _invalid(text: str) -> LogsRefused:
    return LogsRefused("InvalidParameterException", text)
