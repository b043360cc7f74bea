"""RunTask, StartTask, StopTask: start and stop tasks.

Placement is optimistic: read the fleet, choose, commit with compares, and start again if something
has changed in between. Calls in this process take turns, so that they do not make each other start
again; the compares protect against all other changes. A call that would wait too long is refused.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.controlplane import access, records
from agent.controlplane.api.ecs import task_orders, task_shapes
from agent.controlplane.api.ecs.naming import active_cluster, resource_id
from agent.controlplane.api.ecs.task_reads import (
    NO_SUCH_TASK,
    describe_tasks,
    find_task,
    list_tasks,
)
from agent.controlplane.api.ecs.turns import Turns
from agent.controlplane.front.errors import ConflictException, InvalidParameterException
from agent.controlplane.records import RunTokenRecord, TaskRecord
from agent.controlplane.scheduler import placement, query
from agent.controlplane.tasks import changes as task_changes
from agent.controlplane.tasks import launch, waiting
from agent.controlplane.tasks.stopping import order_stop
from agent.controlplane.tasks.waiting import MayWait
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.parts import Handler, Handlers, Parts
    from agent.controlplane.scheduler.fleet import FleetHost
    from agent.controlplane.scheduler.instance import TaskNeeds
    from agent.controlplane.tasks.launch import TaskRequest

MAX_COPIES = 10
_DEFAULT_STOP_REASON = "Task stopped by user"


def handlers(rng: random.Random | None = None) -> Handlers:
    """Return the handlers of this module's operations and of ``task_reads``.

    Args:
        rng: chooses among equal instances; pass a seeded one for reproducible results.
    """
    placer = _Placer(rng or random.SystemRandom())
    return {
        "RunTask": placer.admitting(placer.run_task),
        "StartTask": placer.admitting(placer.start_task),
        "StopTask": stop_task,
        "DescribeTasks": describe_tasks,
        "ListTasks": list_tasks,
    }


class _Conflict(Exception):
    """Something changed between read and commit."""


class _Placer:
    """The two operations that use space on instances."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._turns = Turns()

    def admitting(self, call: Handler) -> Handler:
        """Return the handler of a call that takes turns with others."""

        async def handler(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
            async with self._turns.admitted():
                return await call(parts, request)

        return handler

    async def run_task(self, parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
        """Place up to 10 copies where there is room.

        Of copies without room, those of a capacity provider with managed scaling wait for a host; the others are in
        ``failures``.
        """
        count: int = request.get("count", 1)
        if not 1 <= count <= MAX_COPIES:
            raise InvalidParameterException(f"count must be between 1 and {MAX_COPIES}.")
        order = await task_orders.read_order(parts, request)
        try:
            constraints = task_orders.constraints(order, request.get("placementConstraints", ()))
            strategies = placement.parse_strategies(request.get("placementStrategy", ()))
        except (placement.PlacementError, query.QueryError) as error:
            raise InvalidParameterException(str(error)) from None
        needs = launch.needs(order, task_orders.required_attributes(order))

        may_wait = await MayWait.of(parts.store, parts.fleet, parts.names, order)

        async def attempt() -> dict[str, Any]:
            earlier = await _earlier_run(parts, order)
            if earlier is not None:
                return earlier
            borrows = order.capacity.is_fargate
            places = await parts.fleet.places(order.cluster, borrows=borrows)
            wanted = order.capacity.hosts_for(count)
            try:
                outcome, hosts = places.choose(
                    needs,
                    count,
                    constraints=constraints,
                    strategies=strategies,
                    providers=wanted,
                    rng=self._rng,
                )
            except placement.PlacementError as error:
                if not may_wait.any_of(wanted):
                    raise InvalidParameterException(str(error)) from None
                outcome, hosts = placement.PlacementOutcome(), {}
            missing = waiting.unplaced(wanted, outcome.placed)
            now = parts.clock()
            late = may_wait.new_tasks(order, needs, missing, placement=request, now=now)
            failures = _failures(may_wait, outcome, missing, late)
            answer = await _commit(parts, order, needs, outcome.placed, hosts, failures, late)
            parts.figures.unplaced += count - len(outcome.placed) - len(late)
            return answer

        return await self._repeat(parts, attempt)

    async def start_task(self, parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
        """Place one copy on each named instance; what cannot be placed is in ``failures``."""
        named: list[str] = request["containerInstances"]
        if not 1 <= len(named) <= MAX_COPIES:
            raise InvalidParameterException(
                f"containerInstances must have between 1 and {MAX_COPIES} items."
            )
        order = await task_orders.read_order(parts, request)
        try:
            constraints = task_orders.constraints(order)
        except (placement.PlacementError, query.QueryError) as error:
            raise InvalidParameterException(str(error)) from None
        needs = launch.needs(order, task_orders.required_attributes(order))

        async def attempt() -> dict[str, Any]:
            hosts = await parts.fleet.read(order.cluster)
            placed: list[placement.Placed] = []
            failures: list[dict[str, str]] = []
            for name in dict.fromkeys(named):
                instance_id = resource_id(parts.names, name, "container-instance", order.cluster)
                arn = parts.names.instance(order.cluster, instance_id)
                host = hosts.get(arn)
                if host is None:
                    failures.append({"arn": arn, "reason": placement.MISSING})
                    continue
                answer = placement.place_on(host.instance, needs, constraints)
                if isinstance(answer, placement.Placed):
                    placed.append(answer)
                else:
                    failures.append(_failure(answer))
            return await _commit(parts, order, needs, placed, hosts, failures)

        return await self._repeat(parts, attempt)

    async def _repeat(self, parts: Parts, attempt: Any) -> dict[str, Any]:
        began = time.monotonic()
        async with self._turns.turn():
            tries = access.ConflictRetries("the cluster")
            while True:
                try:
                    answer: dict[str, Any] = await attempt()
                except _Conflict:
                    # Another process also places tasks.
                    await tries.again()
                else:
                    parts.figures.placements.observe(time.monotonic() - began)
                    return answer


async def _commit(
    parts: Parts,
    order: TaskRequest,
    needs: TaskNeeds,
    placed: Sequence[placement.Placed],
    hosts: Mapping[str, FleetHost],
    failures: list[dict[str, str]],
    late: Sequence[TaskRecord] = (),
) -> dict[str, Any]:
    now = parts.clock()
    tasks = [
        launch.place_task(
            order, needs, p, hosts[p.instance_arn], provider=p.provider, names=parts.names, now=now
        )
        for p in placed
    ]
    made = [*tasks, *late]
    if made and not await launch.commit(parts.store, parts.names, order, made, hosts):
        raise _Conflict
    parts.figures.placed += len(tasks)
    return _made(parts, made, failures)


def _made(
    parts: Parts, tasks: Sequence[TaskRecord], failures: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "tasks": [
            task_shapes.task(task, parts.names, connected=True, with_tags=True) for task in tasks
        ],
        "failures": failures,
    }


async def _earlier_run(parts: Parts, order: TaskRequest) -> dict[str, Any] | None:
    """Return the response of an earlier call with the same client token, or None."""
    if not order.client_token:
        return None
    key = records.run_token_key(order.cluster, order.client_token)
    earlier = await access.find(parts.store, RunTokenRecord, key)
    if earlier is None:
        return None
    token = earlier.record
    if token.fingerprint != order.fingerprint:
        raise ConflictException(
            "The RunTask request could not be processed due to conflicts. The provided "
            "clientToken is already in use with a different RunTask request. The resourceIds are "
            f"the existing task ARNs which are already associated with the clientToken: "
            f"{', '.join(token.task_arns)}"
        )
    keys = [records.task_key(order.cluster, records.last_element(arn)) for arn in token.task_arns]
    found = await access.find_many(parts.store, TaskRecord, keys)
    return _made(parts, [read.record for read in found.values()], [])


async def stop_task(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Order a task to stop; a second call changes nothing."""
    cluster = await active_cluster(parts, request)
    reason = request.get("reason") or _DEFAULT_STOP_REASON
    if len(reason) > reasons.REASON_LIMIT:
        raise InvalidParameterException(f"reason is longer than {reasons.REASON_LIMIT} characters.")
    found = await find_task(parts, cluster.name, request["task"])
    task = await order_stop(
        parts.store,
        cluster.name,
        found.record.id,
        code=task_changes.USER_INITIATED,
        reason=reason,
        now=parts.clock(),
    )
    if task is None:
        raise InvalidParameterException(NO_SUCH_TASK)
    alive = await parts.store.get(records.alive_key(task.instance_id))
    return {"task": task_shapes.task(task, parts.names, connected=alive is not None)}


def _failures(
    may_wait: MayWait,
    outcome: placement.PlacementOutcome,
    missing: Sequence[str],
    late: Sequence[TaskRecord],
) -> list[dict[str, str]]:
    """Return the failures of copies that were neither placed nor wait for a host."""
    if len(missing) == len(late) and late:
        return []
    kept = Counter(missing) - Counter(task.capacity_provider for task in late)
    full = [
        {"arn": may_wait.names.capacity_provider(name), "reason": waiting.LIMIT_REACHED}
        for name in sorted(kept.keys() & may_wait.providers)
    ]
    return [*full, *(_failure(refused) for refused in outcome.refused)]


def _failure(refused: placement.Rejection) -> dict[str, str]:
    failure = {"arn": refused.arn, "reason": refused.reason}
    return {**failure, "detail": refused.detail} if refused.detail else failure
