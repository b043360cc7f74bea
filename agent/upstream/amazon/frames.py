"""Parses frames and refused upgrades: the envelope that ACS and TCS share. Pure.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/wsclient`` (behaviour of its decoder). Whatever a
server sends, these functions raise only ``ValueError``.

Tests: ``tests/unit/upstream/amazon/acs/test_messages.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Mapping


_TEXT_LIMIT: Final = 300
_NAME_LIMIT: Final = 100
_BODY_LIMIT: Final = 4096


class Frame(NamedTuple):
    """One message from the server. ``message`` points into the frame: copy it to keep it."""

    type: str
    message: msgspec.Raw


class Refusal(NamedTuple):
    """Why an upgrade was refused: the name of the ECS error, if there is one, and its text."""

    name: str
    text: str


class _Envelope(Struct):
    type: str = ""
    message: msgspec.Raw = msgspec.Raw(b"null")


class _Told(Struct):
    message: str | None = None


class _AwsError(Struct):
    kind: str = msgspec.field(default="", name="__type")
    message: str | None = None
    big_message: str | None = msgspec.field(default=None, name="Message")


_envelope = msgspec.json.Decoder(_Envelope)
_told = msgspec.json.Decoder(_Told)
_aws_error = msgspec.json.Decoder(_AwsError)
_single = msgspec.json.Decoder(dict[str, str | None])
encode = msgspec.json.Encoder().encode


def frame(raw: bytes) -> Frame:
    """Parse one frame.

    A frame without a type but with a single entry, ``{"ServerException": "text"}``, is read like
    ``{"type": "ServerException", "message": {"message": "text"}}``.

    Raises:
        ValueError: it is not a message; the text says why and contains nothing secret.
    """
    try:
        envelope = _envelope.decode(raw)
    except BAD_JSON as error:
        raise ValueError(one_line(str(error))) from None
    if envelope.type:
        return Frame(envelope.type[:_NAME_LIMIT], envelope.message)
    entry = _single_entry(raw)
    if entry is None:
        raise ValueError("it has no type")
    return Frame(entry.name, msgspec.Raw(encode({"message": entry.text})))


def refusal(raw: bytes, headers: Mapping[str, str]) -> Refusal:
    """Parse the HTTP body of a refused upgrade; never raises.

    The text is only shortened: the caller removes secrets.
    """
    for read in (_enveloped, _single_entry, _aws_style):
        found = read(raw)
        if found is not None:
            return found
    name = _bare_name(headers.get("x-amzn-ErrorType", ""))
    return Refusal(name, raw[:_BODY_LIMIT].decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """Return untrusted text in a form that is safe in a log line."""
    return " ".join(text[: 4 * _TEXT_LIMIT].split())[:_TEXT_LIMIT]


def _enveloped(raw: bytes) -> Refusal | None:
    try:
        envelope = _envelope.decode(raw)
        if not envelope.type:
            return None
        told = _told.decode(envelope.message).message
    except BAD_JSON:
        return None
    return Refusal(_bare_name(envelope.type), _text(told))


def _single_entry(raw: bytes) -> Refusal | None:
    try:
        entries = _single.decode(raw)
    except BAD_JSON:
        return None
    if len(entries) != 1:
        return None
    [(name, text)] = entries.items()
    if not name or name.lower() in {"message", "type", "__type"}:
        return None
    return Refusal(_bare_name(name), _text(text))


def _aws_style(raw: bytes) -> Refusal | None:
    try:
        error = _aws_error.decode(raw)
    except BAD_JSON:
        return None
    if not error.kind:
        return None
    return Refusal(_bare_name(error.kind), _text(error.message or error.big_message))


def _bare_name(kind: str) -> str:
    """``com.amazonaws.ecs#ServerException:http://...`` is ``ServerException``."""
    return one_line(kind.rpartition("#")[2].partition(":")[0])[:_NAME_LIMIT]


def _text(text: str | None) -> str:
    return "null" if text is None else text[:_BODY_LIMIT]
