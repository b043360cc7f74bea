"""What the orders of one answer for unknown tasks become: records, refusals, and one transaction.

Tests: ``tests/unit/engine/test_engine_life.py``, ``tests/unit/engine/test_engine_control.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

_log = structlog.get_logger()


class OrderBatch:
    """Collects orders. Nothing is stored and nothing begins before the caller commits ``batch``."""

    def __init__(self, control_id: str, instance: str, clock: Clock, ledger: Ledger) -> None:
        """Begin without orders.

        Args:
            control_id: id of the control that orders.
            instance: ARN of this host's container instance there; empty if ``control_id``
                identifies it.
            clock: tells the time of acceptance.
            ledger: knows what the host has at all.
        """
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

    def add(self, order: TaskCommand) -> None:
        """Accept the task of an order that no runner has, or refuse it."""
        # A time for each, because the tasks in one answer are ordered, too.
        now = self._clock.wall()
        if order.payload is None:
            _log.warning("task refused", task=order.arn, reason=order.reason)
            self.batch.enqueue(reports.rejected(order.arn, order.reason, now, order.stop_code))
            self.refused.append(order.arn)
            return
        record, graph = admissible.accept(
            order.payload,
            self._ledger,
            control_id=self._control_id,
            instance=self._instance,
            now=now,
        )
        self.batch.put(KIND, record.arn, task.encode(record))
        self.accepted.append((record, graph))
        _log.info(
            "task accepted", task=record.arn, family=record.payload.family, reason=record.reason
        )
