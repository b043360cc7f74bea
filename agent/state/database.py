"""The SQLite side of the store: plain blocking calls, all made from the store's one thread.

Accesses the state file, its ``-wal`` and ``-shm``, and a ``.lock`` file beside it. Writes the state
file again if it is removed while open. Raises the errors of SQLite and the system, and
``StateFailure`` where a person has to act; ``store`` turns the former into the latter.

The lock is a separate file: SQLite's locks on the state file belong to the process, which would
lose them if it opened and closed the file a second time.

Tests: ``tests/unit/state/test_store.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from agent.errors import StateFailure
from agent.state import migration, removal, rescue, schema
from agent.state.batch import Op
from agent.state.mirrored_values import MirroredValues
from agent.state.removal import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

T = TypeVar("T")

_BUSY_WAIT_S: Final = 5.0
_FOLD_BYTES: Final = 1024 * 1024
"""The WAL is checkpointed above this size, once no commit is waiting."""
_FOLD_AFTER_S: Final = 2.0
"""The WAL is checkpointed at any size if nothing was written for this long."""
_FOLD_AT_ONCE_BYTES: Final = 32 * 1024 * 1024
_OP_BYTES: Final = 8192
"""Approximate size that one statement adds to the WAL besides its body: two pages."""
_REPLACED = "\N{REPLACEMENT CHARACTER}"


class OutboxRow(NamedTuple):
    """One row of the outbox as stored on disk."""

    seq: int
    body: bytes


class SetAside(NamedTuple):
    """A row that could not be read; its body stays in the table ``set_aside``."""

    kind: str
    key: str
    error: str
    at: float


class Database:
    """The open state file. Not thread-safe: one thread creates, uses and closes it."""

    def __init__(self, path: Path, kept_twice: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.twice = MirroredValues(path, kept_twice, connect=self._connect, apply=self._apply)
        self.notes: list[str] = []
        """Notes for the operator about how the file was opened."""
        self._connection: sqlite3.Connection | None = None
        self._identity: removal.Identity | None = None
        """Identity of the file that the connection has open."""
        self._log_identity: removal.Identity | None = None
        """Identity of its WAL; None until SQLite has created one."""
        self._whole: int | None = None
        """A descriptor of the file, kept while the file could not be reopened after a removal."""
        self._lock: int | None = None
        self._unfolded = 0
        """Approximate number of bytes in the WAL that are not in the file."""
        self._written_at = 0.0

    def open(self) -> None:
        """Lock, check, rescue if necessary, and migrate the file."""
        made = not self.path.parent.exists()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made:
            self.path.parent.chmod(0o700)
        self._take_lock()
        _keep_private(self.path)
        if note := rescue.check(self.path):
            self.notes.append(note)
        self._connect()
        self.notes.extend(self.twice.unite())
        self._fold("TRUNCATE")

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

    def apply(self, batches: Iterable[Sequence[Op]], *, durable: bool) -> list[OutboxRow]:
        """Write batches in one transaction; return the rows that were added to the outbox.

        With ``durable`` they are on disk when this returns; otherwise with the next durable
        transaction or soon after.
        """
        given = list(batches)
        count = self.twice.count(given)
        added = self._apply([*given, count] if count else given, durable=durable)
        if count:
            self.twice.is_behind = True
        return added

    def _apply(self, batches: Iterable[Sequence[Op]], *, durable: bool) -> list[OutboxRow]:
        connection = self._connect()
        added: list[OutboxRow] = []
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        try:
            connection.execute("BEGIN IMMEDIATE")
            for ops in batches:
                for sql, values in ops:
                    self._unfolded += _OP_BYTES
                    cursor = connection.execute(sql, values)
                    body = values[2] if len(values) > 2 else b""
                    if isinstance(body, bytes):
                        self._unfolded += len(body)
                        if sql is schema.ENQUEUE:
                            added.append(OutboxRow(cursor.lastrowid or 0, body))
            connection.execute("COMMIT")
        except BaseException:
            self._back_out(connection)
            raise
        self._written_at = time.monotonic()
        return added

    def load(
        self, kind: str, decode: Callable[[bytes], T]
    ) -> tuple[dict[str, T], list[SetAside], list[str]]:
        """Read all records of a kind; also return the rows set aside now, and what went wrong."""
        rows = self._connect().execute(
            "SELECT rowid, key, body FROM records WHERE kind = ? ORDER BY rowid", (kind,)
        )
        good: dict[str, T] = {}
        bad: list[tuple[int, SetAside]] = []
        for rowid, key, body in rows.fetchall():
            try:
                good[key] = _decoded(key, body, decode)
            except Exception as error:  # noqa: BLE001 - one row must not prevent the start, whatever the decoder raises
                bad.append((rowid, SetAside(kind, key, _brief(error), time.time())))
        moved, trouble = self._move_aside("records", "rowid", bad)
        return good, moved, trouble

    def outbox_head(
        self, limit: int, decode: Callable[[bytes], object], after: int = 0
    ) -> tuple[list[OutboxRow], list[SetAside], list[str]]:
        """Read the oldest rows of the outbox that are newer than the row ``after``.

        Rows that cannot be decoded are set aside.
        """
        rows = self._connect().execute(
            "SELECT seq, change_id, body FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        good: list[OutboxRow] = []
        bad: list[tuple[int, SetAside]] = []
        for seq, change_id, body in rows.fetchall():
            try:
                _decoded(change_id, body, decode)
            except Exception as error:  # noqa: BLE001 - as above: one report must not block the others
                bad.append((seq, SetAside("outbox", change_id, _brief(error), time.time())))
            else:
                good.append(OutboxRow(seq, body))
        moved, trouble = self._move_aside("outbox", "seq", bad)
        return good, moved, trouble

    def outbox_count(self, task_arn: str) -> int:
        """Count the unacknowledged reports of one task."""
        rows = self._connect().execute(
            "SELECT count(*) FROM outbox WHERE task_arn = ?", (task_arn,)
        )
        return int(rows.fetchone()[0])

    def outbox_size(self) -> int:
        """Count the rows of the outbox."""
        return int(self._connect().execute("SELECT count(*) FROM outbox").fetchone()[0])

    def meta(self, key: str) -> str | None:
        """Read one single value."""
        found = self._connect().execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def all_set_aside(self) -> list[SetAside]:
        """Read all rows that were ever set aside, oldest first, without the bodies."""
        rows = self._connect().execute("SELECT kind, key, error, at FROM set_aside ORDER BY id")
        return [SetAside(*row) for row in rows.fetchall()]

    def tidy(self, *, idle: bool) -> None:
        """Checkpoint the WAL if it has grown; ``idle`` if no commit is waiting."""
        if self._unfolded >= (_FOLD_BYTES if idle else _FOLD_AT_ONCE_BYTES):
            self._fold("PASSIVE")

    def rest_s(self) -> float | None:
        """Return the seconds until ``rest`` is due; None if it is not needed."""
        if not self._unfolded:
            return None
        return max(0.0, self._written_at + _FOLD_AFTER_S - time.monotonic())

    def rest(self) -> None:
        """Checkpoint the WAL while nothing is being written, so that the file holds everything."""
        self._fold("PASSIVE")

    def make_room(self) -> None:
        """Truncate the WAL to free its space after the disk was full."""
        self._fold("TRUNCATE")

    def _fold(self, how: str) -> None:
        # A failure loses nothing: the WAL stays, and a later call tries again.
        with contextlib.suppress(sqlite3.Error):
            if not self._is_removed:
                self._connect().execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        self._unfolded = 0

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
            self.twice.is_behind = True
            return Found.PUT_BACK
        if self._connection is None:
            return Found.OURS
        if now == self._identity:
            return self._put_log_back_if_removed()
        if now is not None:
            return Found.ANOTHER
        removal.write_anew(self._connection, self.path)
        if removal.identity(self._lock_path) is None:
            self._release_lock()
            self._take_lock()
        self._reopen()
        self.twice.is_behind = True
        return Found.PUT_BACK

    def _put_log_back_if_removed(self) -> Found:
        log = removal.identity(f"{self.path}-wal")
        if self._log_identity is None:
            self._log_identity = log
        if log == self._log_identity or self._connection is None:
            return Found.OURS
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._unfolded = 0
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
        connection = self._connect(how="rw")
        if self._identity is None:  # it was just removed again
            connection.close()
            self._connection = None
        return self._identity

    @property
    def _is_removed(self) -> bool:
        return self._connection is not None and removal.identity(self.path) != self._identity

    def reset(self) -> None:
        """Drop the connection after a disk error; the next call opens a new one.

        Keeps a connection to a removed file: it is the only access to that content.
        """
        if self._connection is not None and not self._is_removed:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    @property
    def _lock_path(self) -> str:
        return f"{self.path}.lock"

    def _take_lock(self) -> None:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            who = f"another agent (pid {holder})" if holder else "another agent"
            raise StateFailure(
                f"{who} uses {self.path}: stop it first, or give this one its own ECS_DATADIR"
            ) from None
        # The pid is only for the message above; a full disk must not prevent the start.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def _connect(self, how: str = "rwc") -> sqlite3.Connection:
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

    def _back_out(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.reset()

    def _move_aside(
        self, table: str, column: str, bad: list[tuple[int, SetAside]]
    ) -> tuple[list[SetAside], list[str]]:
        """Move rows to ``set_aside``; if that fails they stay in place and are only reported."""
        if not bad:
            return [], []
        source = f"SELECT ?, ?, CAST(body AS BLOB), ?, ? FROM {table} WHERE {column} = ?"  # noqa: S608 - our own names
        try:
            self.apply(
                [
                    [
                        Op(
                            f"INSERT INTO set_aside (kind, key, body, error, at) {source}",
                            (row.kind, row.key, row.error, row.at, number),
                        ),
                        Op(f"DELETE FROM {table} WHERE {column} = ?", (number,)),  # noqa: S608 - as above
                    ]
                    for number, row in bad
                ],
                durable=True,
            )
        except (sqlite3.Error, OSError) as error:
            return [], [
                f"{row.kind} {row.key!r} in {self.path} cannot be read ({row.error})"
                f" and cannot be set aside ({error})"
                for _, row in bad
            ]
        return [row for _, row in bad], []


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Configure the connection and migrate the schema."""
    connection.text_factory = _lenient
    migration.refuse_foreign(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # Checkpoints run in tidy(), after the callers of a commit have their answer.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {_FOLD_BYTES}")
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


def _decoded(key: object, body: object, decode: Callable[[bytes], T]) -> T:
    if not isinstance(key, str) or _REPLACED in key:
        raise ValueError("its key is not UTF-8 text")
    if not isinstance(body, bytes):
        raise ValueError("its body is not bytes")  # noqa: TRY004 - reported like any other bad row
    return decode(body)


def _lenient(raw: bytes) -> str:
    """Decode any text, so that invalid text affects its own row and not the whole query."""
    return raw.decode("utf-8", "replace")


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
