"""DescribeScalingActivities: what autoscaling did, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane import access
from agent.controlplane.api.autoscaling import naming, targets
from agent.controlplane.api.autoscaling.errors import ValidationException
from agent.controlplane.front import pages
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.target import (
    DIMENSION,
    NAMESPACE,
    ActivitiesRecord,
    Activity,
    ScalableTarget,
)

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts

_OPERATION = "DescribeScalingActivities"
_FILTERS = ("ResourceId", "ScalableDimension", "IncludeNotScaledActivities")


async def describe(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe the activities of the last six weeks, of one service or of all, in pages."""
    naming.check_kind(request)
    if "ScalableDimension" in request and "ResourceId" not in request:
        raise ValidationException("ScalableDimension is only valid together with ResourceId")
    size = targets.page_size(request)
    asked = {name: request[name] for name in _FILTERS if name in request}
    last = pages.start_after(_OPERATION, asked | {"nextToken": request.get("NextToken")})
    with_others = request.get("IncludeNotScaledActivities", False)
    known = [
        (target, one)
        for target, one in await _all(parts, request.get("ResourceId"))
        if with_others or not one.not_scaled
    ]
    if last is not None:
        # Of an activity that is gone by now, the time tells where the page begins.
        known = [each for each in known if _order(each) > last]
    shown = [_shown(target, one) for target, one in known[:size]]
    more = pages.token(_OPERATION, asked, _order(known[size - 1])) if len(known) > size else None
    return {"ScalingActivities": shown, "NextToken": more}


async def _all(parts: Parts, resource: str | None) -> list[tuple[ScalableTarget, Activity]]:
    found: list[tuple[ScalableTarget, Activity]] = []
    async for target in targets.of(parts, resource):
        key = kinds.activities_key(target.cluster, target.service)
        known = await access.find(parts.store, ActivitiesRecord, key)
        if known is not None:
            found += [(target, one) for one in known.record.activities]
    return sorted(found, key=_order)


def _order(each: tuple[ScalableTarget, Activity]) -> str:
    """Return what sorts activities, the newest first."""
    _, one = each
    return f"{10**17 - int(one.at * 1_000_000):018d} {one.id}"


def _shown(target: ScalableTarget, one: Activity) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ActivityId": one.id,
        "ServiceNamespace": NAMESPACE,
        "ResourceId": target.resource_id,
        "ScalableDimension": DIMENSION,
        "Description": one.description,
        "Cause": one.cause,
        "StartTime": one.at,
        "EndTime": one.ended_at or None,
        "StatusCode": one.status,
        "StatusMessage": one.message or None,
    }
    if one.not_scaled:
        limit = "MaxCapacity" if "Max" in one.not_scaled else "MinCapacity"
        reason = {"Code": one.not_scaled, limit: one.current, "CurrentCapacity": one.current}
        shown["NotScaledReasons"] = [reason]
    return shown


HANDLERS: Handlers = {"DescribeScalingActivities": describe}
