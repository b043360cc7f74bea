"""The SQLite file of the control endpoint: its tables, and how rows are read.

Modelled on etcd's storage: ``log`` has every change, ``current`` points to the newest change of each
existing key. The ``id`` of a row is ``revision << 20 | position in its transaction``, so that history
is a range of ids. Keys are UTF-8 bytes, compared byte by byte. Each row of the log has a checksum, and
the number of keys is stored, so that data lost by a damaged page is noticed.

Blocking; called in the store's threads only.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import TYPE_CHECKING

from agent.controlplane.store.contract import Compacted, Event, KeyValue, StoreFailure

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 2
PLACE_BITS = 20
"""Bits for the number of keys that change in one transaction (a deleted prefix, an ended lease)."""
HISTORY_LIMIT = 1024
"""About how many events one read of history returns; whole revisions are never split."""
SHORT_HISTORY = 100
"""In revisions; below this it is faster to read all of them than to search for keys."""

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 1), ('compact_revision', 0), ('keys', 0);
CREATE TABLE log (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL,
  value BLOB,              -- NULL: the key was deleted
  create_revision INTEGER NOT NULL,
  version INTEGER NOT NULL,
  lease INTEGER NOT NULL,
  checksum INTEGER NOT NULL
);
CREATE INDEX log_by_key ON log (key, id);
CREATE TABLE current (
  key BLOB PRIMARY KEY,
  id INTEGER NOT NULL,
  create_revision INTEGER NOT NULL,
  version INTEGER NOT NULL,
  lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX current_by_lease ON current (lease) WHERE lease != 0;
CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_s REAL NOT NULL);
"""

_TO_2 = """
ALTER TABLE log ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE log SET checksum = row_checksum(id, key, value, create_revision, version, lease);
INSERT INTO meta SELECT 'keys', count(*) FROM current;
"""

_CURRENT = (
    # A row that is missing in the log must not look like a key that does not exist.
    "SELECT c.key, l.value, c.create_revision, c.id, c.version, c.lease, l.checksum"
    " FROM current c LEFT JOIN log l ON l.id = c.id"
)
_NUMBERS = struct.Struct(">qqqq?")


class Garbled(Exception):
    """A row differs from what was written."""


def create(connection: sqlite3.Connection) -> None:
    """Create the tables of a new store in an empty file."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate the tables of an existing store to the current version.

    Raises:
        StoreFailure: a newer program, or another program, created the file.
        sqlite3.Error: it cannot be read or written.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise StoreFailure(
            f"{path} has schema version {found}, but this program only knows {SCHEMA_VERSION}: "
            "use the newer program"
        )
    if found == 0:
        raise StoreFailure(f"{path} is not a store of a control endpoint; choose another directory")
    if found == 1:
        connection.create_function("row_checksum", 6, row_checksum, deterministic=True)
        connection.executescript(f"BEGIN IMMEDIATE; {_TO_2} PRAGMA user_version = 2; COMMIT;")


def row_checksum(
    row_id: int, key: bytes, value: bytes | None, create_revision: int, version: int, lease: int
) -> int:
    """Return the checksum of a row of the log."""
    numbers = _NUMBERS.pack(row_id, create_revision, version, lease, value is None)
    return zlib.crc32(value or b"", zlib.crc32(key, zlib.crc32(numbers)))


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[int]:
    """Read from one consistent state of the store; yields its revision."""
    connection.execute("BEGIN")
    try:
        yield meta(connection, "revision")
    finally:
        connection.execute("ROLLBACK")


def meta(connection: sqlite3.Connection, name: str) -> int:
    """Return a number of the store itself: ``revision``, ``compact_revision`` or ``keys``."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None or not isinstance(row[0], int):
        raise Garbled(f"its {name} is lost")
    return row[0]


def set_meta(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Set a number of the store itself."""
    connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))


def prefix_end(prefix: str) -> bytes:
    """Return the first key after all keys that begin with ``prefix``."""
    raw = prefix.encode()
    # UTF-8 never contains 0xff, so the last byte can always be increased.
    return raw[:-1] + bytes([raw[-1] + 1]) if raw else b"\xff"


def read_key(connection: sqlite3.Connection, key: str) -> KeyValue | None:
    """Return the current value of a key."""
    row = connection.execute(f"{_CURRENT} WHERE c.key = ?", (key.encode(),)).fetchone()
    return None if row is None else _key_value(row)


def read_range(
    connection: sqlite3.Connection, prefix: str, start_after: str | None, limit: int
) -> list[KeyValue]:
    """Return the first ``limit`` keys (all if negative) under a prefix, in order."""
    first = prefix.encode()
    if start_after is not None and start_after.encode() >= first:
        # The next possible key: one bound, so that a late page costs no more than the first.
        first = start_after.encode() + b"\x00"
    rows = connection.execute(
        f"{_CURRENT} WHERE c.key >= ? AND c.key < ? ORDER BY c.key LIMIT ?",
        (first, prefix_end(prefix), limit),
    )
    return [_key_value(row) for row in rows]


def read_every_key(connection: sqlite3.Connection) -> Iterator[KeyValue | Garbled]:
    """Yield all keys in order; for a damaged one, yield the error instead."""
    for row in connection.execute(f"{_CURRENT} ORDER BY c.key"):
        try:
            yield _key_value(row)
        except Garbled as garbled:
            yield garbled


def read_history(
    connection: sqlite3.Connection, prefix: str, after_revision: int
) -> tuple[list[Event], int, bool]:
    """Return the events after a revision, the revision they reach, and whether there are more.

    Raises:
        Compacted: a part of that history is gone.
    """
    with snapshot(connection) as revision:
        compacted = meta(connection, "compact_revision")
        if after_revision < compacted:
            raise Compacted(compacted)
        # Read a short part of history as a whole, but only the requested keys of a long one.
        path = (
            "NOT INDEXED" if revision - after_revision <= SHORT_HISTORY else "INDEXED BY log_by_key"
        )
        rows = connection.execute(
            "SELECT key, value, create_revision, id, version, lease, checksum"  # noqa: S608 - fixed texts
            f" FROM log {path}"
            " WHERE key >= ? AND key < ? AND id >= ? ORDER BY id",
            (prefix.encode(), prefix_end(prefix), (after_revision + 1) << PLACE_BITS),
        )
        events: list[Event] = []
        for row in rows:
            kv = _key_value(row)
            if len(events) >= HISTORY_LIMIT and kv.mod_revision != events[-1].kv.mod_revision:
                rows.close()
                return events, events[-1].kv.mod_revision, True
            events.append(Event("delete" if row[1] is None else "put", kv))
    return events, revision, False


def _key_value(row: tuple[bytes, bytes | None, int, int, int, int, int | None]) -> KeyValue:
    key, value, create_revision, row_id, version, lease, checksum = row
    try:
        if row_checksum(row_id, key, value, create_revision, version, lease) == checksum:
            return KeyValue(
                key.decode(), value or b"", create_revision, row_id >> PLACE_BITS, version, lease
            )
    except (TypeError, struct.error, UnicodeDecodeError):
        # A value has another type than was written, which shows damage without a checksum.
        pass
    raise Garbled(f"the row of {key!r:.200} is not as it was written")
