"""Deletes the records of ended tasks once control has acknowledged their end.

Checks the outbox for unacknowledged reports, deletes the rows of finished tasks from the store and
their runners from the engine's table, and remembers their ARNs for a while. If the store cannot be
written, the records are kept longer.

Tests: ``tests/unit/engine/test_engine_control.py``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from agent.engine import reports
from agent.engine.ended_tasks import EndedTask
from agent.engine.restored import KIND
from agent.errors import StateFailure
from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.engine.ended_tasks import EndedTasks
    from agent.engine.runner import Runner
    from agent.state import StateStore

FORGET_RETRY_S = 2.0

REMEMBERED_S = 600.0
"""How long a forgotten task is remembered: longer than an answer of control can be delayed."""

_log = structlog.get_logger()


class RecordCleanup:
    """Ended and refused tasks, until no order can come for them any more.

    ``runners`` is the engine's own table; entries are removed only here. ``clock`` is monotonic, in
    seconds. Call all methods on the engine's event loop.
    """

    def __init__(
        self,
        store: StateStore,
        runners: dict[str, Runner],
        last_words: EndedTasks,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._runners = runners
        self._clock = clock
        self.last_words = last_words
        """The last reports of ended tasks, which are kept longer."""
        self._ended: dict[str, float] = {}
        self._look = asyncio.Event()
        store.outbox.on_removed(self._look.set)

    def __contains__(self, arn: str) -> bool:
        """Return whether a task has ended here, so that an old order must not start it again."""
        return arn in self._ended or arn in self.last_words

    def ended(self, arn: str) -> None:
        """Take over a task whose runner has ended, so that only its record is left."""
        self._ended[arn] = self._clock()
        self._look.set()

    def refused(self, arns: Iterable[str]) -> None:
        """Remember tasks that need no record: the report of their end is in the outbox."""
        self._ended.update(dict.fromkeys(arns, self._clock()))

    async def run(self) -> None:
        """Delete ended tasks until cancelled, each once control has acknowledged its end.

        Until then the record stays, so that an old order cannot start the task a second time, even
        if control was unavailable for a long time.
        """
        while True:
            await self._look.wait()
            self._look.clear()
            try:
                await self._forget()
            except StateFailure as error:
                _log.warning("records of ended tasks not deleted, trying again", error=str(error))
                self._look.set()
                await asyncio.sleep(FORGET_RETRY_S)

    def _keep_last_word(self, batch: Batch, runner: Runner) -> None:
        now = time.time()
        change = reports.change_of(runner.record, runner.live, now)
        self.last_words.keep(batch, EndedTask(origin=runner.record.origin, at=now, change=change))

    async def _forget(self) -> None:
        now = self._clock()
        batch = Batch()
        gone: list[str] = []
        for arn, since in list(self._ended.items()):
            if arn in self._runners:
                if not await self._store.outbox.pending(arn):
                    batch.delete(KIND, arn)
                    self._keep_last_word(batch, self._runners[arn])
                    gone.append(arn)
            elif now - since > REMEMBERED_S:
                del self._ended[arn]
        if gone:
            await self._store.commit(batch)
        for arn in gone:
            del self._runners[arn]
            self._ended[arn] = now
