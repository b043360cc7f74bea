"""Reading a message field by field: one of a wrong type harms nothing but itself. Pure.

Tests: ``tests/unit/upstream/amazon/acs/test_messages.py``.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from agent.upstream.amazon.frames import BAD_JSON, one_line

Fields: TypeAlias = dict[str, msgspec.Raw]

TEXT_LIMIT: Final = 2048
"""Longer ids and ARNs do not exist; what claims to be one counts as absent."""
PARTS_LIMIT: Final = 5000
"""No host has as many tasks or interfaces; reading a longer list would hold up all else."""
_INT64: Final = 2**63

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_whole = msgspec.json.Decoder(int)


class UnusableMessage(ValueError):
    """A message, or a part of one, that cannot be acted on; the text says why."""


def read(raw: msgspec.Raw | bytes, what: str) -> Fields:
    """Return the fields of an object; those that are null are left out.

    Raises:
        Unusable: it is no object.
    """
    try:
        fields = _object.decode(raw)
    except BAD_JSON as error:
        raise UnusableMessage(f"{what} cannot be read: {one_line(str(error))}") from None
    return {name: value for name, value in fields.items() if not _is_null(value)}


def _is_null(value: msgspec.Raw) -> bool:
    # Not compared as a whole: a list of tasks may be some megabytes long.
    return memoryview(value).nbytes == 4 and bytes(value) == b"null"


def text(fields: Fields, name: str, limit: int = TEXT_LIMIT) -> str:
    """Return a text; empty where it is absent, no text, or longer than anything meant here is."""
    if name not in fields:
        return ""
    try:
        value = _text.decode(fields[name])
    except BAD_JSON:
        return ""
    return value if len(value) <= limit else ""


def needed(fields: Fields, *names: str) -> tuple[str, ...]:
    """Return texts that must be there; raises ``UnusableMessage`` with the names of those that are not."""
    values = tuple(text(fields, name) for name in names)
    missing = [name for name, value in zip(names, values, strict=True) if not value]
    if missing:
        raise UnusableMessage(f"{', '.join(missing)} missing or no text")
    return values


def whole(fields: Fields, name: str) -> int | None:
    """Return a 64-bit integer; None where it is absent or anything else."""
    if name not in fields:
        return None
    try:
        value = _whole.decode(fields[name])
    except BAD_JSON:
        return None
    return value if -_INT64 <= value < _INT64 else None


def parts(fields: Fields, name: str) -> list[msgspec.Raw]:
    """Return the parts of a list; empty where it is absent.

    Raises:
        Unusable: it is no list, or one that is longer than anything meant here is.
    """
    if name not in fields:
        return []
    try:
        found = _list.decode(fields[name])
    except BAD_JSON as error:
        raise UnusableMessage(f"{name} is no list: {one_line(str(error))}") from None
    if len(found) > PARTS_LIMIT:
        raise UnusableMessage(f"{name} has {len(found)} entries, more than {PARTS_LIMIT}")
    return found
