"""Migrates a state file to a schema, one numbered migration per transaction. Blocking.

Tests: ``tests/unit/state/test_salvage.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import StateFailure
from agent.state import schema

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Check, before anything is written, that the file is ours and not from a newer agent.

    Raises:
        StateFailure: the file belongs to another program or has a newer schema.
    """
    version = _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and not is_ours(connection):
        raise StateFailure(f"{path} is the database of another program: move it away")
    if version > schema.VERSION:
        raise newer(path, version)


def newer(path: Path, version: int) -> StateFailure:
    """Return the failure for a file that a newer agent wrote."""
    return StateFailure(
        f"{path} was written by a newer agent (schema {version}, this agent knows"
        f" {schema.VERSION}): run that version or a newer one"
    )


def is_ours(connection: sqlite3.Connection) -> bool:
    """Return whether the file's header has the agent's application id."""
    return _pragma(connection, "application_id") == schema.APPLICATION_ID


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration applied to the file."""
    return _pragma(connection, "user_version")


def migrate(connection: sqlite3.Connection, *, to: int = schema.VERSION) -> None:
    """Apply the missing migrations, up to number ``to``; idempotent.

    After a crash or an error, the file is at the last completed migration.
    """
    version = version_of(connection)
    for number, statements in enumerate(schema.MIGRATIONS[version:to], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
