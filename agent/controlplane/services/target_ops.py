"""What a transaction does to make tasks targets, and to take them out of use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import records
from agent.controlplane.loadbalancing import balancer_records, naming
from agent.controlplane.services import wording
from agent.controlplane.store.contract import Compare, Delete, Op, Put, present, unchanged
from agent.controlplane.tasks import stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.access import Found
    from agent.controlplane.loadbalancing.balancer_records import TargetRecord
    from agent.controlplane.records import TaskRecord
    from agent.controlplane.services.balancing import Traffic
    from agent.controlplane.services.plan import Stop
    from agent.controlplane.services.traffic_shift import Shift
    from agent.controlplane.store.contract import Store


def task_ids(traffic: Traffic) -> list[str]:
    """Return the ids of the tasks that are read for it, each once. Pure."""
    ids = [each.task_id for each in traffic.registers]
    ids += [drain.stop.task.id for drain in traffic.drains]
    ids += [task.id for task in (*traffic.leaves, *traffic.releases)]
    return list(dict.fromkeys(ids))


async def ops(
    store: Store,
    traffic: Traffic,
    tasks: Mapping[str, Found[TaskRecord]],
    reason: Callable[[Stop], str],
    now: float,
) -> tuple[list[Compare], list[Op]] | None:
    """Return what a transaction compares and does about targets.

    Args:
        store: where everything is.
        traffic: what to do.
        tasks: the tasks of ``task_ids`` as they are now, those that exist.
        reason: returns why a task is stopped.
        now: Unix seconds.

    Returns:
        None if a task has changed, so that it has to be planned again.
    """
    if not _are_as_planned(traffic, tasks):
        return None
    groups = {naming.target_group_name(each.group_arn) for each in traffic.registers}
    compares = [unchanged(tasks[task_id].kv) for task_id in task_ids(traffic)]
    compares += [present(balancer_records.target_group_key(name)) for name in sorted(groups)]
    then: list[Op] = [Put(_key(each), records.encode(each)) for each in traffic.registers]
    for seen, withdrawn in traffic.withdraws:
        compares.append(Compare(_key(withdrawn), "mod_revision", "=", seen.revision))
        then.append(Put(_key(withdrawn), records.encode(withdrawn)))
    for seen in traffic.removes:
        compares.append(Compare(_key(seen.target), "mod_revision", "=", seen.revision))
        then.append(Delete(_key(seen.target)))
    for drain in traffic.drains:
        found = tasks[drain.stop.task.id]
        leaving = stopping.draining(
            found.record, code=wording.STOP_CODE, reason=reason(drain.stop), until=drain.until
        )
        then.append(Put(found.kv.key, records.encode(leaving)))
    for released in traffic.releases:
        task = tasks[released.id].record
        _, told = await stopping.ordered(
            store, task, code=task.stop_code, reason=task.stopped_reason, now=now
        )
        then += told
    return compares, then


def shift_ops(shifts: Sequence[Shift]) -> tuple[list[Compare], list[Op]]:
    """Return what a transaction compares and does so that listeners forward to other target groups. Pure."""
    compares: list[Compare] = []
    then: list[Op] = []
    for shift in shifts:
        compares.append(Compare(shift.key, "mod_revision", "=", shift.revision))
        then.append(Put(shift.key, records.encode(shift.listener)))
        for arn in sorted(shift.added):
            group, name = naming.target_group_id(arn), naming.target_group_name(arn)
            compares.append(present(balancer_records.target_group_key(name)))
            then.append(Put(balancer_records.group_use_key(group), b""))
    return compares, then


def _are_as_planned(traffic: Traffic, tasks: Mapping[str, Found[TaskRecord]]) -> bool:
    if any(task_id not in tasks for task_id in task_ids(traffic)):
        return False
    wanted = [each.task_id for each in traffic.registers]
    wanted += [drain.stop.task.id for drain in traffic.drains]
    return all(tasks[task_id].record.desired_status == "RUNNING" for task_id in wanted) and all(
        tasks[task.id].record.drains_until for task in traffic.releases
    )


def _key(target: TargetRecord) -> str:
    group_id = naming.target_group_id(target.group_arn)
    return balancer_records.target_key(group_id, target.id, target.port)
