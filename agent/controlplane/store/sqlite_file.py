"""The file of the SQLite store: locks, creates, opens and migrates it.

::

    control.db             the store; with control.db-wal and control.db-shm while it is open
    control.db.lock        locked by the process that uses it
    control.db.revision    the newest committed revision, to notice that the file is an older copy

A new file is created under another name and renamed, so an empty file was never a store.

Blocking; called in the store's threads only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.controlplane.store import sqlite_schema as schema
from agent.controlplane.store.contract import StoreDamaged, StoreFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

WAL_LIMIT_BYTES = 4 * 1024 * 1024
"""The WAL is truncated at a checkpoint if it is longer than this."""
_HEADER_BYTES = 100
"""Every SQLite database is at least this long."""
_MEND = "stop control and restore a backup with `ecs-agent control restore`"


class FileLock:
    """Prevents a second process from using the store; the kernel releases it on any exit."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            text = f"{path} is used by another process; stop it or choose another data directory"
            raise StoreFailure(text) from None

    def release(self) -> None:
        """Release the lock; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Watermark:
    """The newest revision that was ever committed, stored next to the store.

    A damaged page of the WAL makes SQLite ignore the rest of the WAL, and an older copy of the file
    is an older store: neither can be recognized from the file itself. This file shows that the store
    was ahead. It is written after each commit and not synced, so that it costs nothing; after a power
    failure it may be behind, but never ahead.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(f"{path}.revision", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """Return the revision; 0 if there is none, or it cannot be read."""
        text = os.pread(self._fd, 64, 0)
        number, _, checksum = text.partition(b" ")
        if not number.isdigit() or checksum.strip() != _digest(number):
            return 0
        return int(number)

    def write(self, revision: int) -> None:
        """Write a revision; disk errors are ignored, because the commit itself succeeded."""
        number = b"%020d" % revision
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, number + b" " + _digest(number) + b"\n", 0)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _digest(number: bytes) -> bytes:
    return b"%08x" % zlib.crc32(number)


def open_file(path: Path) -> sqlite3.Connection:
    """Return the writing connection; creates a missing file (mode 0600) and its tables.

    Raises:
        StoreDamaged: the file is damaged.
        StoreFailure: the file cannot be read or written, or a newer program created it.
    """
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_size < _HEADER_BYTES:
            raise StoreDamaged(
                f"{path} is empty or truncated, so the store is lost: {_MEND}, or remove the file to start "
                "with no clusters, definitions, hosts and tasks"
            )
        path.chmod(0o600)
        with damage_named(path):
            connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreFailure(f"{path} cannot be opened: {error}") from error
    try:
        with damage_named(path):
            schema.migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StoreFailure(f"{path} cannot be used: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    if Path(f"{path}-wal").exists():
        raise StoreDamaged(
            f"{path} is missing but {path}-wal exists, so the store is lost: {_MEND}, or remove "
            f"{path}-wal to start with no clusters, definitions, hosts and tasks"
        )
    fresh = Path(f"{path}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        schema.create(connection)
    put_in_place(fresh, path)


def put_in_place(fresh: Path, path: Path) -> None:
    """Rename a closed database file to its final name, durably."""
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that one thread at a time may use; the file must exist."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10.0,
    )
    connection.execute("PRAGMA synchronous = FULL")
    # A fallback: normally the writer makes checkpoints when it is idle.
    connection.execute("PRAGMA wal_autocheckpoint = 8000")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    return connection


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about a damaged file into ``StoreDamaged``; others pass."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise damaged(path, str(error)) from error
    except schema.Garbled as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, fault: str) -> StoreDamaged:
    """Return the error for a damaged file, with what is wrong and how to fix it."""
    return StoreDamaged(f"{path} is damaged ({fault}): {_MEND}")


def is_damage(error: BaseException) -> bool:
    """Return whether an error of SQLite means that the file is damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A missing table means that its page in the schema cannot be read.
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (
        code == sqlite3.SQLITE_ERROR and str(error).startswith(("no such", "malformed"))
    )


def is_full(error: BaseException) -> bool:
    """Return whether an error of SQLite means that the disk is full."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
