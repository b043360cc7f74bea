"""The one thread that changes the SQLite file: takes waiting jobs, does them, commits them together.

A commit costs one ``fsync``; jobs that arrive during one share the next (group commit). If the file
refuses a group, its jobs are tried one by one, so that a bad job does not affect others.

For a full disk, some space is reserved with a separate file. The first urgent job that finds no space
releases it and is tried again. From then on only urgent jobs are done, until there is enough space to
reserve it again.

Outcomes are passed to the event loop in commit order, each with its events. The WAL is checkpointed
into the file when no job waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import Struct

from agent.controlplane.store.contract import (
    Event,
    StoreDamaged,
    StoreFailure,
    StoreFull,
    StoreUnavailable,
)
from agent.controlplane.store.sqlite_file import (
    WAL_LIMIT_BYTES,
    Watermark,
    damage_named,
    is_full,
)
from agent.controlplane.store.sqlite_jobs import Change, Job
from agent.controlplane.store.sqlite_schema import meta, set_meta

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP_LIMIT = 256
"""Maximum number of jobs in one commit."""
RESERVE_BYTES = 8 * 1024 * 1024
"""Reserved for a full disk: space for some thousand reports and stops."""
_RESERVE_AGAIN_S = 5.0
_FOLD_AFTER_S = 1.0
"""Idle time after which the WAL is checkpointed."""
_FOLD_AT_ONCE_BYTES = 16 * 1024 * 1024
"""Size of the WAL above which it is checkpointed even if jobs wait."""

_log = structlog.get_logger(__name__)


class JobOutcome(Struct, frozen=True):
    """The outcome of one job."""

    future: asyncio.Future[Any]
    result: Any
    """What the caller gets; an exception is raised for it."""
    revision: int
    """The store's revision after the job."""
    events: list[Event]


class Reserve:
    """Disk space that is reserved with a file; blocking."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self._path = Path(f"{path}.reserve")
        self._size_bytes = size_bytes
        self._next_try = 0.0
        self.kept = False

    def keep(self) -> bool:
        """Reserve the space, unless that was tried a moment ago; return whether it is reserved."""
        if self.kept or time.monotonic() < self._next_try:
            return self.kept
        self._next_try = time.monotonic() + _RESERVE_AGAIN_S
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(descriptor, 0, self._size_bytes)
            self.kept = True
        except OSError:
            # A part of it would be useless and would take space that others need.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
        return self.kept

    def give_back(self) -> None:
        """Release the space."""
        self.kept = False
        self._next_try = time.monotonic() + _RESERVE_AGAIN_S
        with contextlib.suppress(OSError):
            os.truncate(self._path, 0)


class Writer:
    """Runs jobs in its own thread; ``submit`` and ``close`` may be called from any thread."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        watermark: Watermark,
        deliver: Callable[[list[JobOutcome]], None],
    ) -> None:
        self._path = path
        self._connection = connection
        self._watermark = watermark
        self._deliver = deliver
        self._reserve = Reserve(path)
        self._reserve.keep()
        self._given_back = False
        """Whether the reserved space was released for urgent jobs."""
        self.problem = ""
        """Why the last job could not be written; damage stays. Can be read from any thread."""
        self._damage: StoreDamaged | None = None
        self._jobs: queue.SimpleQueue[tuple[Job, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._folded = True
        self._thread = threading.Thread(target=self._run, name="control-store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job, future: asyncio.Future[Any]) -> None:
        """Queue a job; its outcome is delivered with ``future``."""
        self._jobs.put((job, future))

    def close(self) -> None:
        """Finish the queued jobs, checkpoint the WAL and end the thread; blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            group, closing = self._next_group()
            if group:
                self._deliver(self._commit(group))
        self._fold()

    def _next_group(self) -> tuple[list[tuple[Job, asyncio.Future[Any]]], bool]:
        group: list[tuple[Job, asyncio.Future[Any]]] = []
        item = self._first()
        while item is not None:
            group.append(item)
            if len(group) >= GROUP_LIMIT:
                return group, False
            try:
                item = self._jobs.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _first(self) -> tuple[Job, asyncio.Future[Any]] | None:
        """Wait for the next job; do maintenance if none comes for a while."""
        while not self._folded or self._given_back:
            if self._wal_bytes() > _FOLD_AT_ONCE_BYTES:
                self._fold()
            try:
                return self._jobs.get(timeout=_FOLD_AFTER_S)
            except queue.Empty:
                self._fold()
                self._recover()
        return self._jobs.get()

    def _commit(self, group: list[tuple[Job, asyncio.Future[Any]]]) -> list[JobOutcome]:
        try:
            with damage_named(self._path):
                outcomes = self._try(group)
        except Exception as error:  # noqa: BLE001 - whatever fails, the thread must continue
            if len(group) > 1:
                return [outcome for one in group for outcome in self._commit([one])]
            job, future = group[0]
            if is_full(error) and job.urgent and self._reserve.kept:
                self._given_back = True
                self._reserve.give_back()
                _log.error("disk is full; only stops and reports are written", path=str(self._path))
                return self._commit(group)
            return [JobOutcome(future, self._failure(error, job), 0, [])]
        self._recover()
        if not self._given_back and self._damage is None:
            self.problem = ""
        return outcomes

    def _failure(self, error: Exception, job: Job) -> StoreFailure:
        if isinstance(error, StoreDamaged):
            if self._damage is None:
                _log.critical("store is damaged", error=str(error))
            self._damage, self.problem = error, str(error)
            return error
        if is_full(error):
            failure: StoreFailure = self._full()
        else:
            failure = StoreUnavailable(f"{self._path} cannot be written: {error}")
            _log.error("store cannot write", error=str(error), job=type(job).__name__)
        self.problem = self.problem or str(failure)
        return failure

    def _full(self) -> StoreFull:
        return StoreFull(
            f"the disk of {self._path} is full: free some space; tasks can still be stopped"
        )

    def _recover(self) -> None:
        if self._given_back and self._reserve.keep():
            self._given_back = False
            if self._damage is None:
                self.problem = ""
            _log.info("disk has space again", path=str(self._path))

    def _try(self, group: list[tuple[Job, asyncio.Future[Any]]]) -> list[JobOutcome]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            first = revision = meta(connection, "revision")
            keys_more = 0
            outcomes = []
            for job, future in group:
                change = Change(connection, revision)
                try:
                    if self._given_back and not job.urgent:
                        raise self._full()
                    result = job.do(change)
                except StoreFailure as failure:
                    result = failure
                revision = change.revision_after
                keys_more += change.keys_more
                outcomes.append(JobOutcome(future, result, revision, change.events))
            if revision != first:
                set_meta(connection, "revision", revision)
            if keys_more:
                set_meta(connection, "keys", meta(connection, "keys") + keys_more)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._watermark.write(revision)
        self._folded = False
        return outcomes

    def _wal_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size  # noqa: PTH116 - a name beside the path
        except OSError:
            return 0

    def _fold(self) -> None:
        """Checkpoint the WAL into the file, and truncate it if it is long.

        A reader with an older snapshot prevents truncation; the next checkpoint tries again.
        """
        self._folded = True
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if self._wal_bytes() > WAL_LIMIT_BYTES:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 10000")
