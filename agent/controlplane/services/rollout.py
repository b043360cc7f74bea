"""How a rollout goes: completed, failed, rolled back, and which deployments are gone. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import wording
from agent.controlplane.services.record import COMPLETED, FAILED, IN_PROGRESS, Throttle

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    failed = _failed(primary, wording.CIRCUIT_BREAKER_REASON, now)
    events = [wording.has_failed(service.name, primary.id)]
    target = rollback_target(service)
    if not service.breaker.get("rollback") or target is None:
        return replace(service, deployments=[failed, *service.deployments[1:]]), events
    reason = wording.rolling_back_to(target.id)
    service, back = _rolled_back(service, failed, target, reason, now)
    return service, [*events, *back]


def alarmed(
    service: ServiceRecord, firing: Sequence[str], now: float
) -> tuple[ServiceRecord, list[str]]:
    """Return the service and its events after alarms have made its deployment fail.

    With ``rollback`` of the alarms, the newest deployment that was completed becomes PRIMARY again.

    Args:
        service: its primary deployment is IN_PROGRESS and watches alarms.
        firing: names of those in ALARM.
        now: Unix seconds.
    """
    primary, watch = service.primary, service.primary.alarms
    if watch is None:
        return service, []
    told = replace(primary, alarms=replace(watch, triggered=list(firing)))
    failed = _failed(told, wording.ALARM_REASON, now)
    events = [wording.alarm_detected(service.name, primary.id)]
    target = rollback_target(service)
    if not watch.rolls_back or target is None:
        return replace(service, deployments=[failed, *service.deployments[1:]]), events
    reason = wording.going_back_from_alarm(target.id)
    service, back = _rolled_back(service, failed, target, reason, now)
    return service, [*events, *back]


def stopped(service: ServiceRecord, now: float) -> tuple[ServiceRecord, list[str]] | None:
    """Return the service and its events after an operator has stopped its deployment.

    The newest deployment that was completed becomes PRIMARY again, as with the circuit breaker, whether or not
    that is set to roll back. None if the deployment is over, or there is none to go back to.
    """
    target = rollback_target(service)
    if service.primary.rollout_state != IN_PROGRESS or target is None:
        return None
    failed = _failed(service.primary, wording.STOPPED_REASON, now)
    events = [wording.was_stopped(service.name, failed.id)]
    service, back = _rolled_back(service, failed, target, wording.going_back_to(target.id), now)
    return service, [*events, *back]


def given_up(service: ServiceRecord, reason: str, now: float) -> tuple[ServiceRecord, list[str]]:
    """Return the service and its events after a hook has ended its deployment.

    The newest deployment that was completed becomes PRIMARY again; without one, the deployment stays and is FAILED.

    Args:
        service: its primary deployment is IN_PROGRESS.
        reason: why, as ``rolloutStateReason`` of the deployment; with ``wording.HOOK_REASON`` before it.
        now: Unix seconds.
    """
    target = rollback_target(service)
    if target is None:
        reason = wording.nothing_to_go_back_to(reason)
    failed = _failed(service.primary, reason, now)
    events = [wording.has_been_given_up(service.name, failed.id, reason)]
    if target is None:
        return replace(service, deployments=[failed, *service.deployments[1:]]), events
    why = wording.goes_back_from_hook(reason, target.id)
    service, back = _rolled_back(service, failed, target, why, now)
    return service, [*events, *back]


def rollback_target(service: ServiceRecord) -> DeploymentRecord | None:
    """Return the deployment to which the primary one can be rolled back; None if there is none."""
    return next((one for one in service.deployments[1:] if one.was_completed), None)


def _failed(primary: DeploymentRecord, reason: str, now: float) -> DeploymentRecord:
    return replace(
        primary, rollout_state=FAILED, rollout_reason=reason, updated_at=now, finished_at=now
    )


def _rolled_back(
    service: ServiceRecord,
    failed: DeploymentRecord,
    target: DeploymentRecord,
    reason: str,
    now: float,
) -> tuple[ServiceRecord, list[str]]:
    again = replace(
        target,
        rollout_state=IN_PROGRESS,
        rollout_reason=reason,
        updated_at=now,
        finished_at=0.0,
        was_completed=False,
        failed_tasks=0,
        failed_created_at=0.0,
        throttle=Throttle(),
        lifecycle=None,
        alarms=None,
    )
    left = [one for one in service.deployments[1:] if one.id != target.id]
    event = wording.rolls_back(service.name, target.id)
    return replace(service, deployments=[again, failed, *left]), [event]


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
