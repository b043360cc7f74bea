"""PutScheduledAction, DeleteScheduledAction, DescribeScheduledActions."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane.api.autoscaling import listing, naming, targets
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
    from collections.abc import Mapping

    from agent.controlplane.api.autoscaling.listing import Listed
    from agent.controlplane.parts import Handlers, Parts


async def put(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a scheduled action, or change the one of that name; what is left out stays."""
    where = naming.resource(request)
    name = naming.new_name(request, "ScheduledActionName")
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
    found, token = await listing.page(
        parts,
        "DescribeScheduledActions",
        request,
        names="ScheduledActionNames",
        items=lambda target: target.actions,
    )
    return {"ScheduledActions": [_shown(parts, one) for one in found], "NextToken": token}


def _shown(parts: Parts, one: Listed[ScheduledAction]) -> dict[str, Any]:
    target, action = one.target, one.item
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
