"""The stages of a deployment with the strategy BLUE_GREEN, LINEAR or CANARY, and what it waits for. Pure.

::

    RECONCILE_SERVICE             until the tasks of deployments that were superseded are being stopped
    PRE_SCALE_UP                  hooks
    SCALE_UP                      until every task of the new deployment (green) is healthy
    POST_SCALE_UP                 hooks
    TEST_TRAFFIC_SHIFT            the test rules forward to the green tasks (``traffic_shift``)
    POST_TEST_TRAFFIC_SHIFT       hooks
    PRE_PRODUCTION_TRAFFIC_SHIFT  hooks
    PRODUCTION_TRAFFIC_SHIFT      the production rules do; in steps, it lasts for a while and follows
                                  PRE_PRODUCTION_TRAFFIC_SHIFT again
    POST_PRODUCTION_TRAFFIC_SHIFT hooks
    BAKE_TIME                     for as long as the service says, or its alarms need
    CLEAN_UP                      the old deployment (blue) is stopped, as in a rolling deployment

Until CLEAN_UP, both deployments have all their tasks (``blue_green``), so a rollback only shifts the traffic back
and stops the green ones. Without load balancers, nothing is shifted.
A stage begins once and its hooks with it; what a deployment waits for is stored in it, so a restart of control
changes nothing. Source: the Amazon ECS developer guide, "Amazon ECS blue/green deployments" and "Lifecycle hooks
for Amazon ECS service deployments".
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import deployment_alarms, rollout, traffic_shift, wording
from agent.controlplane.services.record import AWAITING_ACTION, IN_PROGRESS, HookWait, Lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.controlplane.services.blue_green import Progress
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord

RECONCILE_SERVICE = "RECONCILE_SERVICE"
SCALE_UP = "SCALE_UP"
BAKE_TIME = "BAKE_TIME"
CLEAN_UP = "CLEAN_UP"
_PRE_PRODUCTION = "PRE_PRODUCTION_TRAFFIC_SHIFT"
_PRODUCTION = "PRODUCTION_TRAFFIC_SHIFT"
STAGES = (
    *(RECONCILE_SERVICE, "PRE_SCALE_UP", SCALE_UP, "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT"),
    *("POST_TEST_TRAFFIC_SHIFT", _PRE_PRODUCTION, _PRODUCTION, "POST_PRODUCTION_TRAFFIC_SHIFT"),
    *(BAKE_TIME, CLEAN_UP),
)
"""In their order."""
PAUSE_STAGES = frozenset(
    {
        "PRE_SCALE_UP",
        "POST_SCALE_UP",
        "POST_TEST_TRAFFIC_SHIFT",
        _PRE_PRODUCTION,
        "POST_PRODUCTION_TRAFFIC_SHIFT",
    }
)
"""Where a PAUSE hook may be."""

SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
TIMED_OUT = "TIMED_OUT"
_ID_LENGTH = 17


def is_staged(service: ServiceRecord) -> bool:
    """Return whether the primary deployment is in a stage in which the old one has all its tasks too."""
    return _before_clean_up(service.primary) is not None


def has_scaled_up(service: ServiceRecord) -> bool:
    """Return whether the primary deployment is to have its tasks, or has no stages."""
    known = _before_clean_up(service.primary)
    return known is None or STAGES.index(known.stage) >= STAGES.index(SCALE_UP)


def shown_stage(known: Lifecycle) -> str:
    """Return the stage as DescribeServiceDeployments has it, which knows one less."""
    return _PRODUCTION if known.stage == _PRE_PRODUCTION else known.stage


def waiting(deployment: DeploymentRecord) -> list[HookWait]:
    """Return what a deployment waits for now."""
    known = _before_clean_up(deployment)
    return [one for one in known.waits if one.status == AWAITING_ACTION] if known else []


def moments(service: ServiceRecord) -> Iterator[float]:
    """Yield when time alone ends a stage; Unix seconds."""
    known = _before_clean_up(service.primary)
    if known is not None and known.stage == BAKE_TIME:
        yield known.since + known.bake_s
    if known is not None and known.stage == _PRODUCTION and not known.is_last_step:
        yield known.since + known.step_bake_s
    for wait in waiting(service.primary):
        yield wait.expires_at


def advanced(
    service: ServiceRecord, progress: Progress, now: float
) -> tuple[ServiceRecord, list[str]]:
    """Return the service and its events, with its primary deployment in the stage that it has reached.

    A hook that was not continued in time ends its wait, or the deployment, as it says.
    """
    late = [wait for wait in waiting(service.primary) if wait.expires_at <= now]
    for wait in late:
        service = with_status(service, wait.id, TIMED_OUT)
    given_up = next((wait for wait in late if wait.on_timeout == "ROLLBACK"), None)
    if given_up is not None:
        return rollout.given_up(service, wording.hook_timed_out(given_up.stage), now)
    while (known := _before_clean_up(service.primary)) is not None:
        if not _may_leave(service, known, progress, now):
            break
        service = _with(service, _entered(service.primary.id, known, now))
    return service, []


def with_status(service: ServiceRecord, hook_id: str, status: str) -> ServiceRecord:
    """Return the service with another status of one of the waits of its primary deployment."""
    known = service.primary.lifecycle
    if known is None:
        return service
    waits = [replace(one, status=status) if one.id == hook_id else one for one in known.waits]
    return _with(service, replace(known, waits=waits))


def _before_clean_up(deployment: DeploymentRecord) -> Lifecycle | None:
    known = deployment.lifecycle
    is_over = known is None or known.stage == CLEAN_UP or deployment.rollout_state != IN_PROGRESS
    return None if is_over else known


def production_percent(known: Lifecycle) -> float:
    """Return how much of the production traffic the new deployment has by its stage, in per cent."""
    stage = STAGES.index(known.stage)
    if stage < STAGES.index(_PRODUCTION):
        return known.steps[known.step - 1] if known.step else 0.0
    return known.percent


def test_percent(known: Lifecycle) -> float:
    """Return how much of the test traffic the new deployment has by its stage, in per cent."""
    return 100.0 if STAGES.index(known.stage) >= STAGES.index("TEST_TRAFFIC_SHIFT") else 0.0


def _may_leave(service: ServiceRecord, known: Lifecycle, progress: Progress, now: float) -> bool:
    if any(wait.status == AWAITING_ACTION for wait in known.waits):
        return False
    if not traffic_shift.decide(service, progress.listeners).is_done:
        return False
    match known.stage:
        case "RECONCILE_SERVICE":
            return progress.is_reconciled
        case "SCALE_UP":
            return progress.is_scaled_up
        case "PRODUCTION_TRAFFIC_SHIFT" if not known.is_last_step:
            return now >= known.since + known.step_bake_s
        case "BAKE_TIME":
            is_over = now >= known.since + known.bake_s
            return is_over and deployment_alarms.has_baked(
                service, progress.alarms, known.since, known.bake_s
            )
    return True


def _entered(deployment: str, known: Lifecycle, now: float) -> Lifecycle:
    """Return the lifecycle in the next stage, with what it waits for there."""
    stage, step = STAGES[STAGES.index(known.stage) + 1], known.step
    if known.stage == _PRODUCTION and not known.is_last_step:
        stage, step = _PRE_PRODUCTION, step + 1
    place = f"{deployment} {stage} {step}" if step else f"{deployment} {stage}"
    waits = [
        HookWait(
            id=_hook_id(place, number),
            stage=stage,
            expires_at=now + hook.timeout_s,
            on_timeout=hook.on_timeout,
        )
        for number, hook in enumerate(known.hooks)
        if stage in hook.stages
    ]
    return replace(known, stage=stage, since=now, step=step, waits=[*known.waits, *waits])


def _hook_id(place: str, number: int) -> str:
    """Return the id of a wait, always the same, in the form that Amazon ECS documents."""
    text = f"{place} {number}"
    return f"ecs-PAUSE-{hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]}"


def _with(service: ServiceRecord, known: Lifecycle) -> ServiceRecord:
    primary = replace(service.primary, lifecycle=known)
    return replace(service, deployments=[primary, *service.deployments[1:]])
