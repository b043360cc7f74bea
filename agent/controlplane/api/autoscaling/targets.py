"""RegisterScalableTarget, DeregisterScalableTarget, DescribeScalableTargets."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api import name_pages
from agent.controlplane.api.autoscaling import naming
from agent.controlplane.api.autoscaling.errors import ObjectNotFoundException, ValidationException
from agent.controlplane.api.autoscaling.tags import checked_tags
from agent.controlplane.scaling import acts
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.target import DIMENSION, NAMESPACE, ScalableTarget, Suspended
from agent.controlplane.services.record import ACTIVE, ServiceRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.api.autoscaling.naming import Resource
    from agent.controlplane.parts import Handlers, Parts

DESCRIBE_MOST = 50


async def register(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a service scalable, or change its limits; the same call again changes nothing.

    A desired count beyond the limits is moved to the nearest one at once.
    """
    where = naming.resource(request)
    tries = access.ConflictRetries(f"scalable target {request['ResourceId'][:255]}")
    while True:
        service = await _service(parts, where)
        found = await find(parts, where)
        if found is not None and not acts.belongs(found.record, service.record):
            await acts.forget(parts.store, found)
            continue
        before = found.record if found is not None else None
        target = _registered(before, where, request, parts.clock())
        if await _write(parts, service, found, target):
            return {"ScalableTargetARN": naming.target_arn(parts.names, target)}
        await tries.again()


def _registered(
    before: ScalableTarget | None, where: Resource, request: Mapping[str, Any], now: float
) -> ScalableTarget:
    low, high = request.get("MinCapacity"), request.get("MaxCapacity")
    if before is None:
        if low is None or high is None:
            raise ValidationException(
                "MinCapacity and MaxCapacity are required to register a new scalable target"
            )
        before = ScalableTarget(
            cluster=where.cluster,
            service=where.service,
            id=f"0ec5{secrets.token_hex(16)}",
            min_capacity=low,
            max_capacity=high,
            created_at=now,
        )
    given = request.get("SuspendedState")
    target = replace(
        before,
        min_capacity=before.min_capacity if low is None else low,
        max_capacity=before.max_capacity if high is None else high,
        suspended=before.suspended if given is None else _suspended(given, before.suspended),
        tags=before.tags | checked_tags(before.tags, request.get("Tags") or {}),
    )
    check_limits(target.min_capacity, target.max_capacity)
    return target


def check_limits(low: int, high: int) -> None:
    """Refuse limits that no service can have; raises ``ValidationException``."""
    if not 0 <= low <= kinds.CAPACITY_MOST or not 0 <= high <= kinds.CAPACITY_MOST:
        raise ValidationException(
            f"MinCapacity and MaxCapacity must be between 0 and {kinds.CAPACITY_MOST}"
        )
    if high < low:
        raise ValidationException(
            f"Maximum capacity ({high}) cannot be less than minimum capacity ({low})"
        )


def _suspended(given: Mapping[str, bool], old: Suspended) -> Suspended:
    return Suspended(
        scaling_in=given.get("DynamicScalingInSuspended", old.scaling_in),
        scaling_out=given.get("DynamicScalingOutSuspended", old.scaling_out),
        scheduled=given.get("ScheduledScalingSuspended", old.scheduled),
    )


async def _service(parts: Parts, where: Resource) -> Found[ServiceRecord]:
    found = await access.find(
        parts.store, ServiceRecord, records.service_key(where.cluster, where.service)
    )
    if found is None or found.record.status != ACTIVE:
        raise ValidationException(
            f"ECS service doesn't exist: service/{where.cluster}/{where.service}"
        )
    if found.record.is_daemon:
        raise ValidationException(
            "The daemon scheduling strategy does not support a desired count for services: "
            f"service/{where.cluster}/{where.service}"
        )
    return found


async def _write(
    parts: Parts,
    service: Found[ServiceRecord],
    found: Found[ScalableTarget] | None,
    target: ScalableTarget,
) -> bool:
    now, old = parts.clock(), service.record.desired_count
    desired = target.within(old)
    activities = []
    if desired != old:
        side, limit = (
            ("minimum", target.min_capacity)
            if desired > old
            else (
                "maximum",
                target.max_capacity,
            )
        )
        activities = [acts.activity(f"{side} capacity was set to {limit}", desired, now)]
    elif found is not None and found.record == target:
        return True
    before = found.kv if found is not None else None
    return await acts.commit(
        parts.store, service, before, target, desired=desired, activities=activities, now=now
    )


