"""Tables of the state file, their numbered migrations, and every statement that changes them.

Only SQL text; nothing here opens a file. The number of a migration is its position in
``MIGRATIONS``, counted from 1, and is stored in ``PRAGMA user_version``. A released migration is
never edited; a schema change is a new migration at the end.

::

    records    what rooms store: (kind, key) -> body, a JSON document that only its room can read
    meta       single values of the agent itself: identity, tokens
    outbox     state changes that control has not acknowledged, in the order in which they happened
    set_aside  rows that could not be read, kept for inspection

Tests: ``tests/unit/state/test_store.py``, ``tests/unit/state/test_salvage.py``.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x45434841
"""Identifies the file as ours in ``PRAGMA application_id`` ("ECHA")."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE records (
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            body BLOB NOT NULL,
            changed_at REAL NOT NULL,
            PRIMARY KEY (kind, key)
        )
        """,
        "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """
        CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            change_id TEXT NOT NULL,
            task_arn TEXT NOT NULL,
            body BLOB NOT NULL,
            at REAL NOT NULL
        )
        """,
        """
        CREATE TABLE set_aside (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            body BLOB,
            error TEXT NOT NULL,
            at REAL NOT NULL
        )
        """,
    ),
)

VERSION: Final = len(MIGRATIONS)
"""The schema version that this agent writes."""

TABLES: Final[dict[str, str]] = {
    "meta": "key",
    "records": "rowid",
    "outbox": "seq",
    "set_aside": "id",
}
"""Every table with the column it is ordered by; a rescue copies all of them."""

PUT: Final = (
    "INSERT INTO records (kind, key, body, changed_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body, changed_at = excluded.changed_at"
)
DELETE: Final = "DELETE FROM records WHERE kind = ? AND key = ?"
PUT_META: Final = (
    "INSERT INTO meta (key, value) VALUES (?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
DELETE_META: Final = "DELETE FROM meta WHERE key = ?"
ENQUEUE: Final = "INSERT INTO outbox (change_id, task_arn, body, at) VALUES (?, ?, ?, ?)"
SETTLE: Final = "DELETE FROM outbox WHERE seq = ?"
