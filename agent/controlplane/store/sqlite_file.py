"""The file of the SQLite store: locked, made whole, opened, and brought up to date.

::

    control.db             the store; with control.db-wal and control.db-shm while it is open
    control.db.lock        locked by the process that uses it
    control.db.revision    the newest revision that was committed, to notice that the file went back

A file is made beside its place and renamed there, so that an empty one was never a store.

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
"""The WAL is given back to the disk when it is folded and longer than this."""
_HEADER_BYTES = 100
"""No database of SQLite is shorter."""
_MEND = "stop control and put a backup back with `ecs-agent control restore`"


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


class Watermark:
    """The newest revision that was ever committed, kept beside the store.

    A page of the WAL that is damaged ends it there, and with an older copy of the file the store is
    an older one: both look like any other store. This says that it was ahead. It is written after
    each commit and not synced, so that it costs nothing; after a power cut it may be behind, never
    ahead.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(f"{path}.revision", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """Return the revision; 0 when none was written, or nothing that can be read."""
        text = os.pread(self._fd, 64, 0)
        number, _, checksum = text.partition(b" ")
        if not number.isdigit() or checksum.strip() != _digest(number):
            return 0
        return int(number)

    def write(self, revision: int) -> None:
        """Keep a revision; trouble with the disk is not told, as the commit itself was good."""
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
    """Return the writing connection; makes the file (mode 0600) and its tables when missing.

    Raises:
        StoreDamaged: the file is not whole.
        StoreFailure: the file cannot be read or written, or a newer program made it.
    """
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_size < _HEADER_BYTES:
            raise StoreDamaged(
                f"{path} is empty or cut off, so the store is lost: {_MEND}, or remove the file to begin anew "
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
            f"{path} is gone and {path}-wal is there, so the store is lost: {_MEND}, or remove "
            f"{path}-wal to begin anew with no clusters, definitions, hosts and tasks"
        )
    fresh = Path(f"{path}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        schema.create(connection)
    put_in_place(fresh, path)


def put_in_place(fresh: Path, path: Path) -> None:
    """Rename a closed database file to its place, durably."""
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that any one thread at a time may use; the file must exist."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10.0,
    )
    connection.execute("PRAGMA synchronous = FULL")
    # A backstop: the writer folds the WAL when nobody waits for it.
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
    """Return the error that names a damaged file, what is wrong with it, and the mend."""
    return StoreDamaged(f"{path} is damaged ({fault}): {_MEND}")


def is_damage(error: BaseException) -> bool:
    """Tell whether an error of SQLite says that the file is not whole."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A table that is gone is one whose page in the schema cannot be read.
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (
        code == sqlite3.SQLITE_ERROR and str(error).startswith(("no such", "malformed"))
    )


def is_full(error: BaseException) -> bool:
    """Tell whether an error of SQLite says that the disk is full."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