async def deregister(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Forget a target with its policies, scheduled actions and activities."""
    where = naming.resource(request)
    tries = access.ConflictRetries(f"scalable target {request['ResourceId'][:255]}")
    while not await acts.forget(parts.store, await known(parts, where)):
        await tries.again()
    return {}


async def find(parts: Parts, where: Resource) -> Found[ScalableTarget] | None:
    """Return the target of a service; None if there is none."""
    return await access.find(parts.store, ScalableTarget, kinds.target_key(*where))


async def known(parts: Parts, where: Resource) -> Found[ScalableTarget]:
    """Return the target of a service; raises ``ObjectNotFoundException``."""
    found = await find(parts, where)
    if found is None:
        raise ObjectNotFoundException(
            f"No scalable target registered for service namespace: {NAMESPACE}, resource ID: "
            f"service/{where.cluster}/{where.service}, scalable dimension: {DIMENSION}"
        )
    return found


async def change(
    parts: Parts, where: Resource, decide: Callable[[ScalableTarget], ScalableTarget]
) -> ScalableTarget:
    """Change the target of a service; ``decide`` is pure and may be called more than once.

    Raises:
        ObjectNotFoundException: there is none.
    """
    key = kinds.target_key(*where)
    while True:
        await known(parts, where)
        changed = await access.change(parts.store, ScalableTarget, key, decide)
        if changed is not None:
            return changed


async def every(parts: Parts, after: str) -> AsyncIterator[ScalableTarget]:
    """Yield all targets by name, after a name; empty for all."""
    start = f"{kinds.TARGETS}{after}" if after else None
    async for found in access.scan(parts.store, ScalableTarget, kinds.TARGETS, start_after=start):
        yield found.record


async def of(
    parts: Parts, resource: str | None, *, first: str = ""
) -> AsyncIterator[ScalableTarget]:
    """Yield the target of a resource id, or without one all targets by name, from a name on."""
    name = first if resource is None else resource.removeprefix("service/")
    found = await access.find(parts.store, ScalableTarget, f"{kinds.TARGETS}{name}")
    if found is not None and resource in (None, found.record.resource_id):
        yield found.record
    if resource is None:
        async for target in every(parts, first):
            yield target


def page_size(request: Mapping[str, Any]) -> int:
    """Return ``MaxResults``; raises ``ValidationException``."""
    size: int = request.get("MaxResults", DESCRIBE_MOST)
    if not 1 <= size <= DESCRIBE_MOST:
        raise ValidationException(f"MaxResults must be between 1 and {DESCRIBE_MOST}")
    return size


async def describe(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe targets by name, in pages."""
    naming.check_kind(request)
    asked = request.get("ResourceIds")
    if asked is not None and len(asked) > DESCRIBE_MOST:
        raise ValidationException(f"ResourceIds can have at most {DESCRIBE_MOST} items")
    wanted = frozenset(asked) if asked else None
    found, token = await name_pages.page(
        "DescribeScalableTargets",
        request,
        filters=("ResourceIds", "ScalableDimension"),
        size=page_size(request),
        every=lambda after: every(parts, after),
        is_wanted=lambda one: wanted is None or one.resource_id in wanted,
        place=lambda one: one.name,
    )
    return {"ScalableTargets": [_shown(parts, one) for one in found], "NextToken": token}


def _shown(parts: Parts, target: ScalableTarget) -> dict[str, Any]:
    return {
        "ServiceNamespace": NAMESPACE,
        "ResourceId": target.resource_id,
        "ScalableDimension": DIMENSION,
        "MinCapacity": target.min_capacity,
        "MaxCapacity": target.max_capacity,
        "RoleARN": naming.role_arn(parts.names),
        "CreationTime": target.created_at,
        "SuspendedState": {
            "DynamicScalingInSuspended": target.suspended.scaling_in,
            "DynamicScalingOutSuspended": target.suspended.scaling_out,
            "ScheduledScalingSuspended": target.suspended.scheduled,
        },
        "ScalableTargetARN": naming.target_arn(parts.names, target),
    }


HANDLERS: Handlers = {
    "RegisterScalableTarget": register,
    "DeregisterScalableTarget": deregister,
    "DescribeScalableTargets": describe,
}
