"""The state file as it is open: its lock, its connection, and what is done when somebody removes it.

Accesses the state file, its ``-wal`` and ``-shm``, and a ``.lock`` file beside it. Blocks; belongs to one
thread. Raises the errors of SQLite and the system, and ``StateFailure`` where a person has to act.

The lock is a separate file: SQLite's locks on the state file belong to the process, which would
lose them if it opened and closed the file a second time.

Tests: ``tests/unit/state/test_store.py``, ``tests/unit/state/test_removal.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING, Final, Self

from agent.errors import StateFailure
from agent.state import migration, removal, rescue
from agent.state.removal import Found

if TYPE_CHECKING:
    from pathlib import Path

FOLD_BYTES: Final = 1024 * 1024
"""The WAL is checkpointed above this size, once no commit is waiting."""
_BUSY_WAIT_S: Final = 5.0


class StateFile:
    """The lock of a state file, and the connection, which may come and go."""

    def __init__(self, path: Path, lock: int, notes: list[str]) -> None:
        """Take the lock that ``open`` holds."""
        self.path = path
        self.notes = notes
        """Notes for the operator about how the file was opened."""
        self._lock: int | None = lock
        self._connection: sqlite3.Connection | None = None
        self._identity: removal.Identity | None = None
        """Identity of the file that the connection has open."""
        self._log_identity: removal.Identity | None = None
        """Identity of its WAL; None until SQLite has created one."""
        self._whole: int | None = None
        """A descriptor of the file, kept while the file could not be reopened after a removal."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Lock, check, rescue if necessary, and migrate the file.

        Raises:
            StateFailure: somebody else uses it, or a newer agent wrote it.
            OSError: it cannot be opened.
            sqlite3.Error: likewise.
        """
        made = not path.parent.exists()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made:
            path.parent.chmod(0o700)
        file = cls(path, _take_lock(path), [])
        try:
            _keep_private(path)
            if note := rescue.check(path):
                file.notes.append(note)
            file.connect()
        except BaseException:
            file.close()
            raise
        return file

    def close(self) -> None:
        """Close the file and release the lock; idempotent."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._whole is not None:
            os.close(self._whole)
            self._whole = None
        self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def put_back_if_removed(self) -> Found:
        """Make sure that the file is in its place, and return what was found.

        A file that somebody has put there instead is left alone: it may be a backup for the next
        start.

        Raises:
            OSError: the file cannot be written again; the open one stays open.
            sqlite3.Error: likewise.
        """
        now = removal.identity(self.path)
        if self._connection is None and self._whole is not None:
            self._reopen()
            return Found.PUT_BACK
        if self._connection is None:
            return Found.OURS
        if now == self._identity:
            return self._put_log_back_if_removed()
        if now is not None:
            return Found.ANOTHER
        removal.write_anew(self._connection, self.path)
        if removal.identity(_lock_path(self.path)) is None:
            self._release_lock()
            self._lock = _take_lock(self.path)
        self._reopen()
        return Found.PUT_BACK

    def _put_log_back_if_removed(self) -> Found:
        log = removal.identity(f"{self.path}-wal")
        if self._log_identity is None:
            self._log_identity = log
        if log == self._log_identity or self._connection is None:
            return Found.OURS
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._reopen()
        return Found.LOG_PUT_BACK

    def _reopen(self) -> None:
        """Reopen the file, which holds everything, even while somebody is removing it.

        If that fails, the next access tries again; until then a descriptor keeps the old content.
        """
        if self._whole is None:
            self._whole = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        # Close first: closing removes the WAL by name, and would remove that of a new connection.
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        removal.reopen(self._whole, self.path, self._connect_again)
        os.close(self._whole)
        self._whole = None

    def _connect_again(self) -> removal.Identity | None:
        connection = self.connect(how="rw")
        if self._identity is None:  # it was just removed again
            connection.close()
            self._connection = None
        return self._identity

    @property
    def is_removed(self) -> bool:
        """Whether the open file is not the one at its path any more."""
        return self._connection is not None and removal.identity(self.path) != self._identity

    def reset(self) -> None:
        """Drop the connection after a disk error; the next call opens a new one.

        Keeps a connection to a removed file: it is the only access to that content.
        """
        if self._connection is not None and not self.is_removed:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def connect(self, how: str = "rwc") -> sqlite3.Connection:
        """Return the connection, a new one if there is none; ``how`` is SQLite's mode."""
        if self._whole is not None and how == "rwc":
            self._reopen()
        if self._connection is None:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={how}",
                uri=True,
                timeout=_BUSY_WAIT_S,
                isolation_level=None,
                cached_statements=64,
            )
            try:
                _prepare(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._identity = removal.identity(self.path)
            self._log_identity = removal.identity(f"{self.path}-wal")
        return self._connection


def _lock_path(path: Path) -> str:
    return f"{path}.lock"


def _take_lock(path: Path) -> int:
    """Return the descriptor that holds the lock.

    Raises:
        StateFailure: another agent holds it.
    """
    descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with os.fdopen(descriptor, "rb") as held:
            holder = held.read(32).decode("ascii", "replace").strip()
        who = f"another agent (pid {holder})" if holder else "another agent"
        raise StateFailure(
            f"{who} uses {path}: stop it first, or give this one its own ECS_DATADIR"
        ) from None
    # The pid is only for the message above; a full disk must not prevent the start.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Configure the connection and migrate the schema."""
    connection.text_factory = _lenient
    migration.refuse_foreign(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # Checkpoints run in tidy(), after the callers of a commit have their answer.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {FOLD_BYTES}")
    connection.execute("PRAGMA trusted_schema = OFF")
    migration.migrate(connection)


def _keep_private(path: Path) -> None:
    """Create the file if it is new, and make it and its companions accessible only to the owner."""
    made = not path.exists()
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.chmod(name, 0o600)  # noqa: PTH101 - the companions are names, not paths
    if made:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _lenient(raw: bytes) -> str:
    """Decode any text, so that invalid text affects its own row and not the whole query."""
    return raw.decode("utf-8", "replace")
