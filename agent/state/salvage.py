"""Recovers the readable rows of a damaged state file, in memory. Changes nothing on disk.

::

    file ─┐
          ├─► image: one database in memory ─► rows of each table, around every bad page
    log  ─┘

The first page says which tables there are and where each begins. If it is bad, the first page of a
new file takes its place: the tables of all state files begin at the same pages, because the same
migrations create them in the same order.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.state import failures, migration, schema, wal

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_BYTES: Final = 4096
"""SQLite's default; state files never have another page size."""
_PROBES: Final = 5000
"""Maximum lookups in a table past bad pages, before the rest counts as lost."""
_LARGEST_ROWID: Final = (1 << 63) - 1

Row = tuple[object, ...]


class Salvaged(NamedTuple):
    """The recovered rows."""

    version: int
    """The schema version of the rows."""
    tables: dict[str, list[Row]]
    lost: list[str]
    """Tables that could not be read completely."""


def read(file: bytes, log: wal.Log) -> Salvaged:
    """Return the rows in a damaged file and its log. Never raises because of their content."""
    image = _image(file, log)
    found = _rows_of(image)
    if all(found.tables.values()) and not found.lost:
        return found
    template = _fresh_image()
    with_schema = template[:PAGE_BYTES] + image[PAGE_BYTES:]
    other = _rows_of(_sized(with_schema))
    return other if _count(other) > _count(found) else found


def _count(found: Salvaged) -> int:
    return sum(len(rows) for rows in found.tables.values())


def _image(file: bytes, log: wal.Log) -> bytes:
    """Apply the pages of the log to those of the file, as a checkpoint would."""
    pages = log.page_count or (len(file) + PAGE_BYTES - 1) // PAGE_BYTES
    image = bytearray(file[: pages * PAGE_BYTES].ljust(pages * PAGE_BYTES, b"\0"))
    for number, content in log.pages.items():
        if number <= pages and len(content) == PAGE_BYTES:
            image[(number - 1) * PAGE_BYTES : number * PAGE_BYTES] = content
    return _sized(bytes(image))


def _sized(image: bytes) -> bytes:
    """Correct the page count in the header; turn off WAL mode, which memory does not support."""
    head = bytearray(image[:100].ljust(100, b"\0"))
    head[18:20] = b"\x01\x01"
    head[28:32] = (len(image) // PAGE_BYTES).to_bytes(4, "big")
    head[92:96] = head[24:28]  # the page count is valid for this change counter
    return bytes(head) + image[100:]


def _fresh_image() -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migration.migrate(fresh)
        return fresh.serialize()


def _rows_of(image: bytes) -> Salvaged:
    version = int.from_bytes(image[60:64], "big")
    if not 0 < version <= schema.VERSION:
        version = schema.VERSION
    tables: dict[str, list[Row]] = {}
    lost: list[str] = []
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as source:
        # Read text as bytes: invalid text is set aside later, row by row.
        source.text_factory = bytes
        with contextlib.suppress(*failures.TROUBLE):
            source.deserialize(image)
            # Makes SQLite continue if it cannot read some schema entries.
            source.execute("PRAGMA writable_schema = ON")
        for table, order in schema.TABLES.items():
            tables[table], is_whole = _table(source, table, order)
            if not is_whole:
                lost.append(table)
    return Salvaged(version, tables, lost)


def _table(source: sqlite3.Connection, table: str, order: str) -> tuple[list[Row], bool]:
    """Read a table from both ends and, if its key is a number, between bad pages as well."""
    rows: dict[object, Row] = {}
    is_whole = _walk(source, table, order, rows, up=True)
    if is_whole:
        return list(rows.values()), True
    last = max((key for key in rows if isinstance(key, int)), default=0)
    _walk(source, table, order, rows, up=False)
    if order != "key":
        _beyond(source, table, order, rows, last)
    return [row for _, row in sorted(rows.items(), key=lambda item: _sortable(item[0]))], False


def _sortable(key: object) -> tuple[int, bytes]:
    return (key, b"") if isinstance(key, int) else (0, key if isinstance(key, bytes) else b"")


def _beyond(
    source: sqlite3.Connection, table: str, order: str, rows: dict[object, Row], last: int
) -> None:
    """Look for rows behind the bad page after the row ``last``, and behind further bad pages."""
    step = 1
    for _ in range(_PROBES):
        if last + step > _LARGEST_ROWID:
            return
        found: dict[object, Row] = {}
        is_end = _walk(source, table, order, found, up=True, above=last + step - 1)
        keys = [key for key in found if isinstance(key, int)]
        if keys:
            _walk(source, table, order, found, up=False, above=last, below=min(keys))
            rows |= found
            last, step = max(keys), 1
        if is_end:
            return
        step *= 2 if not keys else 1


def _walk(
    source: sqlite3.Connection,
    table: str,
    order: str,
    rows: dict[object, Row],
    *,
    up: bool,
    above: int | None = None,
    below: int = _LARGEST_ROWID,
) -> bool:
    """Read until the end or a bad page; return whether the end was reached."""
    where = "1" if above is None else f"{order} > {above} AND {order} < {below}"
    direction, further = ("ASC", ">") if up else ("DESC", "<")
    query = f"SELECT {order}, * FROM {table} WHERE {where}"  # noqa: S608 - our own names
    end = f"ORDER BY {order} {direction}"
    last: object = None
    try:
        for last, row in _in_order(source.execute(f"{query} {end}"), up=up):
            rows[last] = row
    except failures.TROUBLE:
        pass
    else:
        return True
    # The row before the bad page was not returned, because the next one was fetched with it.
    value = "CAST(? AS TEXT)" if isinstance(last, bytes) else "?"
    beyond = "" if last is None else f" AND {order} {further} {value}"
    nearest = f"{query}{beyond} {end} LIMIT 1"
    with contextlib.suppress(*failures.TROUBLE):
        found = source.execute(nearest, () if last is None else (last,)).fetchone()
        if found is not None and (last is None or _is_further(found[0], last, up=up)):
            rows[found[0]] = tuple(found[1:])
    return False


def _is_further(key: object, last: object, *, up: bool) -> bool:
    return _sortable(key) > _sortable(last) if up else _sortable(key) < _sortable(last)


def _in_order(cursor: sqlite3.Cursor, *, up: bool) -> Iterator[tuple[object, Row]]:
    """Yield rows; raise ``ValueError`` if they are out of order: damaged pages may form a loop."""
    last: object = None
    for key, *row in cursor:
        if last is not None and not _is_further(key, last, up=up):
            raise ValueError("rows are out of order")
        last = key
        yield key, tuple(row)
