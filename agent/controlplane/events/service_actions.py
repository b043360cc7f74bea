"""Events of services and deployments, from what DescribeServices and service deployments tell. Pure.

Each action has the name that Amazon ECS gives it, and follows from the text (``services.wording``). Texts for
which Amazon ECS sends no event have no action.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.controlplane.events.envelope import DEPLOYMENT, SERVICE, Draft, iso
from agent.controlplane.services import rollouts, wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.services.record import EventRecord
    from agent.controlplane.services.rollouts import RolloutRecord

INFO: Final = "INFO"
WARN: Final = "WARN"
ERROR: Final = "ERROR"
PLACEMENT_FAILURE: Final = "SERVICE_TASK_PLACEMENT_FAILURE"
_BROKEN: Final = "ECS deployment circuit breaker: task failed to start."
_FAILURES: Final = (rollouts.FAILED_REASON, rollouts.ALARMED_REASON)
"""Of service deployments that are not rolled back."""
_SHORT_OF: Final = {
    "insufficient CPU units available": "RESOURCE:CPU",
    "insufficient memory available": "RESOURCE:MEMORY",
    "insufficient GPUs available": "RESOURCE:GPU",
    "is already using a port required by your task": "RESOURCE:PORTS",
    "is missing an attribute required by your task": "ATTRIBUTE",
    "No Container Instances were found in your cluster": "EMPTY CLUSTER",
    "Capacity is unavailable at this time": "RESOURCE:FARGATE",
}
_ENCOUNTERED: Final = re.compile(r'encountered error "([^"]{1,64})"')


class Action(NamedTuple):
    """What an event of a service is for EventBridge."""

    event_type: str
    name: str
    reason: str = ""


_STEADY: Final = re.compile(r" has reached a steady state\.")
_TASK_SET: Final = ", taskSet "
_PLAIN: Final[tuple[tuple[re.Pattern[str], Action], ...]] = (
    (_STEADY, Action(INFO, "SERVICE_STEADY_STATE")),
    (re.compile(r" has started \d+ tasks: "), Action(INFO, "TASKS_STARTED")),
    (re.compile(r" (has stopped \d+ running|stopped \d+ pending) tasks"), Action(INFO, "TASKS_STOPPED")),
    (
        re.compile(r" is unable to consistently start tasks successfully\."),
        Action(WARN, "SERVICE_TASK_START_IMPAIRED"),
    ),
)  # fmt: skip
_CANNOT_PLACE: Final = " was unable to place a task"
_CANNOT_LAUNCH: Final = " was unable to place a task. Reason: "


def action(message: str) -> Action | None:
    """Return what a service's event is; None for one that EventBridge does not have."""
    if _TASK_SET in message and _STEADY.search(message):
        return Action(INFO, "TASKSET_STEADY_STATE")
    for pattern, found in _PLAIN:
        if pattern.search(message):
            return found
    if _CANNOT_PLACE not in message:
        return None
    for text, reason in _SHORT_OF.items():
        if text in message:
            return Action(ERROR, PLACEMENT_FAILURE, reason)
    encountered = _ENCOUNTERED.search(message)
    if encountered is not None:
        return Action(ERROR, PLACEMENT_FAILURE, encountered[1])
    reason = message.partition(_CANNOT_LAUNCH)[2]
    return Action(ERROR, "SERVICE_TASK_CONFIGURATION_FAILURE", reason)


def actions(service_arn: str, cluster_arn: str, events: Iterable[EventRecord]) -> list[Draft]:
    """Return the drafts of events of a service, in their order."""
    found = []
    for event in events:
        told = action(event.message)
        if told is None:
            continue
        detail: dict[str, Any] = {
            "eventType": told.event_type,
            "eventName": told.name,
            "clusterArn": cluster_arn,
        }
        if told.reason:
            detail["reason"] = told.reason
        found.append(Draft(SERVICE, service_arn, event.at, detail | {"createdAt": iso(event.at)}))
    return found


def deployments(
    service_arn: str, known: Mapping[str, str], records: Iterable[RolloutRecord]
) -> list[Draft]:
    """Return the events of service deployments whose status is another one than was known.

    Args:
        service_arn: of their service.
        known: status by id, of those that were there before.
        records: as they are now, newest first.
    """
    found: list[Draft] = []
    for record in reversed(list(records)):
        before = known.get(record.id, "")
        if before != record.status:
            found += _steps(service_arn, before, record)
    return found


def _steps(service_arn: str, before: str, record: RolloutRecord) -> list[Draft]:
    """Return the event of each step from a status to that of a record; several may come at once."""
    own, at = record.deployment.id, record.updated_at
    back = f"ecs-svc/{record.rolled_back_to}"
    started = (
        []
        if before
        else [_step(service_arn, own, INFO, "IN_PROGRESS", wording.in_progress(own), at)]
    )
    why, turning = _BROKEN, wording.rolling_back_to(back)
    if record.reason == rollouts.ASKED_REASON:
        why, turning = wording.STOPPED_REASON, wording.going_back_to(back)
    elif record.reason in (rollouts.ALARM_REASON, rollouts.ALARMED_REASON):
        why, turning = wording.ALARM_REASON, wording.going_back_from_alarm(back)
    elif rollouts.was_ended_by_hook(record.reason):
        why, turning = record.reason, wording.goes_back_from_hook(record.reason, back)
    failed = _step(service_arn, own, ERROR, "FAILED", why, at)
    turned = [failed, _step(service_arn, back, INFO, "IN_PROGRESS", turning, at)]
    if before == rollouts.ROLLBACK_IN_PROGRESS:
        turned = []
    match record.status:
        case rollouts.SUCCESSFUL:
            return [
                *started,
                _step(service_arn, own, INFO, "COMPLETED", wording.completed(own), at),
            ]
        case rollouts.STOPPED if record.reason in _FAILURES or record.reason == why:
            return [*started, failed]
        case rollouts.ROLLBACK_IN_PROGRESS:
            return [*started, *turned]
        case rollouts.ROLLBACK_SUCCESSFUL:
            done = _step(service_arn, back, INFO, "COMPLETED", wording.completed(back), at)
            return [*started, *turned, done]
        case rollouts.ROLLBACK_FAILED:
            return [*started, *turned, _step(service_arn, back, ERROR, "FAILED", _BROKEN, at)]
        case _:
            return started


def _step(
    service_arn: str, deployment: str, event_type: str, name: str, reason: str, at: float
) -> Draft:
    detail = {
        "eventType": event_type,
        "eventName": f"SERVICE_DEPLOYMENT_{name}",
        "deploymentId": deployment,
        "updatedAt": iso(at),
        "reason": reason,
    }
    return Draft(DEPLOYMENT, service_arn, at, detail)
