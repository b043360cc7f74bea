"""When a task's record is written down, and with it the report of what changed.

What control must hear of at once is saved at once; facts that a crash may lose, because they are found
again, wait a second for a transaction to share. A save that fails is tried again, later each time, or
as soon as another one has succeeded. Until then whatever would destroy what is to be saved must wait:
``is_saved`` says so. Belongs to one runner.

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
"""How long facts that a crash may lose (they are found again) wait for a transaction to share."""
SAVE_RETRY_S = 2.0
LONGEST_SAVE_RETRY_S = 15.0

_log = structlog.get_logger()


class Saver(Protocol):
    """Writes a record, and with it the report of what changed."""

    async def __call__(self, record: AgentTask, change: TaskChange | None) -> None:
        """Return when both are durable; raises ``StateFailure``."""


class RecordSaver:
    """Saves one record. All times are by the steady clock but those that are said to be wall time."""

    def __init__(self, record: AgentTask, live: LiveState, save: Saver, clock: Clock) -> None:
        """Begin with a record that is on the disk as it is now."""
        self._record = record
        self._live = live
        self._save = save
        self._clock = clock
        self._reported = reports.signature(record, live)
        self._after: float | None = None
        """When facts that wait for a transaction have waited long enough."""
        self._not_before = 0.0
        self._at_once = False
        self._waiting: list[asyncio.Future[None]] = []
        self._failures = 0
        self._failing_since = 0.0
        """Wall time."""
        self._problem = ""

    @property
    def wake_at(self) -> float | None:
        """When to call ``save_if_due`` again though nothing happens; None for never."""
        return None if self._after is None else max(self._after, self._not_before)

    @property
    def is_saved(self) -> bool:
        """Whether everything that is known of the task is on the disk, its report included."""
        return self._after is None and self.is_reported

    @property
    def is_reported(self) -> bool:
        """Whether everything that control must hear of is in the outbox.

        Not while the engine was not asked what became of the task: what is known of it may be older
        than what control was told, and no status goes back.
        """
        return reports.signature(self._record, self._live) == self._reported

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the next transaction."""
        return bool(self._waiting)

    @property
    def wait(self) -> Wait | None:
        """What the task waits for while it cannot be saved."""
        if not self._failures:
            return None
        left_s = max(0.0, self._not_before - self._clock.steady())
        return Wait(
            what=f"its state to be written to the disk, before which nothing of it is removed: "
            f"{self._problem}",
            since=self._failing_since,
            next_try=self._clock.wall() + left_s,
        )

    def note(self) -> None:
        """Take note that something may have changed."""
        if self._after is None:
            self._after = self._clock.steady() + LAZY_SAVE_S

    def answer(self, future: asyncio.Future[None]) -> None:
        """Save on the next turn, and tell the future how that went."""
        self._at_once = True
        self._waiting.append(future)

    def try_again(self) -> None:
        """Saving works again: do not wait until the next try is due."""
        if self._failures:
            self._not_before = 0.0
            self._at_once = True

    def unreported(self, now: float) -> TaskChange | None:
        """Return the report that no transaction has carried yet, or None when there is none."""
        return (
            None
            if self.is_reported or self._live.unseen
            else reports.change_of(self._record, self._live, now)
        )

    async def save_if_due(self, now: float, *, all_of_it: bool = False) -> None:
        """Save what must not wait any longer; ``all_of_it`` saves whatever there is to save.

        A failure is logged and tried again; ``is_saved`` tells. ``now`` is wall time.
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
        """Tell everybody who waits for a transaction how it went."""
        for future in self._waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(StateFailure(str(error)))
        self._waiting.clear()
