"""The thread that owns the state file: it carries out writes and reads in the order of the calls.

::

    write() ─┐                    ┌─ writes that stand next to each other: one transaction ─► fsync
    write() ─┼─► queue ─► thread ─┤
    call()  ─┘                    └─ everything else, in its place

Keeps the file where it belongs: what somebody removes is written anew as soon as the kernel tells of
it, with the next write, or at the next ``beat``.

Tests: ``tests/unit/state/test_store.py``, ``tests/unit/state/test_removal.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

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
"""How long after the kernel told of a removal it is looked what is left: the rest may be going, too."""


class _Write:
    """A batch on its way to the disk."""

    __slots__ = ("durable", "future", "ops")

    def __init__(self, ops: tuple[Op, ...], future: asyncio.Future[None], *, durable: bool) -> None:
        self.ops = ops
        self.future = future
        self.durable = durable


class _Call:
    """Any other piece of work for the thread."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future


class Writer:
    """One state file and its thread. Used from one event loop; close it, whatever happens."""

    def __init__(self, path: Path, kept_twice: frozenset[str]) -> None:
        """Start the thread; the file is not touched before somebody calls ``database.open`` in it."""
        self.path = path
        self.database = Database(path, kept_twice)
        """For the thread alone: reach it by ``call``."""
        self.troubles = Troubles(path)
        self._found = Found.OURS
        """What was at the file's path when the thread looked last."""
        self._second_trouble = ""
        """Why the second place is behind; the thread's."""
        self._look: asyncio.TimerHandle | None = None
        self._closed = False
        self._on_added: list[Callable[[list[OutboxRow]], None]] = []
        self._loop = asyncio.get_running_loop()
        names = frozenset(f"{path.name}{suffix}" for suffix in ("", "-wal", ".identity"))
        self._watch = DirectoryWatch(path.parent, names, self._look_soon)
        self._queue: queue.SimpleQueue[_Write | _Call | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._work, name="state", daemon=True).start()

    def watch(self) -> None:
        """Have the kernel tell of removals from now on."""
        self._watch.begin()

    def on_added(self, callback: Callable[[list[OutboxRow]], None]) -> None:
        """Have a function called with the rows that came into the outbox, in commit order."""
        self._on_added.append(callback)

    def write(self, ops: tuple[Op, ...], *, durable: bool) -> asyncio.Future[None]:
        """Write, in one transaction or none; the answer raises ``StateFailure``.

        Without ``durable`` it may also come with the next durable write, and nobody is told of a
        disk that refuses it: the answer is cancelled then.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            future.set_exception(self._closed_failure())
        else:
            self._queue.put(_Write(ops, future, durable=durable))
        return future

    async def call(self, work: Callable[[], T], action: str) -> T:
        """Run anything else in the thread.

        Args:
            work: what to run.
            action: what it does to the file, as a verb, for the text of a failure.

        Raises:
            StateFailure: the disk or SQLite refused.
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
        """Ask the thread for a sign of life; it also looks whether the file is where it belongs.

        Raises:
            StateFailure: the writer is closed.
        """
        if self._closed:
            raise self._closed_failure()
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Call(self._look_after_the_file, future))
        return future

    async def close(self) -> None:
        """Finish what was handed in, close the file and give the lock back; idempotent."""
        if not self._closed:
            self._closed = True
            self._watch.close()
            self._queue.put(None)
        await asyncio.shield(self._ended)

    def _look_soon(self) -> None:
        """Look once whoever removes things is likely to have come to the end of it."""
        if self._look is None:
            self._look = self._loop.call_later(LOOK_AFTER_S, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if not self._closed:
            self.beat().add_done_callback(_take_note_of)

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
                self.database.tidy(idle=self._queue.empty())
        self.database.close()
        self._tell(self._end)

    def _next(self) -> _Write | _Call | None:
        """Wait for work; the time in which there is none is for what nobody waits for."""
        while True:
            try:
                return self._queue.get(timeout=self.database.rest_s())
            except queue.Empty:
                self.database.rest()

    def _serve(self, items: list[_Write | _Call]) -> None:
        """Do the work in order; writes that stand next to each other share a transaction."""
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
        except Exception as error:  # noqa: BLE001 - handed to the caller, whose error it is
            self._tell(_fail, call.future, error)
        else:
            self._tell(_succeed, call.future, result)

    def _write_group(self, group: list[_Write]) -> None:
        if not group:
            return
        try:
            added = self._apply(group)
        except Exception as error:  # noqa: BLE001 - handed to the callers, whatever it is
            if len(group) > 1 and failures.is_poison(error):
                # One batch holds a value that SQLite refuses: the others must not pay for it.
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
                self._tell(self.troubles.removed, "the file that says who this host is")
        except failures.TROUBLE as error:
            self._tell(self._group_failed, [], error)

    def _tell(self, callback: Callable[..., None], *values: Any) -> None:
        # The loop may be gone when the process is being torn down; nobody waits then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *values)

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
                # Nobody awaits a removal from the outbox; it goes again with the next one.
                write.future.cancel()

    def _tell_of(self, found: Found) -> None:
        if found is Found.PUT_BACK:
            self._watch.begin()  # in a directory that may be another one
        self.troubles.found(found)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def _take_note_of(future: asyncio.Future[None]) -> None:
    """Nobody waits for this look; what it finds is told by itself."""
    if not future.cancelled():
        future.exception()


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
