"""What this host holds of a control's tasks, for a control that may have forgotten them.

Implements ``upstream.protocol.Holding``. Reads the engine's own table. Control's decision about a
task goes to the task's runner; its decision about a container without a record goes to the watcher.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from agent.engine import reports
from agent.errors import RuntimeFailure
from agent.model.changes import TaskChange
from agent.model.status import TaskStatus
from agent.model.wire import HeldTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.engine.clock import Clock
    from agent.engine.record_cleanup import RecordCleanup
    from agent.engine.runner import Runner
    from agent.engine.watcher import Watcher


class Holdings:
    """All tasks and containers on this host; belongs to the engine's event loop."""

    def __init__(
        self,
        runners: Mapping[str, Runner],
        forgetting: RecordCleanup,
        watcher: Watcher,
        clock: Clock,
    ) -> None:
        self._runners = runners
        self._forgetting = forgetting
        self._watcher = watcher
        self._clock = clock
        self._engine_told = True
        """Whether the engine's last answer included its list of containers."""

    def held(self, control_id: str) -> list[HeldTask]:
        """Return every task that this control ordered, in its current state."""
        now = self._clock.wall()
        return [
            reports.held(runner.record, runner.live, now)
            for runner in self._runners.values()
            if runner.record.origin == control_id
        ]

    def ended(self, control_id: str) -> list[TaskChange]:
        """Return the last reports of this control's tasks that ended and were forgotten here."""
        return self._forgetting.last_words.all_of(control_id)

    async def brought(self, control_id: str, instance: str) -> list[HeldTask]:
        """Return tasks and containers on this host that were not ordered for this instance.

        A container whose task has no record has no payload: its labels identify it.
        """
        now = self._clock.wall()
        self._engine_told = True
        found = [
            reports.held(runner.record, runner.live, now)
            for runner in self._runners.values()
            if runner.record.origin == control_id
            and runner.record.instance != instance
            and not runner.record.is_done
        ]
        try:
            unclaimed = await self._watcher.unclaimed()
        except RuntimeFailure:
            self._engine_told = False
            return found
        return [*found, *(_named(arn, now) for arn in sorted(unclaimed))]

    def belongs_to(self, task_arn: str, instance: str) -> None:
        """Record that control wants a task of this instance from now on."""
        runner = self._runners.get(task_arn)
        if runner is not None:
            runner.belongs_to(instance)

    def not_wanted(self, task_arn: str, why: str) -> None:
        """Stop a task that control does not want; containers without a record become leftovers."""
        runner = self._runners.get(task_arn)
        if runner is not None:
            runner.stop(f"Control does not want this task: {why}", "UserInitiated", ordered=True)

    def keep(self, task_arns: frozenset[str]) -> None:
        """Leave the containers of these tasks alone, although there is no record of the tasks."""
        self._watcher.keep(task_arns - self._runners.keys() if self._engine_told else None)


def _named(arn: str, now: float) -> HeldTask:
    change = TaskChange(id=uuid.uuid4().hex, task_arn=arn, status=TaskStatus.RUNNING.wire(), at=now)
    return HeldTask(payload=msgspec.Raw(b"{}"), change=change)
