"""PutScalingPolicy, DeleteScalingPolicy, DescribeScalingPolicies."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.structs import replace

from agent.controlplane import access
from agent.controlplane.api import name_pages
from agent.controlplane.api.autoscaling import naming, targets
from agent.controlplane.api.autoscaling.errors import (
    LimitExceededException,
    ObjectNotFoundException,
    ValidationException,
)
from agent.controlplane.api.autoscaling.policy_rules import CONFIGURATIONS, configuration
from agent.controlplane.scaling.alarm import ALARMS, AlarmRecord
from agent.controlplane.scaling.target import (
    DIMENSION,
    NAMESPACE,
    POLICIES_MOST,
    STEPS,
    TRACKING,
    Policy,
    ScalableTarget,
    policy_arn,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.controlplane.parts import Handlers, Parts

_NAME: Final = re.compile(r"[^\x00-\x1f|/:]+")


class _Listed(NamedTuple):
    """A policy as lists have it."""

    name: str
    target: ScalableTarget
    policy: Policy


async def put(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a policy, or change the one of that name; the same call again changes nothing."""
    where = naming.resource(request)
    name: str = request["PolicyName"]
    if not _NAME.fullmatch(name):
        raise ValidationException("PolicyName must not contain |, /, : and control characters")
    now, fresh = parts.clock(), str(uuid.uuid4())

    def changed(target: ScalableTarget) -> ScalableTarget:
        old = target.policy(name)
        kind = request.get("PolicyType") or (old.type if old is not None else STEPS)
        if old is not None and kind != old.type:
            raise ValidationException(
                f"The policy {name} has the type {old.type}; delete it to make one of type {kind}"
            )
        given = configuration(kind, request, where=where)
        if old is None and len(target.policies) >= POLICIES_MOST:
            raise LimitExceededException(
                f"A scalable target can have at most {POLICIES_MOST} policies"
            )
        policy = (
            replace(old, configuration=given)
            if old is not None
            else _new(target, name, kind, given, fresh, now)
        )
        others = [one for one in target.policies if one.name != name]
        # What the alarms of another configuration have told says nothing of this one.
        told = target.unscaled if old == policy else ""
        return replace(
            target, policies=sorted([*others, policy], key=lambda one: one.name), unscaled=told
        )

    target = await targets.change(parts, where, changed)
    policy = target.policy(name)
    assert policy is not None  # noqa: S101 - it was put there
    return {
        "PolicyARN": policy_arn(parts.names, target, policy),
        "Alarms": await _alarms(parts, target, policy),
    }


def _new(
    target: ScalableTarget, name: str, kind: str, given: dict[str, Any], fresh: str, now: float
) -> Policy:
    alarm = f"TargetTracking-{target.resource_id}-Alarm{{}}-{fresh}"
    is_tracking = kind == TRACKING
    return Policy(
        name=name,
        id=fresh,
        type=kind,
        configuration=given,
        created_at=now,
        high_alarm=alarm.format("High") if is_tracking else "",
        low_alarm=alarm.format("Low") if is_tracking else "",
    )


async def _alarms(parts: Parts, target: ScalableTarget, policy: Policy) -> list[dict[str, str]]:
    if policy.type == STEPS:
        arn = policy_arn(parts.names, target, policy)
        known = access.scan(parts.store, AlarmRecord, ALARMS)
        names = [one.name async for _, one in known if arn in one.actions]
    else:
        names = [policy.high_alarm, *([policy.low_alarm] if policy.may_scale_in else [])]
    return [
        {"AlarmName": name, "AlarmARN": naming.alarm_arn(parts.names, name)}
        for name in names
        if name
    ]


async def delete(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a policy."""
    where = naming.resource(request)
    name: str = request["PolicyName"]

    def changed(target: ScalableTarget) -> ScalableTarget:
        if target.policy(name) is None:
            raise ObjectNotFoundException(
                f"No scaling policy found for service namespace: {NAMESPACE}, resource ID: "
                f"{target.resource_id}, scalable dimension: {DIMENSION}: {name}"
            )
        return replace(target, policies=[one for one in target.policies if one.name != name])

    await targets.change(parts, where, changed)
    return {}


async def describe(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe policies by their target and name, in pages."""
    naming.check_kind(request)
    names, resource = request.get("PolicyNames"), request.get("ResourceId")

    def is_wanted(one: _Listed) -> bool:
        return (not names or one.policy.name in names) and (
            resource is None or one.target.resource_id == resource
        )

    found, token = await name_pages.page(
        "DescribeScalingPolicies",
        request,
        filters=("PolicyNames", "ResourceId", "ScalableDimension"),
        size=targets.page_size(request),
        every=lambda after: _every(parts, after),
        is_wanted=is_wanted,
    )
    return {"ScalingPolicies": [await _shown(parts, one) for one in found], "NextToken": token}


async def _every(parts: Parts, after: str) -> AsyncIterator[_Listed]:
    """Yield all policies; the target of ``after`` may have more behind it."""
    last_target, _, last_policy = after.partition("|")
    async for target in targets.every(parts, ""):
        for policy in target.policies:
            if (target.name, policy.name) > (last_target, last_policy):
                yield _Listed(f"{target.name}|{policy.name}", target, policy)


async def _shown(parts: Parts, one: _Listed) -> dict[str, Any]:
    target, policy = one.target, one.policy
    return {
        "PolicyARN": policy_arn(parts.names, target, policy),
        "PolicyName": policy.name,
        "ServiceNamespace": NAMESPACE,
        "ResourceId": target.resource_id,
        "ScalableDimension": DIMENSION,
        "PolicyType": policy.type,
        CONFIGURATIONS[policy.type]: policy.configuration,
        "Alarms": await _alarms(parts, target, policy),
        "CreationTime": policy.created_at,
    }


HANDLERS: Handlers = {
    "PutScalingPolicy": put,
    "DeleteScalingPolicy": delete,
    "DescribeScalingPolicies": describe,
}
