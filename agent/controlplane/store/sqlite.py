"""The SQLite store: implements the contract with one file on one machine, for one process.

::

    txn ──► writer thread ──► group commit (WAL, synchronous=FULL) ──► event loop: revision, watches
    get ──► keys in memory; the others, range, history ──► two reader threads, each with its own connection

The file has mode 0600 and is locked against a second process. A failing disk only fails calls, with
``StoreUnavailable``; the store works again when the disk does. The whole file is checked when it is
opened, and each row when it is read: a damaged row is never treated as missing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog

from agent.controlplane.store import sqlite_backup, sqlite_check, sqlite_file
from agent.controlplane.store import sqlite_schema as schema
from agent.controlplane.store.checks import check_many, check_txn
from agent.controlplane.store.contract import (
    Compare,
    Event,
    InvalidTransaction,
    KeyValue,
    LeaseUnknown,
    Op,
    RangeResult,
    StoreDamaged,
    StoreFailure,
    StoreUnavailable,
    TxnResult,
)
from agent.controlplane.store.leases import LeaseTimers
from agent.controlplane.store.recent_keys import RecentKeys
from agent.controlplane.store.sqlite_jobs import (
    Compact,
    EndLease,
    Granted,
    GrantLease,
    Job,
    Txn,
)
from agent.controlplane.store.sqlite_writer import JobOutcome, Writer
from agent.controlplane.store.watching import Hub, PrefixWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from agent.controlplane.store.sqlite_check import CheckReport

ResultT = TypeVar("ResultT")

_log = structlog.get_logger(__name__)

READERS = 2


class _Opened(NamedTuple):
    lock: sqlite_file.FileLock
    watermark: sqlite_file.Watermark
    connection: sqlite3.Connection
    revision: int
    leases: list[tuple[int, float]]


class SqliteStore:
    """See ``contract.Store``; open one with ``await SqliteStore.open(path)``."""

    def __init__(self, path: Path, opened: _Opened) -> None:
        connection = opened.connection
        self._path = path
        self._lock = opened.lock
        self._watermark = opened.watermark
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._revision = opened.revision
        self.seen_revision = opened.watermark.read()
        """The newest revision ever committed here; greater than ``revision`` for an older copy."""
        self._damage = ""
        self._closed: asyncio.Future[None] | None = None
        self._recent = RecentKeys(opened.revision)
        self._hub = Hub(self._history)
        self._timers = LeaseTimers(self._expire)
        self._writer = Writer(path, connection, opened.watermark, self._deliver_from_thread)
        self._reader = threading.local()
        self._reader_connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="control-store-reader")

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open the store at ``path``; creates a missing file; its directory must exist.

        Raises:
            StoreDamaged: the file is damaged; it is not changed.
            StoreFailure: the file cannot be used; the text says why.
        """
        opened = await asyncio.to_thread(_open, path)
        store = cls(path, opened)
        for lease, ttl_s in opened.leases:
            store._timers.start(lease, ttl_s)
        return store

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def problem(self) -> str:
        """The current problem of the store; empty if there is none."""
        return self._damage or self._writer.problem

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._revision

    async def back_up(self, target: Path) -> CheckReport:
        """Write a backup to a new file; raises ``StoreFailure``."""
        return await asyncio.to_thread(sqlite_backup.back_up, self._path, target)

    async def get(self, key: str) -> KeyValue | None:
        """Return a key, or None if it does not exist."""
        return (await self._find([key])).get(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, KeyValue]:
        """Return those of at most ``TXN_LIMIT`` keys that exist."""
        return await self._find(check_many(keys))

    async def _find(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        """Return those of some keys that exist, from memory if all of them are there."""
        self._check_open()
        kept = self._recent.find(keys)
        if kept is not None:
            return {kv.key: kv for kv in kept}

        def read(connection: sqlite3.Connection) -> tuple[int, dict[str, KeyValue]]:
            with schema.snapshot(connection) as revision:
                read = [schema.read_key(connection, key) for key in keys]
            return revision, {kv.key: kv for kv in read if kv is not None}

        losses = self._recent.losses
        revision, found = await self._read(read)
        self._recent.saw(revision)
        self._recent.take(found.values(), losses)
        return found

    async def range(
        self, prefix: str, *, start_after: str | None = None, limit: int | None = None
    ) -> RangeResult:
        """Return the keys under ``prefix``, in order, after ``start_after``."""
        most = -1 if limit is None else limit + 1

        def read(connection: sqlite3.Connection) -> RangeResult:
            with schema.snapshot(connection) as revision:
                items = schema.read_range(connection, prefix, start_after, most)
            return RangeResult(items[:limit], revision, limit is not None and len(items) > limit)

        page = await self._read(read)
        self._recent.saw(page.revision)
        return page

    async def txn(
        self,
        compares: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op] = (),
        *,
        urgent: bool = False,
        above: int = 0,
    ) -> TxnResult:
        """Compare and change, all or nothing; durable on return."""
        check_txn(compares, then, otherwise, above)
        job = Txn(tuple(compares), tuple(then), tuple(otherwise), urgent=urgent, above=above)
        result: TxnResult = await self._submit(job)
        return result

    def watch(self, prefix: str, *, after_revision: int) -> PrefixWatch:
        """Follow every change under ``prefix`` later than ``after_revision``."""
        return self._hub.watch(prefix, after_revision)

    async def compact(self, revision: int) -> None:
        """Forget the history up to ``revision``, in parts, so that others can write in between."""
        row: int | None = 0
        while row is not None:
            row = await self._submit(Compact(revision, row))

    async def grant_lease(self, ttl_s: float) -> int:
        """Start a lease and return its id."""
        if not ttl_s > 0:
            raise InvalidTransaction(f"a lease must be longer than 0 s, not {ttl_s} s")
        granted: Granted = await self._submit(GrantLease(ttl_s))
        return granted.lease

    async def keep_alive(self, lease: int) -> None:
        """Renew a lease for its full time; does not use the disk."""
        self._check_open()
        if not self._timers.renew(lease):
            raise LeaseUnknown(f"lease {lease} has ended or never existed")

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys; succeeds if it has already ended."""
        self._timers.forget(lease)
        try:
            await self._submit(EndLease(lease))
        except StoreUnavailable:
            self._timers.retry(lease)
            raise

    async def close(self) -> None:
        """Finish accepted calls, end all watches; may be repeated."""
        if self._closed is None:
            self._timers.close()
            self._hub.close()
            self._closed = self._loop.run_in_executor(None, self._shut_down)
        await asyncio.shield(self._closed)

    def _shut_down(self) -> None:
        self._writer.close()
        self._readers.shutdown(wait=True)
        for connection in self._reader_connections:
            connection.close()
        self._connection.close()
        self._watermark.close()
        self._lock.release()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise StoreUnavailable("the store is closed")

    async def _submit(self, job: Job) -> Any:
        self._check_open()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._writer.submit(job, future)
        return await future

    def _deliver_from_thread(self, outcomes: list[JobOutcome]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, outcomes)
        except RuntimeError:
            # The loop is closed: nobody waits for the result, and the changes are on disk.
            return

    def _deliver(self, outcomes: list[JobOutcome]) -> None:
        for outcome in outcomes:
            self._revision = max(self._revision, outcome.revision)
            self._recent.deliver(outcome.revision, outcome.events)
            if outcome.events:
                self._hub.publish(outcome.revision, outcome.events)
            if isinstance(outcome.result, Granted):
                # Even if nobody waits for it any more: the lease then ends by itself.
                self._timers.start(outcome.result.lease, outcome.result.ttl_s)
            if outcome.future.done():
                continue
            if isinstance(outcome.result, StoreFailure):
                outcome.future.set_exception(outcome.result)
            else:
                outcome.future.set_result(outcome.result)

    def _expire(self, lease: int) -> None:
        if self._closed is not None:
            return

        def settle(future: asyncio.Future[Any]) -> None:
            if future.exception() is not None:
                self._timers.retry(lease)

        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(settle)
        self._writer.submit(EndLease(lease), future)

    async def _history(self, prefix: str, after_revision: int) -> tuple[list[Event], int, bool]:
        found = await self._read(
            lambda connection: schema.read_history(connection, prefix, after_revision)
        )
        self._recent.saw(found[1])
        return found

    async def _read(self, read: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        self._check_open()
        try:
            with sqlite_file.damage_named(self._path):
                return await self._loop.run_in_executor(self._readers, self._in_reader, read)
        except StoreDamaged as error:
            if not self._damage:
                _log.critical("store is damaged", error=str(error))
            self._damage = str(error)
            raise
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path} cannot be read: {error}") from error

    def _in_reader(self, read: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        connection: sqlite3.Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._reader.connection = sqlite_file.connect(self._path)
            self._reader_connections.append(connection)
        return read(connection)


def _open(path: Path) -> _Opened:
    try:
        lock = sqlite_file.FileLock(path)
    except OSError as error:
        raise StoreFailure(f"{path}.lock cannot be created: {error.strerror}") from error
    try:
        connection = sqlite_file.open_file(path)
        report = sqlite_check.check(connection)
        if report.faults:
            raise sqlite_file.damaged(path, "; ".join(report.faults))
        leases = connection.execute("SELECT id, ttl_s FROM lease").fetchall()
        return _Opened(lock, sqlite_file.Watermark(path), connection, report.revision, leases)
    except BaseException:
        lock.release()
        raise
