"""Reads a message field by field, so that a wrong type affects only its own field. Pure.

Tests: ``tests/unit/upstream/amazon/acs/test_messages.py``.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from agent.errors import BAD_JSON
from agent.upstream.amazon.frames import one_line

Fields: TypeAlias = dict[str, msgspec.Raw]

TEXT_LIMIT: Final = 2048
"""No id or ARN is longer; a longer text counts as absent."""
PARTS_LIMIT: Final = 5000
"""No host has as many tasks or interfaces; parsing a longer list would block everything else."""
_INT64: Final = 2**63

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_whole = msgspec.json.Decoder(int)


class UnusableMessage(ValueError):
    """A message, or a part of one, that cannot be acted on; the text says why."""


def read(raw: msgspec.Raw | bytes, what: str) -> Fields:
    """Return the fields of an object; fields that are null are left out.

    Raises:
        UnusableMessage: it is not an object.
    """
    try:
        fields = _object.decode(raw)
    except BAD_JSON as error:
        raise UnusableMessage(f"{what} cannot be read: {one_line(str(error))}") from None
    return {name: value for name, value in fields.items() if not _is_null(value)}


def _is_null(value: msgspec.Raw) -> bool:
    # Not converted as a whole: a list of tasks may have several megabytes.
    return memoryview(value).nbytes == 4 and bytes(value) == b"null"


def text(fields: Fields, name: str, limit: int = TEXT_LIMIT) -> str:
    """Return a text; empty if it is absent, not a text, or longer than ``limit``."""
    if name not in fields:
        return ""
    try:
        value = _text.decode(fields[name])
    except BAD_JSON:
        return ""
    return value if len(value) <= limit else ""


def needed(fields: Fields, *names: str) -> tuple[str, ...]:
    """Return required texts; raises ``UnusableMessage`` with the names of the missing ones."""
    values = tuple(text(fields, name) for name in names)
    missing = [name for name, value in zip(names, values, strict=True) if not value]
    if missing:
        raise UnusableMessage(f"{', '.join(missing)} missing or not a text")
    return values


def whole(fields: Fields, name: str) -> int | None:
    """Return a 64-bit integer; None if it is absent or anything else."""
    if name not in fields:
        return None
    try:
        value = _whole.decode(fields[name])
    except BAD_JSON:
        return None
    return value if -_INT64 <= value < _INT64 else None


def parts(fields: Fields, name: str) -> list[msgspec.Raw]:
    """Return the elements of a list; empty if it is absent.

    Raises:
        UnusableMessage: it is not a list, or has too many elements.
    """
    if name not in fields:
        return []
    try:
        found = _list.decode(fields[name])
    except BAD_JSON as error:
        raise UnusableMessage(f"{name} is not a list: {one_line(str(error))}") from None
    if len(found) > PARTS_LIMIT:
        raise UnusableMessage(f"{name} has {len(found)} entries, more than {PARTS_LIMIT}")
    return found
