"""The SQLite side of the spool: plain blocking calls, all made from the spool's one thread.

Touches the spool's file and those that SQLite makes beside it. Logs that cannot be delivered are kept
within bounds: of a task that has too much its oldest events go, and where all tasks together have too
much, those of the task that has most. What goes is counted, and the counts outlive the process.

A file that cannot be read is set aside, and a fresh one begun; one that somebody removes is written anew
from what is open. Fails with the errors of SQLite and the
system. Tests: ``tests/unit/awslogs/test_spool.py``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from msgspec import Struct, structs

from agent.awslogs import wire
from agent.awslogs.wire import PackedEvents
from agent.model.logs import SpooledBatch
from agent.state import removal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path


_ROW_BYTES: Final = 512
"""About what a row takes besides its body."""
_TASKS_COUNTED: Final = 200
"""Of how many tasks the losses are kept one by one; those of others are kept as one sum."""
_BUSY_WAIT_S: Final = 5.0
_SHRINK_FROM_PAGES: Final = 256
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL,
    log_group TEXT NOT NULL,
    stream TEXT NOT NULL,
    create_group INTEGER NOT NULL,
    events INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_task ON batches (task, seq);
CREATE TABLE IF NOT EXISTS losses (
    task TEXT NOT NULL,
    why TEXT NOT NULL,
    events INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (task, why)
);
"""
_SIZE: Final = f"length(body) + {_ROW_BYTES}"

_log = structlog.get_logger(__name__)

NO_ROOM: Final = "no room in the spool"
REFUSED: Final = "refused by control"
DAMAGED: Final = "damaged in the spool"
MENDS: Final = {
    NO_ROOM: "see to the connection to control, or raise ECS_LOG_SPOOL_MB and ECS_LOG_SPOOL_TASK_MB",
    REFUSED: "the agent's log has control's reason, such as a log group that does not exist",
    DAMAGED: "check the disk of ECS_DATADIR",
}


class Bounds(Struct, frozen=True, kw_only=True):
    """How much may wait, in bytes as they lie on the disk."""

    host_bytes: int
    task_bytes: int


class Append(Struct, frozen=True, kw_only=True):
    """A batch to be kept."""

    task: str
    create_group: bool
    packed: PackedEvents


class Loss(Struct, frozen=True, kw_only=True):
    """Events that are lost: of one task, or with an empty name of all that are not kept by name."""

    task: str
    why: str
    events: int
    at: float
    """Unix time of the last one."""


class Held(Struct, frozen=True, kw_only=True):
    """How much waits."""

    batches: int = 0
    events: int = 0
    bytes: int = 0
    oldest_at: float = 0.0
    """When the oldest came, Unix time; 0 if nothing waits."""


class Applied(NamedTuple):
    """What a transaction came to."""

    dropped: Counter[str]
    """Events that were dropped for want of room, by task."""
    held: Held
    losses: list[Loss] | None
    """All that was ever lost; None where that has not changed."""


