"""Checks the SQLite store for damage: at its start, and for ``ecs-agent control check``.

Reads the whole file once: about a second per gigabyte, and a second per 200,000 keys. Blocking.

Tests: ``tests/unit/controlplane/store/test_damage.py``.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from agent.controlplane.store import sqlite_schema as schema
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = 5
"""How many faults are reported at most; one is enough to know."""
_NO_FAULT = frozenset({"ok", "*** in database main ***"})


class CheckReport(NamedTuple):
    """The result of checking a store."""

    revision: int
    keys: int
    faults: list[str]
    """Empty if the store is not damaged."""


def check(connection: sqlite3.Connection) -> CheckReport:
    """Check the structure of the file, every key and its value, and the number of keys.

    Errors of SQLite and damaged rows become faults in the report; nothing is raised for them.
    """
    faults: list[str] = []
    revision = keys = 0
    try:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({SHOWN})")]
        faults += [line for text in found for line in text.splitlines() if line not in _NO_FAULT]
        with schema.snapshot(connection) as revision:
            wanted = schema.meta(connection, "keys")
            for key in schema.read_every_key(connection):
                keys += 1
                if isinstance(key, schema.Garbled) and len(faults) < SHOWN:
                    faults.append(str(key))
            newest = connection.execute("SELECT max(id) FROM log").fetchone()[0] or 0
            compacted = schema.meta(connection, "compact_revision")
        if keys != wanted:
            faults.append(f"{keys} of {wanted} keys are there")
        if max(newest >> schema.PLACE_BITS, compacted) > revision:
            faults.append(f"its revision {revision} is older than what it holds")
    except (sqlite3.DatabaseError, schema.Garbled) as error:
        faults.append(str(error))
    return CheckReport(revision, keys, faults[:SHOWN])


def check_copy(path: Path) -> CheckReport:
    """Check a file that no process uses, without changing it.

    Raises:
        StoreFailure: the file does not exist or cannot be read.
    """
    try:
        with path.open("rb"):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None
            )
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreFailure(f"{path} cannot be read: {reason}") from None
    try:
        return check(connection)
    finally:
        connection.close()
