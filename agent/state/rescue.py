"""Checks a state file before it is used, and recovers what it can of a damaged one.

Refusing to start would leave the host without its agent, and starting with an empty file would lose
track of the agent's tasks. So any failure to read counts as damage. File and log are set aside
unchanged, under a name with the time; every readable row is copied to a new file; and the agent
starts with a note for the operator. This also works if nothing can be read: the host's identity is
in the mirror (``upstream.host_identity``), control sends the tasks that it wants, and containers
are recognized by their labels. Only two files are refused, and left untouched: the state of a newer
agent, and the database of another program.

Blocking; ``database`` calls it while it holds the lock and before it opens the file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.state import failures, migration, salvage, schema, wal

if TYPE_CHECKING:
    from agent.state.salvage import Salvaged

_COMPANIONS: Final = ("", "-wal", "-shm")
_TOLD: Final = 3
"""Maximum number of SQLite's findings that are reported."""
_HEADER: Final = b"SQLite format 3\0"
_BELIEVED_NEWER: Final = 1000
"""A schema version more than this ahead of ours is taken as damage, not as a newer agent."""


def check(path: Path) -> str:
    """Check the file at ``path`` and its log; rescue them if they are damaged.

    Returns:
        An empty string if the file is intact, else a sentence on what was rescued.

    Raises:
        StateFailure: the file is not ours; it is left untouched.
        OSError: the rescued file cannot be written; nothing was changed.
        sqlite3.Error: likewise.
    """
    raw, unread = _read(path)
    journal, unread_log = _read(Path(f"{path}-wal"))
    log = wal.read(journal, file_bytes=len(raw))
    if not raw and not log.page_count:
        return ""
    _refuse_newer(raw, log, path)
    damage = unread or unread_log or log.damage or _damage_of(path, raw)
    if not damage:
        return ""
    return _rescue(path, damage, salvage.read(raw, log))


def _damage_of(path: Path, raw: bytes) -> str:
    """Return what is wrong with a file whose log is intact, or an empty string."""
    if not raw:
        return "it is empty, but its log is not"
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.text_factory = _lenient
            query = f"PRAGMA integrity_check({_TOLD})"
            found = [str(row[0]) for row in connection.execute(query)]
            if found != ["ok"]:
                return "; ".join(found)[:300]
            return _wrong_schema(connection, path)
    except failures.TROUBLE as error:
        if failures.is_of_the_disk(error):
            raise
        return str(error)[:300]


def _wrong_schema(connection: sqlite3.Connection, path: Path) -> str:
    """Return how our tables differ from the schema; empty for a file without tables.

    Raises:
        StateFailure: it is an intact database of another program.
    """
    found = _objects(connection)
    if found and not {name for _, name, _ in found} & schema.TABLES.keys():
        migration.refuse_foreign(connection, path)
    version = migration.version_of(connection)
    if found and not migration.is_ours(connection):
        return "its header lacks the agent's application id"
    if not 0 <= version <= schema.VERSION:
        return f"its header has the impossible schema version {version}"
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migration.migrate(fresh, to=version)
        wrong = sorted(_objects(fresh) ^ found)
    return f"the definition of {wrong[0][1]} in its schema is wrong" if wrong else ""


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
    return {(str(kind), str(name), str(sql)) for kind, name, sql in rows}


def _refuse_newer(raw: bytes, log: wal.Log, path: Path) -> None:
    """Refuse the file of a newer agent, damaged or not, before anything is written.

    Raises:
        StateFailure: a newer agent wrote it.
    """
    first = log.pages.get(1, raw[:100])
    version = int.from_bytes(first[60:64], "big")
    is_ours = int.from_bytes(first[68:72], "big") == schema.APPLICATION_ID
    if is_ours and first.startswith(_HEADER) and 0 < version - schema.VERSION <= _BELIEVED_NEWER:
        raise migration.newer(path, version)


def _rescue(path: Path, damage: str, salvaged: Salvaged) -> str:
    fresh = Path(f"{path}.rescued")
    _remove(fresh)
    try:
        _write(fresh, salvaged)
        kept = _set_aside(path)
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(fresh)
        raise
    _sync(path.parent)
    counts = {table: len(rows) for table, rows in salvaged.tables.items()}
    if not any(counts.values()):
        return (
            f"{path} was damaged ({damage}) and nothing in it could be read: it is kept as {kept}, "
            "and the agent started a new one; stop the agent before you restore a backup"
        )
    found = ", ".join(f"{count} in {table}" for table, count in counts.items())
    missing = f"; could not read all of {', '.join(salvaged.lost)}" if salvaged.lost else ""
    return (
        f"{path} was damaged ({damage}): rescued {found}{missing}; the old file is kept as {kept}"
    )


def _write(fresh: Path, salvaged: Salvaged) -> None:
    """Write the recovered rows to a new file, durably."""
    made = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as target:
            migration.migrate(target, to=salvaged.version)
            for table, rows in salvaged.tables.items():
                _insert(target, table, rows)
        os.fsync(made)
    finally:
        os.close(made)


def _insert(target: sqlite3.Connection, table: str, rows: list[salvage.Row]) -> None:
    columns = [(str(c[1]), str(c[2])) for c in target.execute(f"PRAGMA table_info({table})")]
    rows = [row for row in rows if len(row) == len(columns)]
    values = ", ".join(f"CAST(? AS {kind})" if kind == "TEXT" else "?" for _, kind in columns)
    names = ", ".join(name for name, _ in columns)
    target.execute("BEGIN")
    # Rows that violate a constraint of the table are not valid rows of ours.
    target.executemany(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({values})", rows)  # noqa: S608 - our own names
    target.execute("COMMIT")


def _set_aside(path: Path) -> Path:
    """Give file and log a second name, then remove the log's old one; keep their content.

    A crash in between only means another rescue: the old file keeps its name until the new one
    replaces it.
    """
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in itertools.count(1):
        kept = Path(f"{path}.damaged-{when}" + (f"-{number}" if number > 1 else ""))
        if not any(os.path.lexists(f"{kept}{suffix}") for suffix in _COMPANIONS):
            break
    for suffix in ("", "-wal"):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.chmod(0o600)
            _second_name(source, Path(f"{kept}{suffix}"))
    _sync(path.parent)
    # SQLite would apply the old log to the new file.
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return kept


def _second_name(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(made, "wb") as copy:  # noqa: PTH123 - an open descriptor
            copy.write(source.read_bytes())


def _read(path: Path) -> tuple[bytes, str]:
    """Return a file's content with zeros for unreadable parts, and why they are unreadable."""
    try:
        return path.read_bytes(), ""
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return _read_by_pages(path), f"{path.name}: {error.strerror}"


def _read_by_pages(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        return b"".join(
            _page(handle, at, min(salvage.PAGE_BYTES, size - at))
            for at in range(0, size, salvage.PAGE_BYTES)
        )
    finally:
        os.close(handle)


def _page(handle: int, at: int, size: int) -> bytes:
    try:
        return os.pread(handle, size, at).ljust(size, b"\0")
    except OSError:
        return bytes(size)


def _remove(path: Path) -> None:
    for suffix in (*_COMPANIONS, "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lenient(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