class SpoolFile:
    """The file, opened when it is needed. Not thread-safe: one thread uses and closes it."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._bounds = bounds
        self._open: sqlite3.Connection | None = None
        self._identity: removal.Identity | None = None
        self._bytes: Counter[str] = Counter()
        """Of each task."""
        self._batches = self._events = 0

    def close(self) -> None:
        """Close it; the next call opens it anew."""
        if self._open is not None:
            with contextlib.suppress(sqlite3.Error):
                self._open.close()
            self._open = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = self._opened()
            self._identity = removal.identity(self._path)
            self._recount()
        return self._open

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # of the disk, or its rights
            aside = self._path.with_name(f"{self._path.name}.damaged")
            _log.error(
                "the spool of logs was damaged and is set aside", error=str(error), aside=str(aside)
            )
        self._path.replace(aside)
        for beside in ("-wal", "-shm"):
            self._path.with_name(self._path.name + beside).unlink(missing_ok=True)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_WAIT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_back_if_removed(self) -> None:
        """Write the file anew where somebody removed it; a kill would lose what is in it."""
        connection = self._connection
        if removal.identity(self._path) is None:
            removal.write_anew(connection, self._path)
            self.close()
            _log.error("the spool of logs was removed; it has been written anew")

    def apply(
        self,
        appends: Iterable[Append],
        settled: Iterable[int],
        refused: Iterable[SpooledBatch],
        *,
        why: str = REFUSED,
        kept: Collection[int] = (),
    ) -> Applied:
        """Write and remove batches in one transaction, on the disk when this returns.

        Args:
            appends: those to be kept; one whose id waits already is not kept twice.
            settled: numbers of those that were delivered.
            refused: those that never will be.
            why: what is counted for them.
            kept: numbers of those that are on their way now, and not to make room.

        Returns:
            What was dropped, and what is held and lost now.
        """
        given, gone, gave_up = list(appends), [(seq,) for seq in settled], list(refused)
        self._put_back_if_removed()
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if given else 'NORMAL'}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._remove(gone)
            for row in gave_up:
                self._remove([(row.seq,)])
                self._count(row.task, why, row.events)
            for append in given:
                self._append(append)
            dropped = self._make_room(kept, {append.task for append in given})
            for task, events in dropped.items():
                self._count(task, NO_ROOM, events)
            self._connection.execute("COMMIT")
        except BaseException:
            self.close()  # rolls back; the next call counts anew
            raise
        return Applied(dropped, self.held(), self.losses() if dropped or gave_up else None)

    def head(
        self, *, after: int, limit_bytes: int, limit_events: int, limit: int
    ) -> list[SpooledBatch]:
        """Return the oldest batches after a number: as many as fit the limit, at least one.

        A batch that cannot be read is removed and counted as lost.

        Args:
            after: number of the last batch that is not wanted.
            limit_bytes: of all their JSON together.
            limit_events: in all of them.
            limit: how many batches.
        """
        rows: list[SpooledBatch] = []
        broken: list[SpooledBatch] = []
        size = total = 0
        found = self._connection.execute(
            "SELECT seq, id, task, log_group, stream, create_group, events, plain_bytes, body "
            "FROM batches WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        for seq, batch_id, task, group, stream, create, events, plain_bytes, body in found:
            size, total = size + plain_bytes, total + events
            if rows and (size > limit_bytes or total > limit_events):
                break
            row = SpooledBatch(
                seq=seq, id=batch_id, task=task, group=group, stream=stream,
                create_group=bool(create), events=events, body=body,
            )  # fmt: skip
            try:
                rows.append(structs.replace(row, body=wire.unpacked(body)))
            except zlib.error:
                broken.append(row)
        found.close()
        if broken:
            self.apply((), (), broken, why=DAMAGED)
        if broken and not rows:
            return self.head(
                after=after, limit_bytes=limit_bytes, limit_events=limit_events, limit=limit
            )
        return rows

    def held(self) -> Held:
        """Return how much waits."""
        connection = self._connection
        first = connection.execute("SELECT at FROM batches ORDER BY seq LIMIT 1").fetchone()
        return Held(
            batches=self._batches,
            events=self._events,
            bytes=self._bytes.total(),
            oldest_at=first[0] if first else 0.0,
        )

    def losses(self) -> list[Loss]:
        """Return what was ever lost, the newest last."""
        rows = self._connection.execute("SELECT task, why, events, at FROM losses ORDER BY at")
        return [Loss(task=t, why=w, events=e, at=at) for t, w, e, at in rows.fetchall()]

    def shrink(self) -> None:
        """Give disk space back that an outage took; called when nothing waits."""
        with contextlib.suppress(sqlite3.Error):
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if free >= _SHRINK_FROM_PAGES:
                # Not with ``execute``, which takes the first page for the end.
                self._connection.executescript("PRAGMA incremental_vacuum")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _recount(self) -> None:
        rows = self._connection.execute(
            f"SELECT task, count(*), sum(events), sum({_SIZE}) FROM batches GROUP BY task"  # noqa: S608 - a constant
        ).fetchall()
        self._bytes = Counter({task: size for task, _, _, size in rows})
        self._batches = sum(batches for _, batches, _, _ in rows)
        self._events = sum(events for _, _, events, _ in rows)

    def _append(self, append: Append) -> None:
        packed = append.packed
        done = self._connection.execute(
            "INSERT OR IGNORE INTO batches "
            "(id, task, log_group, stream, create_group, events, plain_bytes, at, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                packed.id, append.task, packed.group, packed.stream, append.create_group,
                packed.events, packed.plain_bytes, time.time(), packed.body,
            ),
        )  # fmt: skip
        if done.rowcount:
            self._bytes[append.task] += len(packed.body) + _ROW_BYTES
            self._batches += 1
            self._events += packed.events

    def _remove(self, seqs: list[tuple[int]]) -> None:
        for seq in seqs:
            found = self._connection.execute(
                f"DELETE FROM batches WHERE seq = ? RETURNING task, events, {_SIZE}",  # noqa: S608 - a constant
                seq,
            ).fetchone()
            if found is not None:
                task, events, size = found
                self._batches -= 1
                self._events -= events
                self._bytes[task] -= size
                if self._bytes[task] <= 0:
                    del self._bytes[task]

    def _make_room(self, kept: Collection[int], grown: Iterable[str]) -> Counter[str]:
        dropped: Counter[str] = Counter()
        for task in grown:
            excess = self._bytes[task] - self._bounds.task_bytes
            dropped[task] += self._drop(task, excess, kept)
        while self._bytes.total() > self._bounds.host_bytes:
            (largest, size), *others = self._bytes.most_common(2)
            excess = self._bytes.total() - self._bounds.host_bytes
            # Down to the next one, then both in turn.
            fair = max(1, size - others[0][1]) if others else excess
            events = self._drop(largest, min(excess, fair), kept)
            if not events:
                break  # all that is left is on its way
            dropped[largest] += events
        return +dropped

    def _drop(self, task: str, excess: int, kept: Collection[int]) -> int:
        """Remove the oldest batches of a task until so many bytes are gone; return their events."""
        events = 0
        if excess <= 0:
            return events
        rows = self._connection.execute(
            f"SELECT seq, {_SIZE}, events FROM batches WHERE task = ? ORDER BY seq",  # noqa: S608 - a constant
            (task,),
        ).fetchall()
        for seq, size, count in rows:
            if excess <= 0:
                break
            if seq in kept:
                continue
            self._remove([(seq,)])
            excess -= size
            events += count
        return events

    def _count(self, task: str, why: str, events: int) -> None:
        add = (
            "INSERT INTO losses VALUES (?, ?, ?, ?) ON CONFLICT (task, why) "
            "DO UPDATE SET events = events + excluded.events, at = max(at, excluded.at)"
        )
        self._connection.execute(add, (task, why, events, time.time()))
        old = self._connection.execute(
            "SELECT task, why, events, at FROM losses WHERE task != '' "
            "ORDER BY at DESC LIMIT -1 OFFSET ?",
            (_TASKS_COUNTED,),
        ).fetchall()
        for name, reason, count, at in old:
            self._connection.execute(
                "DELETE FROM losses WHERE task = ? AND why = ?", (name, reason)
            )
            self._connection.execute(add, ("", reason, count, at))
