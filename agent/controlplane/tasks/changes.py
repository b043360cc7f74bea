"""Applies a report of an agent to a task's record. Pure.

Statuses only move forward, in whatever order reports arrive. A report that was already applied (its
id is in ``recent_changes``) changes nothing, and neither does one that comes after the task's
STOPPED.

Control decides the stop code and the text of ``stoppedReason``; the source is the ECS developer
guide, "Stopped tasks error messages". An agent only reports what it has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent import escapes
from agent.controlplane.agents import report_rules
from agent.model import reasons
from agent.model.status import Health

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.records import AttachmentRecord, ContainerRecord, TaskRecord
    from agent.model.changes import (
        AttachmentChange,
        ContainerChange,
        NetworkInterface,
        TaskChange,
    )

USER_INITIATED = "UserInitiated"
ESSENTIAL_EXITED = "EssentialContainerExited"
FAILED_TO_START = "TaskFailedToStart"
STOP_CODES = frozenset(
    {
        USER_INITIATED,
        ESSENTIAL_EXITED,
        FAILED_TO_START,
        "ServiceSchedulerInitiated",
        "SpotInterruption",
        "TerminationNotice",
        "InfrastructureHealth",
    }
)
_DEFAULT_REASONS = {
    ESSENTIAL_EXITED: "Essential container in task exited",
    FAILED_TO_START: "Task failed to start",
}
REMEMBERED_CHANGES = 64
"""How many ids a task remembers; an agent only repeats reports without a response, in order."""

ENI = "ElasticNetworkInterface"


def apply(task: TaskRecord, change: TaskChange) -> TaskRecord:
    """Return the record after a report; the same object if the report has nothing new.

    Raises:
        OutOfBounds: no correct agent sends such a report; none of it is applied.
    """
    report_rules.check(change)
    if change.id in task.recent_changes or task.last_status == "STOPPED":
        return task
    attachments = _attachments(task, change)
    containers = [_container(c, change, attachments) for c in task.containers]
    status = _later(task.last_status, change.status, report_rules.TASK_STATUSES)
    changed = replace(
        task,
        last_status=status,
        containers=containers,
        attachments=attachments,
        health_status=_health(containers),
        connectivity="CONNECTED",
        connectivity_at=task.connectivity_at or change.at,
        pull_started_at=task.pull_started_at or change.pull_started_at,
        pull_stopped_at=change.pull_stopped_at or task.pull_stopped_at,
        started_at=task.started_at or _started_at(change),
        stopping_at=task.stopping_at or change.stopping_at,
        execution_stopped_at=task.execution_stopped_at or change.execution_stopped_at,
        recent_changes=[*task.recent_changes, change.id][-REMEMBERED_CHANGES:],
        version=task.version + 1,
    )
    if status == "STOPPED":
        return _stopped(changed, change)
    return _stopping(changed, change) if _is_to_stop(changed, change) else changed


def with_health(task: TaskRecord, health: Mapping[str, Health]) -> TaskRecord:
    """Return the record after a report that only has the health of containers, by their names.

    The same object if it has nothing new, and for a task that is STOPPED.
    """
    if task.last_status == "STOPPED":
        return task
    containers = [
        replace(c, health_status=health[c.name].value) if c.name in health else c
        for c in task.containers
    ]
    if containers == task.containers:
        return task
    return replace(
        task,
        containers=containers,
        health_status=_health(containers),
        version=task.version + 1,
    )


def stop_without_agent(task: TaskRecord, *, code: str, reason: str, now: float) -> TaskRecord:
    """Return the record of a task that ends because there is no agent to run it.

    For the tasks of an instance that left or was deregistered by force.
    """
    containers = [
        c if c.last_status == "STOPPED" else replace(c, last_status="STOPPED")
        for c in task.containers
    ]
    return replace(
        task,
        desired_status="STOPPED",
        last_status="STOPPED",
        containers=containers,
        attachments=[replace(a, status="DELETED") for a in task.attachments],
        connectivity="DISCONNECTED" if task.connectivity else "",
        stop_code=task.stop_code or code,
        stopped_reason=task.stopped_reason or reasons.clip(reason),
        stopping_at=task.stopping_at or now,
        execution_stopped_at=task.execution_stopped_at or now,
        stopped_at=now,
        settled_at=now,
        version=task.version + 1,
    )


def _told(reason: str) -> str:
    """Return a reason as it is stored: shortened, and with control characters as escapes."""
    return reasons.clip(escapes.shown(reason, keep="\n\t"))


def _later(old: str, new: str, order: tuple[str, ...]) -> str:
    return new if order.index(new) > order.index(old) else old


def _started_at(change: TaskChange) -> float:
    return change.started_at or (change.at if change.status == "RUNNING" else 0.0)


def _container(
    container: ContainerRecord, change: TaskChange, attachments: list[AttachmentRecord]
) -> ContainerRecord:
    """Return a container after all entries of a report about it, in order."""
    for report in change.containers:
        if report.container_name == container.name:
            container = _reported(container, report, attachments)
    return container


def _reported(
    container: ContainerRecord, report: ContainerChange, attachments: list[AttachmentRecord]
) -> ContainerRecord:
    runtime_id = report.runtime_id or container.runtime_id
    # With a digest in its name, the image has that digest; agents do not report it again.
    given = container.image.partition("@")[2] if runtime_id else ""
    return replace(
        container,
        last_status=_later(container.last_status, report.status, report_rules.CONTAINER_STATUSES),
        runtime_id=runtime_id,
        image_digest=report.image_digest or container.image_digest or given,
        exit_code=report.exit_code if report.status == "STOPPED" else container.exit_code,
        reason=_told(report.reason),
        health_status=report.health_status.value,
        network_bindings=report.network_bindings or container.network_bindings,
        network_interfaces=_interfaces(report, attachments) or container.network_interfaces,
    )


def _interfaces(
    report: ContainerChange, attachments: list[AttachmentRecord]
) -> list[NetworkInterface]:
    """Return the interfaces with control's attachment id, whatever id the agent uses."""
    own = next((a.id for a in attachments if a.type == ENI), "")
    return [replace(i, attachment_id=own or i.attachment_id) for i in report.network_interfaces]


