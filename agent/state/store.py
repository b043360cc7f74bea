"""The agent's local store: one SQLite file, one writer thread, group commit.

::

    commit(batch) ─┐                         ┌─ one transaction ─► fsync ─► all futures at once
    commit(batch) ─┼─► queue (FIFO) ─► thread┤
    load(kind)    ─┘                         └─ reads, in their place in the queue

Batches that arrive while a transaction is being written form the next transaction together. So all
who wait share the cost of one fsync.

Accesses only its own file, the companions that SQLite creates, and the mirror. On a full or failing
disk, commits fail with ``StateFailure``; the store stays open, and the next commit tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from agent.errors import StateFailure
from agent.model import changes
from agent.state import failures
from agent.state.batch import Batch, Op
from agent.state.database import Database, OutboxRow, SetAside
from agent.state.outbox import Outbox
from agent.state.removal import Found
from agent.state.troubles import Troubles
from agent.state.watch import DirectoryWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

_log = structlog.get_logger()

LOOK_AFTER_S: Final = 0.05
"""Delay between an inotify event and the check: other files may be about to be removed, too."""


class _Write:
    """A batch that waits to be written."""

    __slots__ = ("durable", "future", "ops")

    def __init__(self, ops: tuple[Op, ...], future: asyncio.Future[None], *, durable: bool) -> None:
        self.ops = ops
        self.future = future
        self.durable = durable


class _Call:
    """Any other work for the thread."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future


