"""Carries out the plan of a step: the record, the counted ends, the stops and the events together.

One transaction compares the service's record with what was planned from and every task with its newest
state. If anything has changed, nothing is done, and the caller plans again.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import TaskRecord
from agent.controlplane.services import connect, rollouts, target_ops, wording
from agent.controlplane.services.plan import Plan, Stop, Why
from agent.controlplane.services.record import (
    EVENT_LIMIT,
    EventRecord,
    EventsRecord,
    ServiceRecord,
)
from agent.controlplane.services.rollouts import RolloutsRecord
from agent.controlplane.store.contract import Compare, Delete, Op, Put, unchanged
from agent.controlplane.tasks.stopping import ordered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.access import Found
    from agent.controlplane.store.contract import Store


async def commit(store: Store, found: Found[ServiceRecord], plan: Plan, now: float) -> bool:
    """Carry out a plan, except for its starts; durable if it returns True.

    Args:
        store: where the service is.
        found: the service as it was planned from.
        plan: what to do.
        now: Unix seconds.

    Returns:
        False if something has changed since, so that nothing was done.

    Raises:
        StoreFailure: it may or may not have been done; planning again is safe.
    """
    service = plan.service
    traffic = plan.traffic
    moved = target_ops.task_ids(traffic) if traffic is not None else []
    keys = {
        task_id: records.task_key(service.cluster, task_id)
        for task_id in [*plan.counted, *(stop.task.id for stop in plan.stops), *moved]
    }
    tasks = await access.find_many(store, TaskRecord, keys.values())
    compares: list[Compare] = [unchanged(found.kv)]
    then: list[Op] = [Put(found.kv.key, records.encode(service))]
    for task_id in plan.counted:
        task = tasks.get(keys[task_id])
        if task is not None:
            compares.append(unchanged(task.kv))
            then.append(Put(task.kv.key, records.encode(replace(task.record, counted=True))))
    for stop in plan.stops:
        task = tasks.get(keys[stop.task.id])
        if task is None or task.record.desired_status == "STOPPED":
            return False
        compares.append(unchanged(task.kv))
        _, ops = await ordered(
            store, task.record, code=wording.STOP_CODE, reason=reason(service, stop), now=now
        )
        then += ops
    if traffic is not None:
        found_tasks = {task_id: tasks[key] for task_id, key in keys.items() if key in tasks}
        done = await target_ops.ops(
            store, traffic, found_tasks, lambda stop: reason(service, stop), now
        )
        if done is None:
            return False
        compares += done[0]
        then += done[1]
    shifted = target_ops.shift_ops(plan.shifts)
    compares += shifted[0]
    then += shifted[1]
    then += await event_ops(store, service, plan.events, now)
    then += await rollout_ops(store, found.record, service, now)
    return (await store.txn(compares, each_key_once(then), urgent=True)).succeeded


def each_key_once(ops: Sequence[Op]) -> list[Op]:
    """Return operations as a transaction takes them; what one of them deletes is not put by another.

    Tasks with one registry all touch it, and with the last of them the registry may go.
    """
    gone = {op.key for op in ops if isinstance(op, Delete)}
    return [op for op in dict.fromkeys(ops) if not isinstance(op, Put) or op.key not in gone]


def reason(service: ServiceRecord, stop: Stop) -> str:
    """Return the ``stoppedReason`` of a task that the service stops."""
    if stop.why is Why.UNHEALTHY:
        task = stop.task
        is_target = bool(task.unhealthy_in) and not task.fails_check
        return wording.balancer_reason(task.unhealthy_in) if is_target else wording.UNHEALTHY_REASON
    if stop.why is Why.LOST:
        return wording.lost_reason(stop.task.instance_id)
    return wording.scaling_reason(
        stop.task.started_by if service.is_external else service.primary.id
    )


async def rollout_ops(
    store: Store, before: ServiceRecord | None, service: ServiceRecord, now: float
) -> list[Op]:
    """Return what brings service deployments and names of Service Connect up to date with a change of a service.

    Only for a transaction that compares the service. ``before`` is None for a new service. A service with task
    sets has no service deployments.
    """
    if service.is_external:
        return []
    if before is not None and (before.deployments, before.status) == (
        service.deployments,
        service.status,
    ):
        return []
    then = connect.ops(before, service)
    key = records.service_rollouts_key(service.cluster, service.name)
    found = await access.find(store, RolloutsRecord, key)
    known = found.record if found is not None else RolloutsRecord()
    changed = rollouts.after(known, before, service, now)
    return then if changed is known else [*then, Put(key, records.encode(changed))]


async def event_ops(
    store: Store, service: ServiceRecord, messages: Sequence[str], now: float
) -> list[Op]:
    """Return what adds events to a service, oldest first; only for a transaction that compares it."""
    if not messages:
        return []
    key = records.service_events_key(service.cluster, service.name)
    known = await access.find(store, EventsRecord, key)
    new = [
        EventRecord(id=str(uuid.uuid4()), at=now, message=message) for message in reversed(messages)
    ]
    old = known.record.events if known is not None else []
    return [Put(key, records.encode(EventsRecord(events=[*new, *old][:EVENT_LIMIT])))]
