"""The service deployments of a service, those that have ended too: what Amazon ECS calls them. Pure.

Each deployment that CreateService or UpdateService begins is one service deployment with one service
revision, and keeps both for as long as it is remembered. A rollback is part of the deployment that failed,
and goes to the revision of an earlier one.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from agent.controlplane.services import wording
from agent.controlplane.services.record import (
    ACTIVE,
    COMPLETED,
    FAILED,
    AlarmWatch,
    DeploymentRecord,
    Lifecycle,
    ServiceRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable

IN_PROGRESS = "IN_PROGRESS"
SUCCESSFUL = "SUCCESSFUL"
STOPPED = "STOPPED"
ROLLBACK_IN_PROGRESS = "ROLLBACK_IN_PROGRESS"
ROLLBACK_SUCCESSFUL = "ROLLBACK_SUCCESSFUL"
ROLLBACK_FAILED = "ROLLBACK_FAILED"
ONGOING = frozenset({IN_PROGRESS, ROLLBACK_IN_PROGRESS})

KEPT = 100
"""How many service deployments of a service are remembered."""
KEPT_S = 90 * 24 * 3600.0
"""For how long, as on Amazon ECS."""
BREAKER_REASON = (
    "Service deployment rolled back because the circuit breaker threshold was exceeded."
)
ALARM_REASON = "Service deployment rolled back because an alarm was detected."
ALARMED_REASON = "Service deployment stopped because an alarm was detected."
FAILED_REASON = "Service deployment stopped because the circuit breaker threshold was exceeded."
ASKED_REASON = "Service deployment rolled back because an operator stopped it."
_SUPERSEDED_REASON = "Service deployment was superseded by a newer one."
_DELETED_REASON = "Service was deleted."
_ID_LENGTH = 21


class RolloutRecord(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One service deployment."""

    deployment: DeploymentRecord
    """As it was when it began; its digits are those of the service revision."""
    sources: list[str] = field(default_factory=list)
    """Digits of the revisions that it replaces."""
    status: str = IN_PROGRESS
    reason: str = ""
    updated_at: float = 0.0
    finished_at: float = 0.0
    failures: int = 0
    """As the circuit breaker has counted them when it ended."""
    rolled_back_at: float = 0.0
    rolled_back_to: str = ""
    """Digits of the revision."""
    lifecycle: Lifecycle | None = None
    """The stage that it has reached; None for one that is rolling."""
    alarms: AlarmWatch | None = None
    """What it has watched; None for one without alarms."""

    @property
    def id(self) -> str:
        """The id in the ARN of the service deployment."""
        return rollout_id(self.deployment.id)


class RolloutsRecord(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The service deployments of a service, newest first."""

    rollouts: list[RolloutRecord] = field(default_factory=list)


def rollout_id(deployment_id: str) -> str:
    """Return the id of the service deployment of a deployment; always the same."""
    digest = hashlib.sha256(deployment_id.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:_ID_LENGTH]


def after(
    known: RolloutsRecord, before: ServiceRecord | None, service: ServiceRecord, now: float
) -> RolloutsRecord:
    """Return the service deployments after a change of a service; the same if it does not concern them.

    Args:
        known: those before the change.
        before: the service before; None for a new one, which begins without any.
        service: the service after.
        now: Unix seconds.
    """
    rollouts = list(known.rollouts) if before is not None else []
    old = {one.id: one for one in before.deployments} if before is not None else {}
    if service.primary.id not in old:
        rollouts = _each_ongoing(
            rollouts, lambda one: _ended(one, STOPPED, _SUPERSEDED_REASON, now)
        )
        sources = [one.digits for one in service.deployments[1:]]
        new = RolloutRecord(
            deployment=service.primary,
            sources=sources,
            updated_at=now,
            lifecycle=service.primary.lifecycle,
            alarms=service.primary.alarms,
        )
        rollouts.insert(0, new)
    elif service.status != ACTIVE:
        rollouts = _each_ongoing(rollouts, lambda one: _ended(one, STOPPED, _DELETED_REASON, now))
    elif service.deployments != (before.deployments if before is not None else []):
        rollouts = _each_ongoing(rollouts, lambda one: _followed(one, service, now))
    kept = [one for one in rollouts[:KEPT] if not one.finished_at or one.finished_at > now - KEPT_S]
    return known if kept == known.rollouts else RolloutsRecord(rollouts=kept)


def was_ended_by_hook(reason: str) -> bool:
    """Return whether this is the reason of a service deployment that one of its hooks has ended."""
    others = (BREAKER_REASON, ASKED_REASON, ALARM_REASON)
    return reason.startswith(wording.HOOK_REASON) and reason not in others


def _each_ongoing(
    rollouts: list[RolloutRecord], change: Callable[[RolloutRecord], RolloutRecord]
) -> list[RolloutRecord]:
    return [change(one) if one.status in ONGOING else one for one in rollouts]


def _ended(one: RolloutRecord, status: str, reason: str, now: float) -> RolloutRecord:
    return replace(one, status=status, reason=reason, updated_at=now, finished_at=now)


def _followed(one: RolloutRecord, service: ServiceRecord, now: float) -> RolloutRecord:
    """Return an ongoing service deployment as the deployments of the service show it."""
    primary = service.primary
    own = next((d for d in service.deployments if d.id == one.deployment.id), None)
    if own is not None and own.lifecycle is not None:
        one = replace(one, lifecycle=own.lifecycle)
    if own is not None and own.alarms is not None:
        one = replace(one, alarms=own.alarms)
    if one.status == ROLLBACK_IN_PROGRESS:
        if primary.rollout_state == COMPLETED:
            return _ended(one, ROLLBACK_SUCCESSFUL, one.reason, now)
        if primary.rollout_state == FAILED:
            return _ended(one, ROLLBACK_FAILED, one.reason, now)
        return one
    if own is not None and own.rollout_state not in (COMPLETED, FAILED):
        return one
    # One that failed without any task left is gone from the service at once.
    failures = own.failed_tasks if own is not None else service.breaker_threshold
    one = replace(one, failures=failures)
    if own is not None and own.rollout_state == COMPLETED:
        return _ended(one, SUCCESSFUL, "", now)
    cause = wording.cause_of_hook(primary.rollout_reason)
    if own is primary:
        is_alarmed = own.rollout_reason == wording.ALARM_REASON
        return _ended(one, STOPPED, cause or (ALARMED_REASON if is_alarmed else FAILED_REASON), now)
    rolls_back = replace(
        one,
        status=ROLLBACK_IN_PROGRESS,
        reason=cause or _cause(own),
        updated_at=now,
        rolled_back_at=now,
        rolled_back_to=primary.digits,
    )
    return _followed(rolls_back, service, now)  # the rollback may be over at once


def _cause(own: DeploymentRecord | None) -> str:
    """Return why a deployment was rolled back that no hook has ended."""
    causes = {wording.STOPPED_REASON: ASKED_REASON, wording.ALARM_REASON: ALARM_REASON}
    return causes.get(own.rollout_reason, BREAKER_REASON) if own is not None else BREAKER_REASON
