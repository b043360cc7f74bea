"""Checks a state file before it is used, and saves what can be saved of a damaged one.

What loses least: a start on an empty file would forget which containers are ours and under which
name the host is registered, so that healthy tasks would be ordered a second time. A stop would
leave the host without its agent. So a damaged file is copied aside untouched, every row that can
still be read goes into a new file, and the agent starts with a note for the operator. Only a file
of which nothing at all can be read stops the start, because then a person must choose.

Blocking; called by ``database`` while it holds the lock and before it opens the file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path

from agent.errors import StateFailure
from agent.state import failures, migration, schema


def check(path: Path) -> str:
    """Check the file at ``path``; rescue it if it is damaged.

    Returns:
        An empty string when all is well, else a sentence that says what was rescued.

    Raises:
        StateFailure: nothing can be read; the file is left as it is.
    """
    damage = _damage_of(path)
    if not damage:
        return ""
    kept = _keep_copy(path)
    fresh = Path(f"{path}.rescued")
    try:
        counts, lost = _copy_rows(path, fresh)
    except (sqlite3.Error, OSError, StateFailure) as error:
        _remove(fresh)
        _remove(kept)
        if not failures.is_damage(error):
            raise
        raise StateFailure(
            f"{path} is damaged and nothing of it can be read ({damage}): restore it from a backup,"
            " or move it away to start anew (the host then registers as a new container instance;"
            " remove the old one from the cluster, and its containers from this host)"
        ) from None
    _replace(path, fresh)
    found = ", ".join(f"{count} in {table}" for table, count in counts.items())
    missing = f"; could not read all of {', '.join(lost)}" if lost else ""
    return f"{path} was damaged ({damage}): rescued {found}{missing}; the old file is {kept}"


def _damage_of(path: Path) -> str:
    """Return what SQLite finds wrong with the file, or an empty string."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            found = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        except sqlite3.Error as error:
            if failures.is_damage(error):
                return str(error)
            raise
    return "" if found == ["ok"] else "; ".join(str(text) for text in found)[:300]


def _keep_copy(path: Path) -> Path:
    kept = Path(f"{path}.damaged-{int(time.time())}")
    for suffix in ("", "-wal"):
        source = Path(f"{path}{suffix}")
        if source.exists():
            shutil.copyfile(source, f"{kept}{suffix}")
            Path(f"{kept}{suffix}").chmod(0o600)
    return kept


def _copy_rows(path: Path, fresh: Path) -> tuple[dict[str, int], list[str]]:
    """Copy readable rows to a new file; return the rows per table and the tables with losses.

    Raises ``sqlite3.DatabaseError`` when no table can be read at all.
    """
    _remove(fresh)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    counts: dict[str, int] = {}
    lost: list[str] = []
    failed: sqlite3.Error | None = None
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as source,
        contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as target,
    ):
        # Text goes over as the bytes it is: a broken one is set aside later, by its row.
        source.text_factory = bytes
        # Lets SQLite read a file that is shorter than its header says; nothing is written to it.
        source.execute("PRAGMA writable_schema = ON")
        migration.refuse_foreign(source, path)
        migration.migrate(target, to=migration.version_of(source))
        for table, order in schema.TABLES.items():
            rows, error = _readable(source, table, order)
            if error is not None:
                lost.append(table)
                failed = error
            counts[table] = len(rows)
            _insert(target, table, list(rows.values()))
        if failed is not None and not any(counts.values()):
            raise failed
    return counts, lost


def _readable(
    source: sqlite3.Connection, table: str, order: str
) -> tuple[dict[object, tuple[object, ...]], sqlite3.Error | None]:
    """Read a table from both ends, so that one bad page costs only what lies on it."""
    rows: dict[object, tuple[object, ...]] = {}
    failed: sqlite3.Error | None = None
    for direction in ("ASC", "DESC"):
        query = f"SELECT {order}, * FROM {table} ORDER BY {order} {direction}"  # noqa: S608 - our own names
        try:
            for number, *row in source.execute(query):
                rows[number] = tuple(row)
        except sqlite3.Error as error:
            failed = error
    ordered = sorted(rows.items(), key=lambda item: item[0])  # type: ignore[arg-type, return-value]
    return dict(ordered), failed


def _insert(target: sqlite3.Connection, table: str, rows: list[tuple[object, ...]]) -> None:
    if not rows:
        return
    columns = [str(row[1]) for row in target.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(
        f"CAST(? AS {kind})" if kind == "TEXT" else "?"
        for kind in (str(row[2]) for row in target.execute(f"PRAGMA table_info({table})"))
    )
    target.execute("BEGIN")
    target.executemany(
        f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({values})",  # noqa: S608 - our own names
        rows,
    )
    target.execute("COMMIT")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _replace(path: Path, fresh: Path) -> None:
    """Put the rescued file in place.

    The old WAL goes first: SQLite would replay it over the new file. A crash in between only means
    another rescue, of the file without the WAL, and the copy has both.
    """
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
