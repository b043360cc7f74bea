"""PutScalingPolicy, DeleteScalingPolicy, DescribeScalingPolicies."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access
from agent.controlplane.api.autoscaling import listing, naming, targets
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
    from collections.abc import Iterable, Mapping, Sequence

    from agent.controlplane.api.autoscaling.listing import Listed
    from agent.controlplane.parts import Handlers, Parts


async def put(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a policy, or change the one of that name; the same call again changes nothing."""
    where = naming.resource(request)
    name = naming.new_name(request, "PolicyName")
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
        "Alarms": _alarms(parts, target, policy, await _alarms_by_action(parts, [policy])),
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


async def _alarms_by_action(parts: Parts, policies: Iterable[Policy]) -> dict[str, list[str]]:
    """Return the names of alarms by the ARNs of the policies that they start.

    Reads alarms once, and only if one of the policies is of the type that they start.
    """
    found: dict[str, list[str]] = {}
    if any(policy.type == STEPS for policy in policies):
        async for _, alarm in access.scan(parts.store, AlarmRecord, ALARMS):
            for arn in alarm.actions:
                found.setdefault(arn, []).append(alarm.name)
    return found


def _alarms(
    parts: Parts, target: ScalableTarget, policy: Policy, by_action: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    if policy.type == STEPS:
        names = by_action.get(policy_arn(parts.names, target, policy), ())
    else:
        names = [policy.high_alarm, *([policy.low_alarm] if policy.may_scale_in else [])]
    return [{"AlarmName": name, "AlarmARN": parts.names.alarm(name)} for name in names if name]


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
    found, token = await listing.page(
        parts,
        "DescribeScalingPolicies",
        request,
        names="PolicyNames",
        items=lambda target: target.policies,
    )
    alarms = await _alarms_by_action(parts, (one.item for one in found))
    return {"ScalingPolicies": [_shown(parts, one, alarms) for one in found], "NextToken": token}


def _shown(
    parts: Parts, one: Listed[Policy], by_action: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    target, policy = one.target, one.item
    return {
        "PolicyARN": policy_arn(parts.names, target, policy),
        "PolicyName": policy.name,
        "ServiceNamespace": NAMESPACE,
        "ResourceId": target.resource_id,
        "ScalableDimension": DIMENSION,
        "PolicyType": policy.type,
        CONFIGURATIONS[policy.type]: policy.configuration,
        "Alarms": _alarms(parts, target, policy, by_action),
        "CreationTime": policy.created_at,
    }


HANDLERS: Handlers = {
    "PutScalingPolicy": put,
    "DeleteScalingPolicy": delete,
    "DescribeScalingPolicies": describe,
}
