"""Starts the tasks of one run, with the code, the checks and the refusals of RunTask.

The tasks, and the schedule's record that says so, are one transaction that compares the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.controlplane import records
from agent.controlplane.api.ecs import task_orders
from agent.controlplane.front.errors import ApiError
from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.query import QueryError
from agent.controlplane.schedules import due
from agent.controlplane.store.contract import Put, unchanged
from agent.controlplane.tasks import launch, waiting

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from agent.controlplane.parts import Parts
    from agent.controlplane.records import TaskRecord
    from agent.controlplane.scheduler.fleet import FleetHost
    from agent.controlplane.schedules.record import ScheduleRecord, TargetRecord
    from agent.controlplane.store.contract import KeyValue
    from agent.controlplane.tasks.launch import TaskRequest


class Outcome(NamedTuple):
    """How a try went."""

    record: ScheduleRecord | None
    """As it is now; None if something has changed, so that nothing was done."""
    started: int = 0
    problem: str = ""
    """Why not all tasks have started; empty if they have."""


class _Placed(NamedTuple):
    tasks: list[TaskRecord]
    order: TaskRequest | None = None
    hosts: Mapping[str, FleetHost] = {}
    problem: str = ""


async def attempt(
    parts: Parts,
    kv: KeyValue,
    record: ScheduleRecord,
    target: TargetRecord,
    rng: random.Random,
) -> Outcome:
    """Start what is left of a target's run; durable on return.

    Args:
        parts: the store and what is known of hosts.
        kv: the record as it was read.
        record: as it is to be, with the run.
        target: one of its targets.
        rng: chooses among equal hosts.

    Raises:
        StoreFailure: it may or may not have been done; looking at the record again is safe.
    """
    now = parts.clock()
    left = record.runs[target.id].left
    try:
        placed = await _place(parts, record, target, left, rng, now)
    except (ApiError, placement.PlacementError, QueryError) as error:
        placed = _Placed([], problem=str(error))
    changed = due.tried(record, target.id, started=len(placed.tasks), now=now)
    compares, then = [unchanged(kv)], [Put(kv.key, records.encode(changed))]
    if placed.order is not None and placed.tasks:
        done = await launch.commit(
            parts.store,
            parts.names,
            placed.order,
            placed.tasks,
            placed.hosts,
            compares=compares,
            also=then,
        )
    else:
        done = (await parts.store.txn(compares, then)).succeeded
    if not done:
        return Outcome(None)
    return Outcome(changed, len(placed.tasks), placed.problem)


async def _place(
    parts: Parts,
    record: ScheduleRecord,
    target: TargetRecord,
    count: int,
    rng: random.Random,
    now: float,
) -> _Placed:
    request = {**target.request, "count": count, "startedBy": record.started_by}
    order = await task_orders.read_order(parts, request)
    constraints = task_orders.constraints(order, request.get("placementConstraints", ()))
    strategies = placement.parse_strategies(request.get("placementStrategy", ()))
    needs = launch.needs(order, task_orders.required_attributes(order))
    may_wait = await waiting.MayWait.of(parts.store, parts.fleet, parts.names, order)
    places = await parts.fleet.places(order.cluster, borrows=order.capacity.is_fargate)
    wanted = order.capacity.hosts_for(count)
    try:
        found, hosts = places.choose(
            needs,
            count,
            constraints=constraints,
            strategies=strategies,
            providers=wanted,
            rng=rng,
        )
    except placement.PlacementError:
        if not may_wait.any_of(wanted):
            raise
        found, hosts = placement.PlacementOutcome(), {}
    tasks = [
        launch.place_task(
            order,
            needs,
            one,
            hosts[one.instance_arn],
            provider=one.provider,
            names=parts.names,
            now=now,
        )
        for one in found.placed
    ]
    missing = waiting.unplaced(wanted, found.placed)
    tasks += may_wait.new_tasks(order, needs, missing, placement=request, now=now)
    problem = ""
    if len(tasks) < count:
        reasons = sorted({refused.reason for refused in found.refused})
        problem = f"{count - len(tasks)} of {count} tasks found no room ({', '.join(reasons)})"
    return _Placed(tasks, order, hosts, problem)
