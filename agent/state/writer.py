"""The thread that owns the state file: it does writes and reads in the order of the calls.

::

    write() ─┐                    ┌─ writes that stand next to each other: one transaction ─► fsync
    write() ─┼─► queue ─► thread ─┤
    call()  ─┘                    └─ everything else, in its place

A file that somebody removes is written anew after an inotify event, with the next write, or at the
next ``beat``.

Tests: ``tests/unit/state/test_store.py``, ``tests/unit/state/test_removal.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from agent.errors import StateFailure
from agent.state import failures
from agent.state.database import Database, OutboxRow
from agent.state.removal import Found
from agent.state.troubles import Troubles
from agent.state.watch import DirectoryWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.state.batch import Op

T = TypeVar("T")

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


class Writer:
    """One state file and its thread. Use it from one event loop; close it in any case."""

    def __init__(self, database: Database, ended: asyncio.Future[None]) -> None:
        """Take what ``open`` opened; ``ended`` is done once the file is closed."""
        path = database.file.path
        self.path = path
        self.database = database
        """Belongs to the thread: use it through ``call``."""
        self.troubles = Troubles(path)
        self._found = Found.OURS
        """The thread's last finding at the file's path."""
        self._second_trouble = ""
        """Why the mirror is behind; belongs to the thread."""
        self._look: asyncio.TimerHandle | None = None
        self._closed = False
        self._on_added: list[Callable[[list[OutboxRow]], None]] = []
        self._loop = asyncio.get_running_loop()
        names = frozenset(f"{path.name}{suffix}" for suffix in ("", "-wal", ".identity"))
        self._watch = DirectoryWatch(path.parent, names, self._look_soon)
        self._queue: queue.SimpleQueue[_Write | _Call | None] = queue.SimpleQueue()
        self._ended = ended

    @classmethod
    async def open(cls, path: Path, kept_twice: frozenset[str]) -> Self:
        """Start the thread, which opens the file and serves the writer until it is closed.

        Raises:
            StateFailure: the file cannot be opened; the text says why, and the fix.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Database] = loop.create_future()
        ended: asyncio.Future[None] = loop.create_future()
        served: queue.SimpleQueue[Writer | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                database = Database.open(path, kept_twice)
            except Exception as error:  # noqa: BLE001 - passed on to the caller
                _tell(loop, _fail, opened, error)
            else:
                _tell(loop, _succeed, opened, database)
                writer = served.get()
                if writer is not None:
                    writer.serve_until_closed()
                database.close()
            _tell(loop, _succeed, ended, None)

        threading.Thread(target=work, name="state", daemon=True).start()
        try:
            writer = cls(await opened, ended)
        except BaseException as error:
            served.put(None)
            await asyncio.shield(ended)
            if isinstance(error, failures.TROUBLE):
                raise failures.explain(error, "open", path) from error
            raise
        served.put(writer)
        return writer

    def watch(self) -> None:
        """Watch for removals from now on."""
        self._watch.begin()

    def on_added(self, callback: Callable[[list[OutboxRow]], None]) -> None:
        """Call a function with rows that were added to the outbox, in commit order."""
        self._on_added.append(callback)

    def write(self, ops: tuple[Op, ...], *, durable: bool) -> asyncio.Future[None]:
        """Write all of it in one transaction; the future raises ``StateFailure``.

        Without ``durable``, it is written with the next durable write or soon after; if that fails, the
        future is cancelled.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            future.set_exception(self._closed_failure())
        else:
            self._queue.put(_Write(ops, future, durable=durable))
        return future

    async def call(self, work: Callable[[], T], action: str) -> T:
        """Run other work in the thread.

        Args:
            work: the function to run.
            action: what it does to the file, as a verb, for error texts.

        Raises:
            StateFailure: the disk or SQLite failed.
        """
        if self._closed:
            raise self._closed_failure()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Call(work, future))
        try:
            return await future
        except failures.TROUBLE as error:
            raise failures.explain(error, action, self.path) from error

    def beat(self) -> asyncio.Future[None]:
        """Ask the thread for a sign of life; it also checks that the file is in its place.

        Raises:
            StateFailure: the writer is closed.
        """
        if self._closed:
            raise self._closed_failure()
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Call(self._look_after_the_file, future))
        return future

    async def close(self) -> None:
        """Finish queued work, close the file and release the lock; idempotent."""
        if not self._closed:
            self._closed = True
            self._watch.close()
            self._queue.put(None)
        await asyncio.shield(self._ended)

    def _look_soon(self) -> None:
        """Check after a delay, when whatever removes files has probably finished."""
        if self._look is None:
            self._look = self._loop.call_later(LOOK_AFTER_S, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if not self._closed:
            self.beat().add_done_callback(_take_note_of)

    def _closed_failure(self) -> StateFailure:
        return StateFailure(f"{self.path} is closed: the agent is stopping")

    # --- the thread ---------------------------------------------------------------------------

    def serve_until_closed(self) -> None:
        """Do all work until ``close``; what the thread runs."""
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
                self.database.tidy(idle=self._queue.empty())

    def _next(self) -> _Write | _Call | None:
        """Wait for work; while there is none, do the background work."""
        while True:
            try:
                return self._queue.get(timeout=self.database.rest_s())
            except queue.Empty:
                self.database.rest()

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
                self.database.reset()
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
            return self.database.apply(batches, durable=durable)
        except Exception as error:
            if failures.code_of(error) != failures.DISK_FULL:
                raise
        self.database.make_room()
        return self.database.apply(batches, durable=durable)

    def _put_back_if_removed(self) -> None:
        found = self.database.put_back_if_removed()
        if found is not self._found:
            self._found = found
            self._tell(self._tell_of, found)

    def _keep_second(self) -> None:
        trouble = self.database.twice.keep()
        if trouble != self._second_trouble:
            self._second_trouble = trouble
            self._tell(self.troubles.second_place, trouble)

    def _look_after_the_file(self) -> None:
        try:
            self._put_back_if_removed()
            if self.database.twice.look():
                self._tell(self.troubles.removed, "the mirror of this host's identity")
        except failures.TROUBLE as error:
            self._tell(self._group_failed, [], error)

    def _tell(self, callback: Callable[..., None], *values: Any) -> None:
        _tell(self._loop, callback, *values)

    # --- back on the event loop ---------------------------------------------------------------

    def _group_done(self, group: list[_Write], added: list[OutboxRow]) -> None:
        if any(write.ops for write in group):
            self.troubles.written()
        for write in group:
            _succeed(write.future, None)
        if added:
            for callback in self._on_added:
                callback(added)

    def _group_failed(self, group: list[_Write], error: Exception) -> None:
        failure = failures.explain(error, "write", self.path)
        if not failures.is_poison(error):
            self.troubles.failed(failure)
        for write in group:
            if write.durable:
                _fail(write.future, failures.explain(error, "write", self.path))
            else:
                # Nobody awaits a removal from the outbox; the next one includes it.
                write.future.cancel()

    def _tell_of(self, found: Found) -> None:
        if found is Found.PUT_BACK:
            self._watch.begin()  # the directory may be a new one
        self.troubles.found(found)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *values: Any) -> None:
    """Call a function on the event loop."""
    # The loop may be closed when the process is shutting down; nobody waits then.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *values)


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
