"""The SQLite file of the control endpoint: its tables, how it is opened, and how rows are read.

Shaped like etcd's storage: ``log`` holds every change there was, ``current`` points at the newest of
each key that exists. A row's ``id`` is ``revision << 20 | place in its transaction``, so that
history is a range of ids. Keys are UTF-8 bytes, compared byte by byte.

Blocking; called in the store's threads only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING

from agent.controlplane.store.contract import Compacted, Event, KeyValue, StoreFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
PLACE_BITS = 20
"""At most this many bits of keys change in one transaction (a deleted prefix, an ended lease)."""
HISTORY_LIMIT = 1024
"""Events that one reading of history aims at; whole revisions are never cut."""
SHORT_HISTORY = 100
"""Revisions; below this it is quicker to read all of them than to search for keys."""

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 1), ('compact_revision', 0);
CREATE TABLE log (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL,
  value BLOB,              -- NULL: the key was deleted
  create_revision INTEGER NOT NULL,
  version INTEGER NOT NULL,
  lease INTEGER NOT NULL
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

_CURRENT = (
    "SELECT c.key, l.value, c.create_revision, c.id, c.version, c.lease"
    " FROM current c JOIN log l ON l.id = c.id"
)


class FileLock:
    """Keeps a second process away from the same store; released by the kernel on any exit."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            text = f"{path} is used by another process; stop it or choose another data directory"
            raise StoreFailure(text) from None

    def release(self) -> None:
        """Let others use the store; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_file(path: Path) -> sqlite3.Connection:
    """Return the writing connection; makes the file (mode 0600) and its tables when missing.

    Raises:
        StoreFailure: the file cannot be read or written, or a newer program made it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreFailure(f"{path} cannot be opened: {error}") from error
    try:
        _migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StoreFailure(f"{path} is no store of the control endpoint: {error}") from error
    except StoreFailure:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise StoreFailure(
            f"{path} has schema version {found}, this program knows {SCHEMA_VERSION}: "
            "run the newer program"
        )
    if found == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that any one thread at a time may use."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 2000")
    return connection


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[int]:
    """Hold one view of the store while reading; gives its revision."""
    connection.execute("BEGIN")
    try:
        yield meta(connection, "revision")
    finally:
        connection.execute("ROLLBACK")


def meta(connection: sqlite3.Connection, name: str) -> int:
    """Return a number of the store itself: ``revision`` or ``compact_revision``."""
    value: int = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
    return value


def set_meta(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Set a number of the store itself."""
    connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))


def prefix_end(prefix: str) -> bytes:
    """Return the first key behind all that begin with ``prefix``."""
    raw = prefix.encode()
    # UTF-8 never holds 0xff, so that the last byte can always be raised.
    return raw[:-1] + bytes([raw[-1] + 1]) if raw else b"\xff"


def read_key(connection: sqlite3.Connection, key: str) -> KeyValue | None:
    """Return a key as it is now."""
    row = connection.execute(f"{_CURRENT} WHERE c.key = ?", (key.encode(),)).fetchone()
    return None if row is None else _key_value(row)


def read_range(
    connection: sqlite3.Connection, prefix: str, start_after: str | None, limit: int
) -> list[KeyValue]:
    """Return the first ``limit`` keys (all when negative) under a prefix, in order."""
    first = prefix.encode()
    if start_after is not None and start_after.encode() >= first:
        # The next possible key: one bound, so that a late page costs no more than the first.
        first = start_after.encode() + b"\x00"
    rows = connection.execute(
        f"{_CURRENT} WHERE c.key >= ? AND c.key < ? ORDER BY c.key LIMIT ?",
        (first, prefix_end(prefix), limit),
    )
    return [_key_value(row) for row in rows]


def read_history(
    connection: sqlite3.Connection, prefix: str, after_revision: int
) -> tuple[list[Event], int, bool]:
    """Return the events behind a revision, the revision they reach, and whether there are more.

    Raises:
        Compacted: a part of that history is gone.
    """
    with snapshot(connection) as revision:
        compacted = meta(connection, "compact_revision")
        if after_revision < compacted:
            raise Compacted(compacted)
        # A short piece of history is read through; of a long one only the keys that are asked for.
        path = (
            "NOT INDEXED" if revision - after_revision <= SHORT_HISTORY else "INDEXED BY log_by_key"
        )
        rows = connection.execute(
            f"SELECT key, value, create_revision, id, version, lease FROM log {path}"  # noqa: S608 - fixed texts
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


def _key_value(row: tuple[bytes, bytes | None, int, int, int, int]) -> KeyValue:
    key, value, create_revision, row_id, version, lease = row
    return KeyValue(
        key.decode(), value or b"", create_revision, row_id >> PLACE_BITS, version, lease
    )
