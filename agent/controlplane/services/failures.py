"""Tasks that failed: counted for the circuit breaker, and to slow down starts. Pure.

Amazon ECS slows down starts of tasks that never run, in steps that it does not publish, to one in 27
minutes; here, the delay begins with 10 s and doubles. Tasks that exit before they are healthy are started
about every 50 s there; here, after 10, 20, 40 and then 50 s. All tasks of one round count once, so that a
large service is not slowed down more than a small one. A task that becomes healthy ends the slowing down, and so
does scaling in to tasks that all are healthy.

Beyond Amazon ECS's documented rules, a task that exits before it is healthy counts for the circuit
breaker, as Amazon ECS was seen to do.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import wording
from agent.controlplane.services.observed import HEALTHY_AFTER_S
from agent.controlplane.services.record import IN_PROGRESS, Throttle
from agent.controlplane.tasks import changes as task_changes

if TYPE_CHECKING:
    from agent.controlplane.services.observed import Observed, SeenTask
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord

FIRST_DELAY_S = 10.0
LONGEST_DELAY_S = 27 * 60.0
"""After tasks that never ran."""
LONGEST_DELAY_AFTER_EXIT_S = 50.0
IMPAIRED_LEVEL = 3
"""From how many failed rounds on the service says that it cannot start tasks consistently."""


class Failure(Enum):
    """How a task failed."""

    START = "never ran"
    EXIT = "exited before it was healthy"
    HEALTH = "failed its health checks"


def failure_of(task: SeenTask, seen: Observed) -> Failure | None:
    """Return how a STOPPED task failed; None for one that was stopped, or ran well for a time.

    A task that ended with its host has not failed.
    """
    if task.stop_code == wording.STOP_CODE:
        is_unhealthy = task.stopped_reason == wording.UNHEALTHY_REASON or (
            task.stopped_reason.startswith(wording.BALANCER_REASON)
        )
        return Failure.HEALTH if is_unhealthy else None
    if task.instance_id and task.instance_id not in seen.hosts:
        return None
    if task.stop_code == task_changes.FAILED_TO_START:
        return Failure.START
    if task.stop_code != task_changes.ESSENTIAL_EXITED:
        return None
    if task.has_check:
        was_healthy = task.health_status == "HEALTHY"
    else:
        was_healthy = bool(task.ran_at) and task.settled_at >= task.ran_at + HEALTHY_AFTER_S
    return None if was_healthy else Failure.EXIT


def delay_s(failure: Failure, level: int) -> float:
    """Return for how long nothing is started after ``level`` failed rounds in a row."""
    longest = LONGEST_DELAY_S if failure is Failure.START else LONGEST_DELAY_AFTER_EXIT_S
    return min(FIRST_DELAY_S * 2.0 ** min(level - 1, 16), longest)


def count(service: ServiceRecord, seen: Observed, now: float) -> tuple[ServiceRecord, list[str]]:
    """Return the service with every ended task counted, and the ids of these tasks."""
    ended = [t for t in seen.tasks.values() if t.last_status == "STOPPED" and not t.counted]
    deployments = {one.id: one for one in service.deployments}
    for task in sorted(ended, key=lambda t: (t.created_at, t.id)):
        deployment = deployments.get(task.started_by)
        failure = failure_of(task, seen)
        if deployment is not None and failure is not None:
            deployments[deployment.id] = _failed(deployment, task, failure, now)
    reset_breaker = service.breaker.get("resetOnHealthyTask", True)
    for deployment in deployments.values():
        if _has_recovered(deployment, seen, now):
            deployments[deployment.id] = replace(
                deployment,
                failed_tasks=0 if reset_breaker else deployment.failed_tasks,
                failed_created_at=0.0,
                throttle=Throttle(),
            )
    counted = replace(service, deployments=[deployments[one.id] for one in service.deployments])
    return counted, [task.id for task in ended]


def at_rest(service: ServiceRecord) -> ServiceRecord:
    """Return a service that has all that it wants: nothing is to be started, so nothing is slowed down.

    The tasks that failed may have been newer than all that are left, after scaling in; then no task that becomes
    healthy would ever end it.
    """
    primary = service.primary
    if primary.throttle == Throttle():
        return service
    return replace(
        service, deployments=[replace(primary, throttle=Throttle()), *service.deployments[1:]]
    )


def _failed(
    deployment: DeploymentRecord, task: SeenTask, failure: Failure, now: float
) -> DeploymentRecord:
    changed = replace(
        deployment, failed_created_at=max(deployment.failed_created_at, task.created_at)
    )
    if deployment.rollout_state == IN_PROGRESS:
        changed = replace(changed, failed_tasks=deployment.failed_tasks + 1)
    if failure is Failure.HEALTH or task.created_at < deployment.throttle.until:
        return changed
    level = deployment.throttle.level + 1
    return replace(changed, throttle=Throttle(level=level, until=now + delay_s(failure, level)))


def _has_recovered(deployment: DeploymentRecord, seen: Observed, now: float) -> bool:
    """Return whether a task that is not older than those that failed is healthy."""
    return bool(deployment.failed_created_at) and any(
        task.started_by == deployment.id
        and task.created_at >= deployment.failed_created_at
        and task.is_healthy(now)
        for task in seen.tasks.values()
    )
