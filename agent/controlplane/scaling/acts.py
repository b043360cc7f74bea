"""Carries out what autoscaling decided: the desired count, the target and the activity in one transaction."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.target import ActivitiesRecord, Activity
from agent.controlplane.services.record import ACTIVE
from agent.controlplane.services.record import IN_PROGRESS as ROLLING
from agent.controlplane.store.contract import Delete, Put, as_read, unchanged

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.scaling.target import ScalableTarget
    from agent.controlplane.services.record import ServiceRecord
    from agent.controlplane.store.contract import KeyValue, Op, Store

_APART_S: Final = 0.001
"""Between the times of two activities of one transaction."""


def belongs(target: ScalableTarget, service: ServiceRecord) -> bool:
    """Return whether a target is of this service, and not of a deleted one with its name. Pure."""
    return service.status == ACTIVE and service.created_at <= target.created_at


def is_deploying(service: ServiceRecord) -> bool:
    """Return whether a deployment of the service goes on. Pure."""
    return service.primary.rollout_state == ROLLING


def activity(cause: str, wanted: int, now: float) -> Activity:
    """Return the activity of a new desired count, which is still to be fulfilled."""
    return Activity(
        id=str(uuid.uuid4()),
        description=f"Setting desired count to {wanted}.",
        cause=cause,
        at=now,
        wanted=wanted,
        status=kinds.IN_PROGRESS,
        message=f"Successfully set desired count to {wanted}. "
        "Waiting for change to be fulfilled by ecs.",
    )


def limits_activity(cause: str, limits: tuple[int, int], now: float) -> Activity:
    """Return the activity of limits of a scheduled action; it failed if the least is above the most."""
    low, high = limits
    made = Activity(
        id=str(uuid.uuid4()),
        description=f"Setting min capacity to {low} and max capacity to {high}",
        cause=cause,
        at=now,
        ended_at=now,
        message=f"Successfully set min capacity to {low} and max capacity to {high}",
    )
    if low <= high:
        return made
    why = f"Maximum capacity ({high}) cannot be less than minimum capacity ({low})"
    return replace(made, status=kinds.FAILED, message=why)


def not_scaled(cause: str, current: int, code: str, now: float) -> Activity:
    """Return the activity of a change that the limits of the target do not allow."""
    return Activity(
        id=str(uuid.uuid4()),
        description="Attempting to scale due to alarm triggered",
        cause=cause,
        at=now,
        ended_at=now,
        status=kinds.FAILED,
        not_scaled=code,
        current=current,
    )


async def commit(
    store: Store,
    service: Found[ServiceRecord],
    before: KeyValue | None,
    target: ScalableTarget,
    *,
    desired: int,
    activities: list[Activity],
    now: float,
) -> bool:
    """Write a target, the desired count of its service and new activities; durable if it returns True.

    Args:
        store: where they are.
        service: the service as it was decided on.
        before: the target as it was decided on; None for a new one.
        target: the target as it is to be.
        desired: the desired count of the service.
        activities: new ones, newest first.
        now: Unix seconds.

    Returns:
        False if something has changed since, so that nothing was done.

    Raises:
        StoreFailure: it may or may not have been done; deciding again is safe.
    """
    compares = [unchanged(service.kv), as_read(target.key, before)]
    then: list[Op] = []
    if desired != service.record.desired_count:
        target = replace(target, is_pending=True)
        changed = replace(service.record, desired_count=desired)
        then.append(Put(service.kv.key, records.encode(changed)))
    then.append(Put(target.key, records.encode(target)))
    if activities:
        key = kinds.activities_key(target.cluster, target.service)
        known = await access.find(store, ActivitiesRecord, key)
        old = known.record.activities if known is not None else []
        then.append(Put(key, records.encode(_with(old, activities, now))))
        compares.append(as_read(key, known.kv if known is not None else None))
    return (await store.txn(compares, then)).succeeded


async def forget(store: Store, found: Found[ScalableTarget]) -> bool:
    """Delete a target with what it has and did; False if it has changed since, so that nothing was done."""
    target = found.record
    activities = kinds.activities_key(target.cluster, target.service)
    then = [Delete(found.kv.key), Delete(activities)]
    return (await store.txn([unchanged(found.kv)], then)).succeeded


def _with(old: list[Activity], new: list[Activity], now: float) -> ActivitiesRecord:
    # Lists are by time, so what happens at once is told as one after the other.
    new = [replace(one, at=one.at - place * _APART_S) for place, one in enumerate(new)]
    if any(one.status == kinds.IN_PROGRESS for one in new):
        old = [_ended(one, kinds.OVERRIDDEN, now) for one in old]
    kept = [
        one
        for one in [*new, *old][: kinds.ACTIVITIES_KEPT]
        if one.at > now - kinds.ACTIVITIES_KEPT_S
    ]
    return ActivitiesRecord(activities=kept)


def _ended(one: Activity, status: str, now: float) -> Activity:
    if one.status != kinds.IN_PROGRESS:
        return one
    message = f"Successfully set desired count to {one.wanted}."
    if status == kinds.SUCCESSFUL:
        message += " Change successfully fulfilled by ecs."
    return replace(one, status=status, message=message, ended_at=now)


def fulfilled(
    known: ActivitiesRecord, service: ServiceRecord, running: int, now: float
) -> ActivitiesRecord:
    """Return activities, with an end for those that the service has fulfilled or a newer count replaced. Pure.

    Args:
        known: the activities.
        service: the service.
        running: how many of its tasks run.
        now: Unix seconds.
    """
    ended = []
    for one in known.activities:
        if one.wanted != service.desired_count:
            ended.append(_ended(one, kinds.OVERRIDDEN, now))
        elif running == one.wanted:
            ended.append(_ended(one, kinds.SUCCESSFUL, now))
        else:
            ended.append(one)
    return known if ended == known.activities else ActivitiesRecord(activities=ended)
