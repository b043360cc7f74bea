"""Decides when to save a task's record, and with it the report of what changed.

Changes that control must learn of at once are saved at once. Facts that can be found again after a
crash wait up to a second, to share a transaction. A failed save is retried, later each time, or as
soon as another save has succeeded. Until then, steps that would destroy unsaved facts must wait:
see ``is_saved``. Belongs to one runner.

Tests: ``tests/unit/engine/test_engine_life.py``, ``tests/unit/engine/test_engine_trouble.py``.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

import structlog

from agent.engine import reports
from agent.errors import StateFailure
from agent.model.resources import Wait

if TYPE_CHECKING:
    import asyncio

    from agent.engine.clock import Clock
    from agent.engine.live import LiveState
    from agent.model.changes import TaskChange
    from agent.model.task import AgentTask

LAZY_SAVE_S = 1.0
"""How long facts that can be found again after a crash wait to share a transaction."""
SAVE_RETRY_S = 2.0
LONGEST_SAVE_RETRY_S = 15.0

_log = structlog.get_logger()


class Saver(Protocol):
    """Writes a record, and with it the report of what changed."""

    async def __call__(self, record: AgentTask, change: TaskChange | None) -> None:
        """Return when both are durable; raises ``StateFailure``."""


class RecordSaver:
    """Saves one record. Times are monotonic, except those marked as wall time."""

    def __init__(self, record: AgentTask, live: LiveState, save: Saver, clock: Clock) -> None:
        """Start with a record that is already saved in its current form."""
        self._record = record
        self._live = live
        self._save = save
        self._clock = clock
        self._reported = reports.signature(record, live)
        self._after: float | None = None
        """When waiting facts must be saved."""
        self._not_before = 0.0
        self._at_once = False
        self._waiting: list[asyncio.Future[None]] = []
        self._failures = 0
        self._failing_since = 0.0
        """Wall time."""
        self._problem = ""

    @property
    def wake_at(self) -> float | None:
        """When to call ``save_if_due`` again even if nothing happens; None for never."""
        return None if self._after is None else max(self._after, self._not_before)

    @property
    def is_saved(self) -> bool:
        """Whether everything known about the task is on disk, including its report."""
        return self._after is None and self.is_reported

    @property
    def is_reported(self) -> bool:
        """Whether everything that control must learn is in the outbox.

        False until the engine has been asked about the containers of a restored task. Its record
        may be older than the last report to control, and a status must not go back.
        """
        return reports.signature(self._record, self._live) == self._reported

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the next transaction."""
        return bool(self._waiting)

    @property
    def wait(self) -> Wait | None:
        """The wait to show while the record cannot be saved."""
        if not self._failures:
            return None
        left_s = max(0.0, self._not_before - self._clock.steady())
        return Wait(
            what=f"its state to be written to disk; until then, nothing of it is removed: "
            f"{self._problem}",
            since=self._failing_since,
            next_try=self._clock.wall() + left_s,
        )

    def note(self) -> None:
        """Record that something may have changed."""
        if self._after is None:
            self._after = self._clock.steady() + LAZY_SAVE_S

    def answer(self, future: asyncio.Future[None]) -> None:
        """Save on the next turn, and set the result of the future."""
        self._at_once = True
        self._waiting.append(future)

    def try_again(self) -> None:
        """Retry now, because another save has succeeded."""
        if self._failures:
            self._not_before = 0.0
            self._at_once = True

    def unreported(self, now: float) -> TaskChange | None:
        """Return the report that is in no transaction yet, or None if there is none."""
        return (
            None
            if self.is_reported or self._live.unseen
            else reports.change_of(self._record, self._live, now)
        )

    async def save_if_due(self, now: float, *, all_of_it: bool = False) -> None:
        """Save what is due; with ``all_of_it``, save everything.

        A failure is logged and retried; see ``is_saved``. ``now`` is wall time.
        """
        signature = reports.signature(self._record, self._live)
        may_tell = not self._live.unseen
        urgent = may_tell and signature.urgent != self._reported.urgent
        steady = self._clock.steady()
        stale = self._after is not None and steady >= self._after
        due = urgent or self._at_once or stale or (all_of_it and not self.is_saved)
        if not due or steady < self._not_before:
            return
        change = None if signature == self._reported else self.unreported(now)
        try:
            await self._save(self._record, change)
        except StateFailure as error:
            self._failed(error, steady, now)
            return
        if may_tell:
            self._reported = signature
        self._at_once = False
        self._after = None
        self._failures = 0
        self._end_waiting(None)

    def _failed(self, error: StateFailure, steady: float, now: float) -> None:
        self._failing_since = self._failing_since if self._failures else now
        self._problem = str(error)
        wait_s = min(LONGEST_SAVE_RETRY_S, SAVE_RETRY_S * 2.0 ** min(self._failures, 10))
        self._not_before = steady + wait_s * random.uniform(1.0, 1.2)  # noqa: S311 - spreads retries
        self._failures += 1
        if self._after is None:
            self._after = steady
        self._end_waiting(error)
        _log.error("task not saved, trying again", task=self._record.arn, error=str(error))

    def _end_waiting(self, error: StateFailure | None) -> None:
        """Set the result of every future that waits for a transaction."""
        for future in self._waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(StateFailure(str(error)))
        self._waiting.clear()
