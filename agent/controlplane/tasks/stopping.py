"""Orders a task to stop, whoever wants it.

Stopping is an order, not an act: the task's desired status becomes STOPPED, its agent is woken, and
the task is STOPPED when the agent reports so. Only a task whose instance is gone for good ends at
once, because nobody would ever report it.

Tests: ``tests/unit/controlplane/api/ecs/test_tasks.py``, ``tests/unit/controlplane/roles``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.discovery.record import instance_key
from agent.controlplane.discovery.stored import delete_instance
from agent.controlplane.records import AssignRecord, InstanceRecord, TaskRecord
from agent.controlplane.store.contract import Delete, Op, Put, unchanged
from agent.controlplane.tasks import changes as task_changes
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.store.contract import Store


def _any(_task: TaskRecord) -> bool:
    return True


async def order_stop(
    store: Store,
    cluster: str,
    task_id: str,
    *,
    code: str,
    reason: str,
    now: float,
    only_if: Callable[[TaskRecord], bool] = _any,
) -> TaskRecord | None:
    """Order a task to stop and return it; one that is to stop already stays as it is.

    One that may still finish its requests is stopped now.

    Args:
        store: where it is.
        cluster: name of its cluster.
        task_id: its id.
        code: its stop code.
        reason: why, cut to what a reason may have.
        now: Unix seconds.
        only_if: tells, by its newest record, whether it is to be stopped at all. Pure.

    Returns:
        The task as it now is; None when there is none.

    Raises:
        StoreFailure: it may not be ordered; the same again is safe.
    """
    key = records.task_key(cluster, task_id)
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(store, TaskRecord, key)
        if found is None:
            return None
        task = found.record
        is_told = task.desired_status == "STOPPED" and not task.drains_until
        if is_told or not only_if(task):
            return task
        stopping, then = await ordered(store, task, code=code, reason=reason, now=now)
        if (await store.txn([unchanged(found.kv)], then, urgent=True)).succeeded:
            return stopping
        await tries.again()


def draining(task: TaskRecord, *, code: str, reason: str, until: float) -> TaskRecord:
    """Return a task that is to stop once its requests are finished; its agent is not told yet. Pure.

    Args:
        task: one that is wanted.
        code: its stop code.
        reason: why, cut to what a reason may have.
        until: when it is stopped at the latest; Unix seconds.
    """
    return replace(
        task,
        desired_status="STOPPED",
        stop_code=code,
        stopped_reason=reasons.clip(reason),
        drains_until=until,
        version=task.version + 1,
    )


async def ordered(
    store: Store, task: TaskRecord, *, code: str, reason: str, now: float
) -> tuple[TaskRecord, list[Op]]:
    """Return a task as it is once it was ordered to stop, and what a transaction does for that.

    Two operations, and two more for each name that it is registered by, of which one may be the same for several
    tasks; the transaction must compare the task. It is registered no more.
    """
    stopping = replace(
        task,
        desired_status="STOPPED",
        stop_code=code,
        stopped_reason=reasons.clip(reason),
        stopping_at=now,
        drains_until=0.0,
        version=task.version + 1,
    )
    key = records.task_key(stopping.cluster, stopping.id)
    assignment_key = records.assignment_key(stopping.instance_id, stopping.id)
    instance = await access.find(
        store, InstanceRecord, records.key_of_instance(stopping.instance_arn)
    )
    named = await _named(store, task)
    if instance is None or instance.record.status == "INACTIVE":
        ended = task_changes.stop_without_agent(
            stopping, code=stopping.stop_code, reason=stopping.stopped_reason, now=now
        )
        return ended, [Put(key, records.encode(ended)), Delete(assignment_key), *named]
    return stopping, [
        Put(key, records.encode(stopping)),
        Put(assignment_key, records.encode(AssignRecord.of(stopping))),
        *named,
    ]


async def _named(store: Store, task: TaskRecord) -> list[Op]:
    """Return what deregisters a task, so that nobody who asks after its stop was ordered is sent to it."""
    registries = [task.registry_id] if task.registry_id else []
    registries += [one.registry_id for one in task.connected_ports]
    return [
        op
        for registry in registries
        if await store.get(instance_key(registry, task.id)) is not None
        for op in delete_instance(registry, task.id)
    ]
