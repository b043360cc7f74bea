"""PutScheduledAction, DeleteScheduledAction, DescribeScheduledActions."""

from __future__ import annotations

import asyncio
import math
import re
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.structs import replace

from agent.controlplane.api import name_pages
from agent.controlplane.api.autoscaling import naming, targets
from agent.controlplane.api.autoscaling.errors import (
    LimitExceededException,
    ObjectNotFoundException,
    ValidationException,
)
from agent.controlplane.scaling import scheduled
from agent.controlplane.scaling.target import (
    ACTIONS_MOST,
    CAPACITY_MOST,
    DIMENSION,
    NAMESPACE,
    UTC,
    ScalableTarget,
    ScheduledAction,
)
from agent.controlplane.schedules import expressions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.controlplane.parts import Handlers, Parts

_NAME: Final = re.compile(r"[^\x00-\x1f|/:]+")


class _Listed(NamedTuple):
    """A scheduled action as lists have it."""

    name: str
    target: ScalableTarget
    action: ScheduledAction


async def put(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a scheduled action, or change the one of that name; what is left out stays."""
    where = naming.resource(request)
    name: str = request["ScheduledActionName"]
    if not _NAME.fullmatch(name):
        raise ValidationException(
            "ScheduledActionName must not contain |, /, : and control characters"
        )
    now, fresh = parts.clock(), str(uuid.uuid4())
    before = (await targets.known(parts, where)).record.action(name)
    zone = request.get("Timezone") or (before.zone if before is not None else UTC)
    await asyncio.to_thread(_check_zone, zone)  # its file is read at first

    def changed(target: ScalableTarget) -> ScalableTarget:
        old = target.action(name)
        if old is None and len(target.actions) >= ACTIONS_MOST:
            raise LimitExceededException(
                f"A scalable target can have at most {ACTIONS_MOST} scheduled actions"
            )
        action = _action(old or _new(name, fresh, request, now), request, now)
        others = [one for one in target.actions if one.name != name]
        return replace(target, actions=sorted([*others, action], key=lambda one: one.name))

    await targets.change(parts, where, changed)
    return {}


def _new(name: str, fresh: str, request: Mapping[str, Any], now: float) -> ScheduledAction:
    for member in ("Schedule", "ScalableTargetAction"):
        if not request.get(member):
            raise ValidationException(f"{member} is required for a new scheduled action")
    return ScheduledAction(name=name, id=fresh, schedule="", created_at=now)


def _action(old: ScheduledAction, request: Mapping[str, Any], now: float) -> ScheduledAction:
    limits: Mapping[str, int] = request.get("ScalableTargetAction") or {}
    if request.get("ScalableTargetAction") is not None and not limits:
        raise ValidationException("ScalableTargetAction needs MinCapacity or MaxCapacity")
    if any(not 0 <= value <= CAPACITY_MOST for value in limits.values()):
        raise ValidationException(
            f"MinCapacity and MaxCapacity must be between 0 and {CAPACITY_MOST}"
        )
    action = replace(
        old,
        schedule=request.get("Schedule") or old.schedule,
        zone=request.get("Timezone") or old.zone,
        start_at=float(request.get("StartTime", old.start_at)),
        end_at=float(request.get("EndTime", old.end_at)),
        min_capacity=limits.get("MinCapacity") if limits else old.min_capacity,
        max_capacity=limits.get("MaxCapacity") if limits else old.max_capacity,
    )
    low, high = action.min_capacity, action.max_capacity
    if low is not None and high is not None and high < low:
        raise ValidationException(
            f"Maximum capacity ({high}) cannot be less than minimum capacity ({low})"
        )
    if action.end_at and action.end_at <= action.start_at:
        raise ValidationException("EndTime must be later than StartTime")
    return action if action == old else _timed(old, action, now)


def _timed(old: ScheduledAction, action: ScheduledAction, now: float) -> ScheduledAction:
    """Return a changed action; new times count from now, and with the old ones a time that is due stays so."""
    if _times(action) != _times(old):
        action = replace(action, done_at=now)
    try:
        due = scheduled.next_time(action, action.done_at)
    except expressions.ExpressionInvalid as error:
        raise ValidationException(f"Schedule: {error}") from None
    if due == math.inf:
        raise ValidationException("The scheduled action would never be due: all its times are past")
    return action


def _times(action: ScheduledAction) -> tuple[str, str, float, float]:
    return action.schedule, action.zone, action.start_at, action.end_at


def _check_zone(name: str) -> None:
    try:
        expressions.zone(name)
    except expressions.ExpressionInvalid as error:
        raise ValidationException(f"Timezone: {error}") from None


async def delete(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a scheduled action; the limits that it has set stay."""
    where = naming.resource(request)
    name: str = request["ScheduledActionName"]

    def changed(target: ScalableTarget) -> ScalableTarget:
        if target.action(name) is None:
            raise ObjectNotFoundException(
                f"No scheduled action found for service namespace: {NAMESPACE}, resource ID: "
                f"{target.resource_id}, scalable dimension: {DIMENSION}: {name}"
            )
        return replace(target, actions=[one for one in target.actions if one.name != name])

    await targets.change(parts, where, changed)
    return {}


async def describe(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe scheduled actions by their target and name, in pages."""
    naming.check_kind(request)
    names, resource = request.get("ScheduledActionNames"), request.get("ResourceId")

    def is_wanted(one: _Listed) -> bool:
        return (not names or one.action.name in names) and (
            resource is None or one.target.resource_id == resource
        )

    found, token = await name_pages.page(
        "DescribeScheduledActions",
        request,
        filters=("ScheduledActionNames", "ResourceId", "ScalableDimension"),
        size=targets.page_size(request),
        every=lambda after: _every(parts, after),
        is_wanted=is_wanted,
    )
    return {"ScheduledActions": [_shown(parts, one) for one in found], "NextToken": token}


async def _every(parts: Parts, after: str) -> AsyncIterator[_Listed]:
    """Yield all actions; the target of ``after`` may have more behind it."""
    last_target, _, last_action = after.partition("|")
    async for target in targets.every(parts, ""):
        for action in target.actions:
            if (target.name, action.name) > (last_target, last_action):
                yield _Listed(f"{target.name}|{action.name}", target, action)


def _shown(parts: Parts, one: _Listed) -> dict[str, Any]:
    target, action = one.target, one.action
    names = parts.names
    return {
        "ScheduledActionName": action.name,
        "ScheduledActionARN": (
            f"arn:{names.partition}:autoscaling:{names.region}:{names.account}:scheduledAction:"
            f"{action.id}:resource/{NAMESPACE}/{target.resource_id}:scheduledActionName/{action.name}"
        ),
        "ServiceNamespace": NAMESPACE,
        "Schedule": action.schedule,
        "Timezone": action.zone,
        "ResourceId": target.resource_id,
        "ScalableDimension": DIMENSION,
        "StartTime": action.start_at or None,
        "EndTime": action.end_at or None,
        "ScalableTargetAction": {
            "MinCapacity": action.min_capacity,
            "MaxCapacity": action.max_capacity,
        },
        "CreationTime": action.created_at,
    }


HANDLERS: Handlers = {
    "PutScheduledAction": put,
    "DeleteScheduledAction": delete,
    "DescribeScheduledActions": describe,
}