class StateStore:
    """The agent's durable state. Open it with ``StateStore.open``; use it from one event loop."""

    def __init__(self, path: Path, kept_twice: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.outbox: Outbox
        self._troubles = Troubles(path)
        self._found = Found.OURS
        """The thread's last finding at the file's path."""
        self._second_trouble = ""
        """Why the mirror is behind; belongs to the thread."""
        self._look: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._database = Database(path, kept_twice)
        names = frozenset(f"{path.name}{suffix}" for suffix in ("", "-wal", ".identity"))
        self._watch = DirectoryWatch(path.parent, names, self._look_soon)
        self._queue: queue.SimpleQueue[_Write | _Call | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, name="state", daemon=True)

    @classmethod
    async def open(cls, path: Path, *, kept_twice: frozenset[str] = frozenset()) -> StateStore:
        """Open or create the state file, rescue it if it is damaged, and migrate it.

        Creates a missing directory (mode 0700). The file is readable only by its owner.

        Args:
            path: the state file.
            kept_twice: single values that are also kept in the mirror, a file beside it; what one
                of the two files has lost is restored from the other.

        Raises:
            StateFailure: another agent uses it, a newer agent wrote it, or the disk fails; the text
                names the file and the fix.
        """
        store = cls(path, kept_twice)
        store._thread.start()
        try:
            await store._call(store._database.open, "open")
            size = await store._call(store._database.outbox_size, "read")
            set_aside = await store._call(store._database.all_set_aside, "read")
            store._troubles.set_aside.extend(set_aside)
        except BaseException:
            await store.close()
            raise
        store._troubles.opened(store._database.notes)
        store._watch.begin()
        store.outbox = Outbox(
            size, read=store._outbox_head, forget=store._forget, count=store._outbox_count
        )
        return store

    @property
    def healthy(self) -> bool:
        """False from a failed write until the next successful one."""
        return self._troubles.failure is None

    @property
    def problems(self) -> list[str]:
        """One sentence per problem of the store; empty if there is none."""
        return self._troubles.sentences

    @property
    def set_aside(self) -> list[SetAside]:
        """All rows that were ever unreadable; their bodies are in the table ``set_aside``."""
        return self._troubles.set_aside

    def commit(self, batch: Batch) -> asyncio.Future[None]:
        """Make a batch durable; await the returned future to know that it is.

        The batch is taken at the call, not when the future is awaited: batches become durable in
        call order. Cancelling the wait does not cancel the batch. An empty batch is done when
        everything before it is.

        Raises:
            StateFailure: from the awaited future. Nothing of the batch was written; if
                ``retryable`` is set, the same call may succeed later.
        """
        return self._write(batch.ops, durable=True)

    def _look_soon(self) -> None:
        """Check after a delay, when whatever removes files has probably finished."""
        if self._look is None:
            self._look = self._loop.call_later(LOOK_AFTER_S, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if not self._closed:
            self.beat().add_done_callback(_take_note_of)

    def note(self, batch: Batch) -> None:
        """Write a batch along with the next durable one, or soon after; returns at once.

        For values that are not worth waiting for, and that may be outdated after a crash. A failed
        write is reported like any other.
        """
        self._write(batch.ops, durable=False)

    def beat(self) -> asyncio.Future[None]:
        """Ask the writer thread for a sign of life; the future is done when it has answered.

        Says nothing about the disk: a writer is alive even if all its writes fail. At most one beat
        should be pending at a time. The thread also checks that the file is still in its place, so
        that a removed file is put back even if nothing is written.

        Raises:
            StateFailure: the store is closed.
        """
        if self._closed:
            raise self._closed_failure()
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Call(self._look_after_the_file, future))
        return future

    async def load(self, kind: str, decode: Callable[[bytes], T]) -> dict[str, T]:
        """Read all records of a kind, by key, in the order in which they were first put.

        If ``decode`` raises for a row, the row is moved to the table ``set_aside``, reported in
        ``set_aside`` and ``problems``, and left out. ``decode`` runs in the store's thread.

        Raises:
            StateFailure: the file cannot be read.
        """
        good, moved, trouble = await self._call(lambda: self._database.load(kind, decode), "read")
        self._troubles.unreadable(moved, trouble)
        return good

    async def get_meta(self, key: str) -> str | None:
        """Read one single value; raises ``StateFailure`` if the file cannot be read."""
        return await self._call(lambda: self._database.meta(key), "read")

    async def close(self) -> None:
        """Finish queued work, close the file and release the lock; idempotent."""
        if not self._closed:
            self._closed = True
            self._watch.close()
            self._queue.put(None)
        await asyncio.shield(self._ended)

    def _write(self, ops: tuple[Op, ...], *, durable: bool) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            future.set_exception(self._closed_failure())
        else:
            self._queue.put(_Write(ops, future, durable=durable))
        return future

    async def _call(self, work: Callable[[], T], action: str) -> T:
        if self._closed:
            raise self._closed_failure()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Call(work, future))
        try:
            return await future
        except failures.TROUBLE as error:
            raise failures.explain(error, action, self.path) from error

    async def _outbox_head(self, limit: int, after: int) -> list[OutboxRow]:
        good, moved, trouble = await self._call(
            lambda: self._database.outbox_head(limit, changes.decode, after), "read"
        )
        self._troubles.unreadable(moved, trouble)
        self.outbox.lost(len(moved))
        if trouble and not good:
            raise StateFailure(trouble[0])
        return good

    async def _outbox_count(self, task_arn: str) -> int:
        return await self._call(lambda: self._database.outbox_count(task_arn), "read")

    def _forget(self, seqs: tuple[int, ...]) -> asyncio.Future[None]:
        batch = Batch()
        for seq in seqs:
            batch.settle(seq)
        return self._write(batch.ops, durable=False)

    def _closed_failure(self) -> StateFailure:
        return StateFailure(f"{self.path} is closed: the agent is stopping")

    # --- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        open_ = True
        while open_:
            items = [self._next()]
            with contextlib.suppress(queue.Empty):
                while True:
                    items.append(self._queue.get_nowait())
            open_ = None not in items
            self._serve([item for item in items if item is not None])
            self._keep_second()
            if open_:
                self._database.tidy(idle=self._queue.empty())
        self._database.close()
        self._tell(self._end)

    def _next(self) -> _Write | _Call | None:
        """Wait for work; while there is none, do the background work."""
        while True:
            try:
                return self._queue.get(timeout=self._database.rest_s())
            except queue.Empty:
                self._database.rest()

    def _serve(self, items: list[_Write | _Call]) -> None:
        """Do the work in order; adjacent writes share a transaction."""
        group: list[_Write] = []
        for item in items:
            if isinstance(item, _Write):
                group.append(item)
                continue
            self._write_group(group)
            group = []
            self._run_call(item)
        self._write_group(group)

    def _run_call(self, call: _Call) -> None:
        try:
            result = call.work()
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            self._tell(_fail, call.future, error)
        else:
            self._tell(_succeed, call.future, result)

    def _write_group(self, group: list[_Write]) -> None:
        if not group:
            return
        try:
            added = self._apply(group)
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            if len(group) > 1 and failures.is_poison(error):
                # SQLite refuses a value in one of the batches: write each batch separately.
                for write in group:
                    self._write_group([write])
                return
            if not failures.is_poison(error):
                self._database.reset()
            self._tell(self._group_failed, group, error)
        else:
            self._tell(self._group_done, group, added)

    def _apply(self, group: Sequence[_Write]) -> list[OutboxRow]:
        batches = [write.ops for write in group if write.ops]
        if not batches:
            return []
        durable = any(write.durable for write in group)
        self._put_back_if_removed()
        try:
            return self._database.apply(batches, durable=durable)
        except Exception as error:
            if failures.code_of(error) != failures.DISK_FULL:
                raise
        self._database.make_room()
        return self._database.apply(batches, durable=durable)

    def _put_back_if_removed(self) -> None:
        found = self._database.put_back_if_removed()
        if found is not self._found:
            self._found = found
            self._tell(self._tell_of, found)

    def _keep_second(self) -> None:
        trouble = self._database.twice.keep()
        if trouble != self._second_trouble:
            self._second_trouble = trouble
            self._tell(self._troubles.second_place, trouble)

    def _look_after_the_file(self) -> None:
        try:
            self._put_back_if_removed()
            if self._database.twice.look():
                self._tell(self._troubles.removed, "the mirror of this host's identity")
        except failures.TROUBLE as error:
            self._tell(self._group_failed, [], error)

    def _tell(self, callback: Callable[..., None], *values: Any) -> None:
        # The loop may be closed when the process is shutting down; nobody waits then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *values)

    # --- back on the event loop ---------------------------------------------------------------

    def _group_done(self, group: list[_Write], added: list[OutboxRow]) -> None:
        if any(write.ops for write in group):
            self._troubles.written()
        for write in group:
            _succeed(write.future, None)
        if added:
            self.outbox.added(added)

    def _group_failed(self, group: list[_Write], error: Exception) -> None:
        failure = failures.explain(error, "write", self.path)
        if not failures.is_poison(error):
            self._troubles.failed(failure)
        for write in group:
            if write.durable:
                _fail(write.future, failures.explain(error, "write", self.path))
            else:
                # Nobody awaits a removal from the outbox; the next one includes it.
                write.future.cancel()

    def _tell_of(self, found: Found) -> None:
        if found is Found.PUT_BACK:
            self._watch.begin()  # the directory may be a new one
        self._troubles.found(found)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def _take_note_of(future: asyncio.Future[None]) -> None:
    """Retrieve the result of a check that nobody awaits; its findings are reported separately."""
    if not future.cancelled():
        future.exception()


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
