"""Logs that were taken from the engine and are not delivered yet: durable, bounded, in order.

::

    append ──► one transaction for all that wait, on the disk ──► the driver is answered
    peek   ──► oldest first, for one sender ──► settle, refuse: removed with the next transaction

What cannot be written down is not taken (``StateFailure``): the driver keeps it for a moment and comes
again. A removal may be lost with the process; the batch is then delivered twice under the same id, and
stored once. For one event loop, one thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import structlog

from agent.awslogs.spool_file import MENDS, Held, SpoolFile
from agent.errors import StateFailure
from agent.model.views import LogsView, LostLogsView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.awslogs.spool_file import Append, Applied, Bounds, Loss
    from agent.model.logs import SpooledBatch

T = TypeVar("T")

EVENTS_AT_ONCE: Final = 50_000
"""Most that are returned by one ``peek``, unless a single batch has more."""
_TROUBLE: Final = (sqlite3.Error, OSError)
_RETRY_S: Final = 1.0
"""Wait before removals are tried again that could not be written."""
_LOG_EVERY_S: Final = 60.0
_TOLD_S: Final = 3600.0
"""How long an operator is told of a loss."""
_NAMED: Final = 3

_log = structlog.get_logger(__name__)


class _Wanted(NamedTuple):
    append: Append
    done: asyncio.Future[None]


class Spool:
    """The spool of one agent. ``run`` must be running for anything to be written."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        """Touch nothing yet."""
        self.held = Held()
        """How much waits, as of the last transaction."""
        self.losses: list[Loss] = []
        """What was ever lost, the newest last."""
        self.trouble = ""
        """Why nothing can be written now; empty when it can."""
        self._path = path
        self._file = SpoolFile(path, bounds)
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="log-spool")
        self._wanted: list[_Wanted] = []
        self._settled: list[int] = []
        self._refused: list[SpooledBatch] = []
        self._on_the_way: frozenset[int] = frozenset()
        self._work = asyncio.Event()
        self._filled = asyncio.Event()
        self._told_at: dict[str, float] = {}

    @property
    def view(self) -> LogsView:
        """What waits and what is lost, for an operator."""
        return LogsView(
            waiting_events=self.held.events,
            waiting_bytes=self.held.bytes,
            oldest_at=self.held.oldest_at,
            lost=[
                LostLogsView(task=loss.task, why=loss.why, events=loss.events, at=loss.at)
                for loss in self.losses
            ],
        )

    @property
    def problems(self) -> list[str]:
        """One sentence for everything that is wrong, or was within an hour; mostly empty."""
        recent = [loss for loss in self.losses if time.time() - loss.at < _TOLD_S]
        found = [self.trouble] if self.trouble else []
        for why in sorted({loss.why for loss in recent}):
            of_it = [loss for loss in recent if loss.why == why]
            tasks = ", ".join(sorted({loss.task[:12] for loss in of_it if loss.task})[:_NAMED])
            found.append(f"log events of tasks {tasks} were lost: {why}; {MENDS[why]}")
        return found

    async def close(self) -> None:
        """Close the file, after ``run`` has ended; what was not written is not taken."""
        for wanted in self._wanted:
            wanted.done.cancel()
        self._wanted.clear()
        with contextlib.suppress(*_TROUBLE):  # those are delivered once more, under the same ids
            await self._call(partial(self._file.apply, [], self._settled, self._refused))
        await self._call(self._file.close)
        await asyncio.to_thread(self._lane.shutdown)

    async def append(self, append: Append) -> None:
        """Keep a batch; it is on the disk when this returns. One that is kept already is success.

        Raises:
            StateFailure: it cannot be written now.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Wanted(append, done))
        self._work.set()
        await done

    async def wait(self) -> None:
        """Return when something waits for delivery."""
        await self._filled.wait()

    async def peek(
        self, *, limit_bytes: int, limit_events: int = EVENTS_AT_ONCE, limit: int
    ) -> list[SpooledBatch]:
        """Return the oldest batches, none that were settled; for one sender.

        They make no room for others until the next call.

        Raises:
            StateFailure: they cannot be read now.
        """
        # Settled ones may lie in the file still.
        gone = {*self._settled, *(row.seq for row in self._refused)}
        after = max(gone, default=0)
        try:
            rows = await self._call(
                partial(
                    self._file.head,
                    after=after,
                    limit_bytes=limit_bytes,
                    limit_events=limit_events,
                    limit=limit,
                )
            )
        except _TROUBLE as error:
            raise StateFailure(f"{self._path} cannot be read: {error}") from None
        self._on_the_way = frozenset(row.seq for row in rows)
        if not rows:
            self._filled.clear()
            self._work.set()
        return rows

    def settle(
        self, delivered: Sequence[SpooledBatch], refused: Sequence[SpooledBatch] = ()
    ) -> None:
        """Have batches removed: those that control has, and those that it will never take.

        Must be all up to the last one of them, counted from the oldest.
        """
        self._settled += [row.seq for row in delivered]
        self._refused += refused
        self._on_the_way = frozenset()
        self._work.set()

    async def run(self) -> None:
        """Take up what an earlier process left, and write what is to be written, until cancelled."""
        await self._take_up()
        while True:
            await self._work.wait()
            self._work.clear()
            wanted, self._wanted = self._wanted, []
            settled, refused = self._settled.copy(), self._refused.copy()
            try:
                applied = await self._call(
                    partial(
                        self._file.apply,
                        [each.append for each in wanted],
                        settled,
                        refused,
                        kept=self._on_the_way,
                    )
                )
            except _TROUBLE as error:
                await self._failed(wanted, error)
                continue
            except asyncio.CancelledError:
                for each in wanted:
                    each.done.cancel()
                raise
            del self._settled[: len(settled)], self._refused[: len(refused)]
            await self._written(wanted, applied)

    async def _take_up(self) -> None:
        while True:
            try:
                self.held = await self._call(self._file.held)
                self.losses = await self._call(self._file.losses)
            except _TROUBLE as error:
                wanted, self._wanted = self._wanted, []
                await self._failed(wanted, error)
            else:
                break
        if self.held.batches:
            self._filled.set()

    async def _written(self, wanted: list[_Wanted], applied: Applied) -> None:
        if self.trouble:
            _log.info("the spool of logs can be written again", path=str(self._path))
            self.trouble = ""
        self.held = applied.held
        if applied.losses is not None:
            self.losses = applied.losses
        for each in wanted:
            if not each.done.done():
                each.done.set_result(None)
        if wanted:
            self._filled.set()
        for task, events in applied.dropped.items():
            self._tell(task, events)
        if not self.held.batches and not self._wanted:
            await self._call(self._file.shrink)

    async def _failed(self, wanted: list[_Wanted], error: Exception) -> None:
        text = f"{self._path} cannot be written: {error}"
        if not self.trouble:
            _log.error("logs of tasks are not taken", error=text)
        self.trouble = f"logs of tasks are not taken: {text}"
        for each in wanted:
            if not each.done.done():
                each.done.set_exception(StateFailure(text))
        await asyncio.sleep(_RETRY_S)
        self._work.set()

    def _tell(self, task: str, events: int) -> None:
        now = time.monotonic()
        if now - self._told_at.get(task, -_LOG_EVERY_S) < _LOG_EVERY_S:
            return
        self._told_at = {t: at for t, at in self._told_at.items() if now - at < _LOG_EVERY_S}
        self._told_at[task] = now
        _log.warning(
            "log events dropped: too many wait for control",
            task=task,
            events=events,
            mend="see to the connection to control, or raise ECS_LOG_SPOOL_MB",
        )

    async def _call(self, work: Callable[[], T]) -> T:
        """Run blocking work in the spool's thread; ends with it also when cancelled."""
        job = asyncio.get_running_loop().run_in_executor(self._lane, work)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            raise
