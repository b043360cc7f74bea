"""Places the tasks that wait for a host, as soon as a host has room, and ends those that have waited for too long.

Source of the time limit: Amazon ECS developer guide, which says that such a task is stopped after 10 to 30 minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane import access, records
from agent.controlplane.records import TaskRecord
from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.query import QueryError
from agent.controlplane.store.contract import Compare, Op, unchanged
from agent.controlplane.tasks import changes, launch, waiting
from agent.controlplane.tasks.stopping import order_stop

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Parts
    from agent.controlplane.scheduler.fleet import Chosen, Places

WAIT_LIMIT_S: Final = 30 * 60.0
"""How long a task waits at most."""
_AT_ONCE: Final = 20
"""How many tasks one transaction places: the store has a limit."""

_log = structlog.get_logger(__name__)


async def waiting_tasks(parts: Parts, cluster: str) -> list[Found[TaskRecord]]:
    """Return the tasks of a cluster that wait, as the fleet saw them at its last read; ends those that are too old.

    Raises:
        StoreFailure: of the store.
    """
    found = await access.find_many(parts.store, TaskRecord, sorted(parts.fleet.unplaced(cluster)))
    now, kept = parts.clock(), []
    for one in found.values():
        task = one.record
        if not _waits(task):
            continue
        if now < task.created_at + WAIT_LIMIT_S:
            kept.append(one)
        else:
            await _give_up(parts, task, now)
    return kept


def _waits(task: TaskRecord) -> bool:
    return task.waiting is not None and task.desired_status == "RUNNING"


async def _give_up(parts: Parts, task: TaskRecord, now: float) -> None:
    reason = (
        f"No container instance of the capacity provider {task.capacity_provider} had room for the task within "
        f"{WAIT_LIMIT_S / 60:g} minutes."
    )
    _log.warning("a task found no host in time", task=task.arn, reason=reason)
    await order_stop(
        parts.store,
        task.cluster,
        task.id,
        code=changes.FAILED_TO_START,
        reason=reason,
        now=now,
        only_if=_waits,
    )


async def place(
    parts: Parts,
    places: Places,
    tasks: Sequence[Found[TaskRecord]],
    rng: random.Random,
) -> bool:
    """Place waiting tasks where there is room; True if that changed what is free.

    What others changed at the same time is left for the next call.

    Args:
        parts: the store.
        places: of the cluster of the tasks, just read.
        tasks: that wait.
        rng: chooses among equal hosts.

    Raises:
        StoreFailure: it may or may not have been done; the same again is safe.
    """
    by_id = {one.record.id: one for one in tasks}
    for group in waiting.alike([one.record for one in tasks]):
        found = _placement(places, group, rng)
        chosen = found.outcome.placed[:_AT_ONCE] if found is not None else []
        if found is None or not chosen:
            continue
        hosts = found.hosts
        compares: list[Compare] = []
        then: list[Op] = []
        for task, on in zip(group, chosen, strict=False):
            there = waiting.placed(task, on, hosts[on.instance_arn], names=parts.names)
            compares.append(unchanged(by_id[task.id].kv))
            then += launch.task_ops(there)
        for arn in dict.fromkeys(one.instance_arn for one in chosen):
            compares += hosts[arn].compares
            then.append(hosts[arn].guard())
        if (await parts.store.txn(compares, then)).succeeded:
            parts.figures.placed += len(chosen)
        return True
    return False


def _placement(places: Places, group: Sequence[TaskRecord], rng: random.Random) -> Chosen | None:
    first = group[0]
    rules = first.waiting or records.WaitingRecord()
    try:
        return places.choose(
            waiting.needs_of(first),
            len(group),
            constraints=placement.parse_constraints(rules.constraints),
            strategies=placement.parse_strategies(rules.strategies),
            providers=[first.capacity_provider] * len(group),
            rng=rng,
        )
    except (placement.PlacementError, QueryError):
        return (
            None  # no host is active, or an older program stored rules that this one does not have
        )
