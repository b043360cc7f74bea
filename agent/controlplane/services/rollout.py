"""How a rollout goes: completed, failed, rolled back, and which deployments are gone. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import wording
from agent.controlplane.services.record import COMPLETED, FAILED, IN_PROGRESS, Throttle

if TYPE_CHECKING:
    from agent.controlplane.services.observed import Observed
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord


def with_breaker(service: ServiceRecord, now: float) -> tuple[ServiceRecord, list[str]]:
    """Return the service and its events after a look at the circuit breaker.

    If it opens, the deployment is FAILED; with ``rollback``, the newest deployment that was completed
    becomes PRIMARY again, under its old id.
    """
    primary = service.primary
    is_open = primary.failed_tasks >= service.breaker_threshold
    if primary.rollout_state != IN_PROGRESS or not service.breaker.get("enable") or not is_open:
        return service, []
    failed = replace(
        primary,
        rollout_state=FAILED,
        rollout_reason=wording.CIRCUIT_BREAKER_REASON,
        updated_at=now,
        finished_at=now,
    )
    events = [wording.has_failed(service.name, primary.id)]
    others = service.deployments[1:]
    target = next((one for one in others if one.was_completed), None)
    if not service.breaker.get("rollback") or target is None:
        return replace(service, deployments=[failed, *others]), events
    again = replace(
        target,
        rollout_state=IN_PROGRESS,
        rollout_reason=wording.rolling_back_to(target.id),
        updated_at=now,
        finished_at=0.0,
        was_completed=False,
        failed_tasks=0,
        failed_created_at=0.0,
        throttle=Throttle(),
    )
    left = [one for one in others if one.id != target.id]
    events.append(wording.rolls_back(service.name, target.id))
    return replace(service, deployments=[again, failed, *left]), events


def with_completion(
    service: ServiceRecord, *, is_stable: bool, now: float
) -> tuple[ServiceRecord, list[str]]:
    """Return the service and its events, with its primary deployment COMPLETED if it is stable."""
    primary = service.primary
    if primary.rollout_state != IN_PROGRESS or not is_stable:
        return service, []
    done = replace(
        primary,
        rollout_state=COMPLETED,
        rollout_reason=wording.completed(primary.id),
        updated_at=now,
        finished_at=now,
        was_completed=True,
    )
    event = wording.has_completed(service.name, primary.id)
    return replace(service, deployments=[done, *service.deployments[1:]]), [event]


def without_gone(service: ServiceRecord, seen: Observed) -> ServiceRecord:
    """Return the service without replaced deployments that have no tasks.

    The one to which a failing deployment would be rolled back stays until that is not needed.
    """
    primary, others = service.primary, service.deployments[1:]
    used = {task.started_by for task in seen.tasks.values() if task.is_wanted}
    target: DeploymentRecord | None = None
    if primary.rollout_state != COMPLETED:
        target = next((one for one in others if one.was_completed), None)
    kept = [one for one in others if one.id in used or one is target]
    return service if len(kept) == len(others) else replace(service, deployments=[primary, *kept])
