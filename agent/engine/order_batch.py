"""What the orders of one answer for unknown tasks become: records, refusals, and one transaction.

Tests: ``tests/unit/engine/test_engine_life.py``, ``tests/unit/engine/test_engine_control.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from agent.engine import admissible, reports
from agent.engine.restored import KIND
from agent.model import task
from agent.state import Batch

if TYPE_CHECKING:
    from agent.engine.clock import Clock
    from agent.engine.graph import Graph
    from agent.engine.task_commands import TaskCommand
    from agent.model.changes import TaskChange
    from agent.model.task import AgentTask
    from agent.resources.ledger import Ledger

TASKS_MOST: Final = 20_000
"""Tasks that an agent holds, waiting and stopped ones included, whatever control orders."""

_log = structlog.get_logger()


class OrderBatch:
    """Collects orders. Nothing is stored and nothing begins before the caller commits ``batch``."""

    def __init__(
        self, control_id: str, instance: str, clock: Clock, ledger: Ledger, held: int = 0
    ) -> None:
        """Begin without orders.

        Args:
            control_id: id of the control that orders.
            instance: ARN of this host's container instance there; empty if ``control_id``
                identifies it.
            clock: tells the time of acceptance.
            ledger: knows what the host has at all.
            held: how many tasks the agent holds.
        """
        self._room = max(0, TASKS_MOST - held)
        self.batch = Batch()
        """Records of accepted tasks, and reports of the others."""
        self.accepted: list[tuple[AgentTask, Graph]] = []
        self.refused: list[str] = []
        """ARNs of tasks that cannot be read."""
        self._control_id = control_id
        self._instance = instance
        self._clock = clock
        self._ledger = ledger

    def repeat(self, last: TaskChange | None) -> None:
        """Send the last report of a task again; only a control that went back in time orders it."""
        if last is not None:
            self.batch.enqueue(last)

    def add(self, order: TaskCommand, refused: str = "") -> None:
        """Accept the task of an order that no runner has, or refuse it.

        Args:
            order: names the task.
            refused: why the host's own policy refuses it; empty if it does not.
        """
        # A time for each, because the tasks in one answer are ordered, too.
        now = self._clock.wall()
        if order.payload is None or len(self.accepted) >= self._room:
            why, code = order.reason, order.stop_code
            if order.payload is not None:
                why, code = f"the host holds {TASKS_MOST} tasks already", "TaskFailedToStart"
            _log.warning("task refused", task=order.arn, reason=why)
            self.batch.enqueue(reports.rejected(order.arn, why, now, code))
            self.refused.append(order.arn)
            return
        record, graph = admissible.accept(
            order.payload,
            self._ledger,
            control_id=self._control_id,
            instance=self._instance,
            now=now,
            refused=refused,
        )
        self.batch.put(KIND, record.arn, task.encode(record))
        self.accepted.append((record, graph))
        _log.info(
            "task accepted", task=record.arn, family=record.payload.family, reason=record.reason
        )
