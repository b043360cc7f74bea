"""Reads the files of the audit trail, newest record first. Blocking, and without locks.

A reader may be another process than the one that writes. Lines that are no records are passed over.
"""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from agent.controlplane.audit.files import numbered, numbers
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK_BYTES: Final = 128 * 1024
_LINE_MOST_BYTES: Final = 2**20
_AFTER_MOST_BYTES: Final = 4 * 2**20
_TRIES: Final = 5
SLACK_S: Final = 300.0
"""How far records may be out of order, because clocks are set."""


class Place(NamedTuple):
    """Where a record begins: the number that its file has or will get when it is full, and the offset."""

    number: int
    offset: int


class Found(NamedTuple):
    """One record."""

    place: Place
    record: dict[str, Any]


class Page(NamedTuple):
    """Some records, newest first."""

    records: list[Found]
    next: Place | None
    """Where the next page begins; None if there is nothing more. A page may be empty all the same."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which records are wanted; what is empty or None is not looked at."""

    user: str = ""
    event: str = ""
    source: str = ""
    access_key: str = ""
    event_id: str = ""
    resource: str = ""
    """Its ARN, its name, or what the request has for it."""
    resource_type: str = ""
    read_only: bool | None = None
    refused: bool = False
    """Only calls that were not done."""
    since: float | None = None
    """Unix seconds."""
    until: float | None = None

    def matches(self, record: dict[str, Any]) -> bool:
        """Return whether a record is wanted."""
        identity = record.get("userIdentity") or {}
        source = str(record.get("eventSource", ""))
        at = event_time(record)
        return (
            self.user in ("", user_of(record), identity.get("arn"))
            and self.event.lower() in ("", str(record.get("eventName", "")).lower())
            and self.source in ("", source, source.partition(".")[0])
            and self.access_key in ("", identity.get("accessKeyId"))
            and self.event_id in ("", record.get("eventID"))
            and self.read_only in (None, record.get("readOnly"))
            and (not self.refused or "errorCode" in record)
            and (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
            and (not self.resource_type or self.resource_type in _types(record))
            and (not self.resource or self.resource in names_of(record))
        )


def event_time(record: dict[str, Any]) -> float:
    """Return when a call was made, in Unix seconds; 0 for a record without a time."""
    try:
        text = str(record.get("eventTime", "")).removesuffix("Z")
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def user_of(record: dict[str, Any]) -> str:
    """Return the name of who called, as ``LookupEvents`` tells it."""
    identity = record.get("userIdentity") or {}
    return str(
        identity.get("userName") or _last(str(identity.get("arn") or identity.get("type", "")))
    )


def names_of(record: dict[str, Any]) -> set[str]:
    """Return the names and ARNs of what a call is about."""
    arns = {str(each.get("ARN", "")) for each in record.get("resources") or ()}
    asked = record.get("requestParameters")
    texts = (
        []
        if not isinstance(asked, dict)
        else [
            text
            for value in asked.values()
            for text in (value if isinstance(value, list) else [value])
            if isinstance(text, str)
        ]
    )
    return arns | {_last(arn) for arn in arns} | set(texts) | {_last(text) for text in texts}


def _types(record: dict[str, Any]) -> set[str]:
    return {str(each.get("type", "")) for each in record.get("resources") or ()}


def _last(arn: str) -> str:
    return arn.rpartition("/")[2].rpartition(":")[2]


def page(
    path: Path, wanted: Wanted, *, start: Place | None = None, most: int, most_bytes: int
) -> Page:
    """Return records before a place, newest first, or the newest ones.

    Args:
        path: the file of the trail.
        wanted: which ones.
        start: the ``next`` of the page before.
        most: of records.
        most_bytes: of the files that are read for one page, so that a call takes no longer than that.

    Raises:
        OSError: a file is there and cannot be read.
    """
    found: list[Found] = []
    read_bytes = 0
    for place, line in _lines(path, start):
        read_bytes += len(line)
        record = _decoded(line)
        if record is not None:
            if wanted.since is not None and 0 < event_time(record) < wanted.since - SLACK_S:
                return Page(found, None)
            if wanted.matches(record):
                found.append(Found(place, record))
        if len(found) == most or read_bytes >= most_bytes:
            return Page(found, place)
    return Page(found, None)


def end(path: Path) -> Place:
    """Return the place behind the newest record; raises ``OSError``."""
    full, newest = _opened(path)
    size = 0
    if newest is not None:
        size = os.fstat(newest).st_size
        os.close(newest)
    return Place((full[-1] if full else 0) + 1, size)


def after(path: Path, place: Place) -> tuple[list[dict[str, Any]], Place]:
    """Return records from a place on, oldest first, and the place behind them.

    They are those of one file, and at most ``_AFTER_MOST_BYTES`` of it. If there are none, there is nothing more yet.

    Raises:
        OSError: a file is there and cannot be read.
    """
    full, newest = _opened(path)
    try:
        for number in (each for each in full if each >= place.number):
            handle = _open(numbered(path, number))
            if handle is None:
                continue
            try:
                records, behind = _forwards(handle, number, place)
            finally:
                os.close(handle)
            if records:
                return records, behind
        if newest is None:
            return [], place
        return _forwards(newest, (full[-1] if full else 0) + 1, place)
    finally:
        if newest is not None:
            os.close(newest)


def _forwards(handle: int, number: int, place: Place) -> tuple[list[dict[str, Any]], Place]:
    """Return records of a file behind a place, and the place behind them."""
    begin = place.offset if number == place.number else 0
    block = os.pread(handle, _AFTER_MOST_BYTES, begin)
    whole = block[: block.rfind(b"\n") + 1]
    if not whole and len(block) == _AFTER_MOST_BYTES:
        whole = block  # no record of ours is so long
    found = (_decoded(line) for line in whole.splitlines())
    return [each for each in found if each is not None], Place(number, begin + len(whole))


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except BAD_JSON:
        return None


def _lines(path: Path, start: Place | None) -> Iterator[tuple[Place, bytes]]:
    """Yield lines with their places, the last one first."""
    full, newest = _opened(path)
    yield from _of_file((full[-1] if full else 0) + 1, newest, start)
    for number in reversed(full):
        if start is None or number <= start.number:
            yield from _of_file(number, _open(numbered(path, number)), start)


def _of_file(number: int, handle: int | None, start: Place | None) -> Iterator[tuple[Place, bytes]]:
    """Yield lines of one file, which is closed then; None for one that has gone."""
    if handle is None:
        return
    try:
        end = os.fstat(handle).st_size
        if start is not None and number > start.number:
            return
        if start is not None and number == start.number:
            end = min(end, start.offset)
        for offset, line in _backwards(handle, end):
            yield Place(number, offset), line
    finally:
        os.close(handle)


def _opened(path: Path) -> tuple[list[int], int | None]:
    """Return the numbers of the full files, and the newest file, opened.

    A rotation in between would give the newest file a number that another one gets then, so it is tried again.
    """
    for _ in range(_TRIES):
        before = _numbers(path)
        newest = _open(path)
        if _numbers(path) == before:
            return before, newest
        if newest is not None:
            os.close(newest)
    raise OSError(errno.EAGAIN, "is rotated all the time", str(path))


def _numbers(path: Path) -> list[int]:
    try:
        return numbers(path)
    except FileNotFoundError:
        return []


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _backwards(handle: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines before an offset with where they begin, the last one first."""
    rest = b""
    while end > 0:
        begin = max(0, end - _CHUNK_BYTES)
        block = os.pread(handle, end - begin, begin) + rest
        lines = block.split(b"\n")
        # The first may begin in the block before.
        rest = lines[0]
        offset = begin + len(block)
        for line in reversed(lines[1:]):
            offset -= len(line)
            if line:
                yield offset, line
            offset -= 1
        end = begin
        if len(rest) > _LINE_MOST_BYTES:
            rest = b""  # no record of ours
    if rest:
        yield 0, rest
