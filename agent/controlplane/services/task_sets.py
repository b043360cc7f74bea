"""The task sets of a service with the deployment controller EXTERNAL: one step for all of them. Pure.

Each task set is scheduled as a service of its own with one completed deployment (``facing``): the same
arithmetic, health, throttling of starts and events, whose texts name the task set. What it changes goes back
into the record of the service (``whole``). A task set that is deleted is drained as a deleted service is,
and is gone when all of its tasks are being stopped.

Source of the rules: the Amazon ECS API reference, TaskSet, and developer guide, "External deployment".
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import wording
from agent.controlplane.services.plan import Plan, Stop
from agent.controlplane.services.record import ACTIVE, ECS, INACTIVE
from agent.controlplane.services.step import COUNT_BATCH, STOP_BATCH
from agent.controlplane.services.step import step as step_of_one

if TYPE_CHECKING:
    from agent.controlplane.services.observed import Observed, SeenTask
    from agent.controlplane.services.record import ServiceRecord, TaskSetRecord


@dataclass(frozen=True, slots=True)
class Launch:
    """What a task set wants to start."""

    plan: Plan
    """Its service is the task set as ``facing`` returns it."""
    seen: Observed
    """The tasks of the task set alone."""


def facing(service: ServiceRecord, one: TaskSetRecord) -> ServiceRecord:
    """Return a task set as a service of its own; it must never be stored."""
    return replace(
        service,
        name=f"{service.name}, taskSet {one.id}",
        controller=ECS,
        status=one.status,
        desired_count=one.desired_count(service),
        deployments=[one.deployment],
        task_sets=[],
        notices=one.notices,
    )


def whole(service: ServiceRecord, changed: ServiceRecord, now: float) -> ServiceRecord:
    """Return the record to be stored after a step or a launch.

    Args:
        service: as it was.
        changed: the same service, or one of its task sets, as ``facing`` returns it.
        now: Unix seconds.
    """
    if not service.is_external or changed.is_external:
        return changed
    sets = []
    for one in service.task_sets:
        if one.id != changed.primary.id:
            sets.append(one)
        elif changed.status != INACTIVE:
            sets.append(_with(one, changed, now))
    return replace(service, task_sets=sets, turn=changed.turn)


def _with(one: TaskSetRecord, changed: ServiceRecord, now: float) -> TaskSetRecord:
    is_steady = wording.STEADY in changed.notices
    steady_count = changed.desired_count if is_steady else -1
    return replace(
        one,
        deployment=changed.primary,
        notices=changed.notices,
        steady_count=steady_count,
        stability_at=one.stability_at if steady_count == one.steady_count else now,
    )


def step(service: ServiceRecord, seen: Observed, now: float) -> tuple[Plan, list[Launch]]:
    """Return what to do for an ACTIVE service now: one plan to carry out, or else what to start.

    Args:
        service: its record.
        seen: the tasks of all task sets and their hosts, not older than the record.
        now: Unix seconds.
    """
    others = dict(seen.tasks)
    wake_at: list[float] = []
    launches: list[Launch] = []
    for one in service.task_sets:
        own = {name: task for name, task in others.items() if task.started_by == one.id}
        others = {name: task for name, task in others.items() if name not in own}
        alone = replace_fields(seen, tasks=own)
        record = facing(service, one)
        plan = step_of_one(record, alone, now)
        if plan.service is not record:
            return replace_fields(plan, service=whole(service, plan.service, now), start=0), []
        if plan.wake_at is not None:
            wake_at.append(plan.wake_at)
        if plan.start:
            launches.append(Launch(plan, alone))
    left = _left_over(service, others)
    if left is not None:
        return left, []
    return Plan(service, wake_at=min(wake_at, default=None)), launches


def _left_over(service: ServiceRecord, tasks: dict[str, SeenTask]) -> Plan | None:
    """Return the plan for tasks of task sets that are gone: their end does not count."""
    ended = [t.id for t in tasks.values() if t.last_status == "STOPPED" and not t.counted]
    wanted = sorted((t for t in tasks.values() if t.is_wanted), key=lambda t: t.id)
    if not ended and not wanted:
        return None
    return Plan(
        replace(service, turn=service.turn + 1),
        counted=tuple(sorted(ended)[:COUNT_BATCH]),
        stops=tuple(Stop(task) for task in wanted[:STOP_BATCH]),
    )


def is_active(service: ServiceRecord) -> bool:
    """Return whether a service is scheduled by its task sets; one that is being deleted is not."""
    return service.is_external and service.status == ACTIVE
