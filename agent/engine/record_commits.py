"""Commits the records of tasks with their reports, for all runners of the host.

One failed commit often means a full disk. The tasks that it concerned are remembered, and saved at
once when another commit succeeds. Each runner decides when its record is due (``record_saver``).

Tests: ``tests/unit/engine/test_engine_trouble.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.restored import KIND
from agent.errors import StateFailure
from agent.model import task
from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.engine.clock import Clock
    from agent.engine.runner import Runner
    from agent.model.changes import TaskChange
    from agent.model.task import AgentTask
    from agent.state import StateStore


class RecordCommits:
    """The commits of all runners; ``runners`` is the engine's own table, by the task's ARN."""

    def __init__(self, store: StateStore, runners: Mapping[str, Runner], clock: Clock) -> None:
        self._store = store
        self._runners = runners
        self._clock = clock
        self._unsaved: set[str] = set()
        """Tasks for which the last save of the record failed."""

    async def save(self, record: AgentTask, change: TaskChange | None) -> None:
        """Commit a record, and with it the report of what changed.

        Raises:
            StateFailure: it is not stored; the runner keeps trying.
        """
        batch = Batch()
        batch.put(KIND, record.arn, task.encode(record))
        if change is not None:
            batch.enqueue(change)
        try:
            await self._store.commit(batch)
        except StateFailure:
            self._unsaved.add(record.arn)
            raise
        if change is not None and record.arn in self._runners:
            self._runners[record.arn].launch.reported(self._clock.steady())
        self._unsaved.discard(record.arn)
        self.save_the_rest()

    def save_the_rest(self) -> None:
        """Save the other unsaved tasks now, because a commit has succeeded."""
        while self._unsaved:
            runner = self._runners.get(self._unsaved.pop())
            if runner is not None:
                runner.save_again()

    async def flush(self) -> None:
        """Save everything unsaved; called once at a normal stop, after ``run``."""
        batch = Batch()
        for arn, runner in self._runners.items():
            if runner.needs_save():
                batch.put(KIND, arn, task.encode(runner.record))
                change = runner.unreported(self._clock.wall())
                if change is not None:
                    batch.enqueue(change)
        if len(batch):
            await self._store.commit(batch)
