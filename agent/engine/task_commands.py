"""Converts assignments into commands. Pure.

Each is parsed separately, so that an invalid one does not affect the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import PayloadError
from agent.model import payload as payloads
from agent.model import reasons
from agent.model.status import DesiredStatus

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from agent.model.payload import TaskPayload
    from agent.model.task import AgentTask
    from agent.model.wire import Assignment, Assignments


@dataclass(frozen=True, slots=True)
class TaskCommand:
    """One thing to do for one task."""

    arn: str
    payload: TaskPayload | None = None
    """The task to run; None for a stop, and for a task that cannot be read."""
    reason: str = ""
    """Why the task should stop, or cannot run."""
    stop_code: str = ""


def read(assignments: Assignments, known: Container[str]) -> list[TaskCommand]:
    """Return the commands in an answer, stops first; orders to run known tasks are left out."""
    orders: dict[str, TaskCommand] = {}
    for assignment in assignments.tasks:
        order = _order(assignment, known)
        if order is not None:
            orders[order.arn] = order
    return sorted(orders.values(), key=lambda order: order.payload is not None)


def unlisted(
    assignments: Assignments, records: Iterable[AgentTask], control_id: str, instance: str
) -> list[str]:
    """Return the ARNs of the tasks that a full set no longer wants.

    A full set says nothing about tasks that another control ordered, or that the same control
    ordered for an earlier instance of this host: a newly registered host has an empty set at first.
    """
    if not assignments.full:
        return []
    listed = {assignment.task_arn for assignment in assignments.tasks}
    return [
        record.arn
        for record in records
        if record.arn not in listed
        and (record.origin, record.instance) == (control_id, instance)
        and record.desired is DesiredStatus.RUNNING
    ]


def _order(assignment: Assignment, known: Container[str]) -> TaskCommand | None:
    arn = assignment.task_arn
    if not arn:
        return None
    if assignment.desired_status == DesiredStatus.STOPPED:
        return TaskCommand(arn, reason=assignment.stopped_reason, stop_code=assignment.stop_code)
    if arn in known:
        return None
    try:
        payload = payloads.decode(assignment.payload)
        if payload.arn != arn:
            raise PayloadError(f"arn {payload.arn!r} differs from that of the assignment, {arn!r}")
    except PayloadError as error:
        reason = reasons.unrecognized_task(str(error))
        return TaskCommand(arn, reason=reason, stop_code="TaskFailedToStart")
    return TaskCommand(arn, payload=payload)
