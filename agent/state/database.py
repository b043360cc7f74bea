"""What the store reads and writes in its file: plain blocking calls, all made from the store's one thread.

Raises the errors of SQLite and the system, and ``StateFailure`` where a person has to act; ``store`` turns
the former into the latter. How the file is opened, and what if it is removed, is in ``state_file``.

Tests: ``tests/unit/state/test_store.py``.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeVar

from agent.state import schema
from agent.state.batch import Op
from agent.state.mirrored_values import MirroredValues
from agent.state.removal import Found
from agent.state.state_file import FOLD_BYTES, StateFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

T = TypeVar("T")

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

    def __init__(self, file: StateFile, kept_twice: frozenset[str]) -> None:
        """Take what ``open`` opened."""
        self.file = file
        self.twice = MirroredValues(file.path, kept_twice, connect=file.connect, apply=self._apply)
        self.notes = list(file.notes)
        """Notes for the operator about how the file was opened."""
        self._unfolded = 0
        """Approximate number of bytes in the WAL that are not in the file."""
        self._written_at = 0.0

    @classmethod
    def open(cls, path: Path, kept_twice: frozenset[str] = frozenset()) -> Self:
        """Lock, check, rescue if necessary, and migrate the file.

        Raises:
            StateFailure: somebody else uses it, or a newer agent wrote it.
            OSError: it cannot be opened.
            sqlite3.Error: likewise.
        """
        file = StateFile.open(path)
        try:
            database = cls(file, kept_twice)
            database.notes.extend(database.twice.unite())
        except BaseException:
            file.close()
            raise
        database._fold("TRUNCATE")
        return database

    def close(self) -> None:
        """Close the file and release the lock; idempotent."""
        self.file.close()

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
        connection = self.file.connect()
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
        rows = self.file.connect().execute(
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
        rows = self.file.connect().execute(
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
        rows = self.file.connect().execute(
            "SELECT count(*) FROM outbox WHERE task_arn = ?", (task_arn,)
        )
        return int(rows.fetchone()[0])

    def outbox_size(self) -> int:
        """Count the rows of the outbox."""
        return int(self.file.connect().execute("SELECT count(*) FROM outbox").fetchone()[0])

    def meta(self, key: str) -> str | None:
        """Read one single value."""
        found = (
            self.file.connect().execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        )
        return None if found is None else str(found[0])

    def all_set_aside(self) -> list[SetAside]:
        """Read all rows that were ever set aside, oldest first, without the bodies."""
        rows = self.file.connect().execute("SELECT kind, key, error, at FROM set_aside ORDER BY id")
        return [SetAside(*row) for row in rows.fetchall()]

    def tidy(self, *, idle: bool) -> None:
        """Checkpoint the WAL if it has grown; ``idle`` if no commit is waiting."""
        if self._unfolded >= (FOLD_BYTES if idle else _FOLD_AT_ONCE_BYTES):
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
            if not self.file.is_removed:
                self.file.connect().execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        self._unfolded = 0

    def put_back_if_removed(self) -> Found:
        """Make sure that the file is in its place, and return what was found; see ``StateFile``."""
        found = self.file.put_back_if_removed()
        if found is Found.PUT_BACK:
            self.twice.is_behind = True
        elif found is Found.LOG_PUT_BACK:
            self._unfolded = 0
        return found

    def reset(self) -> None:
        """Drop the connection after a disk error; the next call opens a new one."""
        self.file.reset()

    def _back_out(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.file.reset()

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
                f"{row.kind} {row.key!r} in {self.file.path} cannot be read ({row.error})"
                f" and cannot be set aside ({error})"
                for _, row in bad
            ]
        return [row for _, row in bad], []


def _decoded(key: object, body: object, decode: Callable[[bytes], T]) -> T:
    if not isinstance(key, str) or _REPLACED in key:
        raise ValueError("its key is not UTF-8 text")
    if not isinstance(body, bytes):
        raise ValueError("its body is not bytes")  # noqa: TRY004 - reported like any other bad row
    return decode(body)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