def _attachments(task: TaskRecord, change: TaskChange) -> list[AttachmentRecord]:
    attachments = list(task.attachments)
    for report in change.attachments:
        index = _index_of(attachments, report)
        if index is not None:
            old = attachments[index]
            attachments[index] = replace(
                old,
                status=_later(old.status, report.status, report_rules.ATTACHMENT_STATUSES),
                details=_merged(old.details, report.details),
            )
    return attachments


def _merged(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """Return the details after a report; their number is limited, however many names are reported."""
    both = (old | new).items()
    return dict(list(both)[: report_rules.DETAILS_MOST])


def _index_of(attachments: list[AttachmentRecord], report: AttachmentChange) -> int | None:
    """Find the attachment by id or ARN; with an agent's own id, the only one of its type."""
    wanted = report.id.rsplit("/", 1)[-1]
    for index, attachment in enumerate(attachments):
        if attachment.id == wanted:
            return index
    same_type = [i for i, a in enumerate(attachments) if a.type == report.type]
    return same_type[0] if len(same_type) == 1 else None


def _health(containers: list[ContainerRecord]) -> str:
    """Return the task's health, from its essential containers that have a health check."""
    states = {c.health_status for c in containers if c.essential and c.health_check}
    for state in (Health.UNHEALTHY, Health.UNKNOWN, Health.HEALTHY):
        if state.value in states:
            return state.value
    return Health.UNKNOWN.value


def _is_to_stop(task: TaskRecord, change: TaskChange) -> bool:
    """Return whether the agent is stopping the task: an essential container ended, or it says so."""
    return bool(change.stopping_at) or any(
        c.essential and c.last_status == "STOPPED" for c in task.containers
    )


def _stopping(task: TaskRecord, change: TaskChange) -> TaskRecord:
    """Return a task that is stopping, with the reason; other containers may use their stop time."""
    code = task.stop_code or (change.stop_code if change.stop_code in STOP_CODES else "")
    if not code:
        code = ESSENTIAL_EXITED if _ever_ran(task) else FAILED_TO_START
    reason = task.stopped_reason or _told(change.reason) or _DEFAULT_REASONS.get(code, "")
    return replace(
        task,
        desired_status="STOPPED",
        stop_code=code,
        stopped_reason=reason,
        stopping_at=task.stopping_at or change.stopped_at or change.at,
    )


def _stopped(task: TaskRecord, change: TaskChange) -> TaskRecord:
    task = _stopping(task, change)
    stopped_at = change.stopped_at or change.at
    return replace(
        task,
        containers=[
            c if c.last_status == "STOPPED" else replace(c, last_status="STOPPED")
            for c in task.containers
        ],
        attachments=[replace(a, status="DELETED") for a in task.attachments],
        execution_stopped_at=task.execution_stopped_at or stopped_at,
        stopped_at=stopped_at,
    )


def _ever_ran(task: TaskRecord) -> bool:
    """Return whether the task ever ran, even if it ended before that was reported."""
    if task.started_at:
        return True
    essential = [c for c in task.containers if c.essential] or task.containers
    # A container that never started because of a dependency has an exit code but no runtime id.
    return any(c.exit_code is not None and c.runtime_id for c in essential) and not any(
        c.reason.startswith("Cannot") and c.last_status == "STOPPED" for c in task.containers
    )
