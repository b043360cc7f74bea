"""Takes an instance out of its cluster for good, and ends what only it could have reported.

The instance becomes INACTIVE first, so that nothing is placed on it any more; then its tasks become
STOPPED one by one, their assignments go, and last its connection. Every step may be repeated: a
crash in between is healed by calling it again.

Tests: ``tests/unit/controlplane/agents/test_agents.py``,
``tests/unit/controlplane/api/ecs/test_instances.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import AssignRecord, InstanceRecord, TaskRecord
from agent.controlplane.store.contract import Delete, Put, as_read, unchanged
from agent.controlplane.tasks import changes as task_changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.store.contract import Store

LEFT = "left"
"""``status_reason`` of an instance whose agent took it out: it may register again as a new one."""


async def retire_idle(
    store: Store, instance: InstanceRecord, *, reason: str, clock: Callable[[], float]
) -> InstanceRecord | None:
    """Do as ``retire`` does, but only while no task is on the instance; None when one is.

    A task that is placed at the same moment is either seen here or not placed.
    """
    key = records.instance_key(instance.cluster, instance.id)
    guard_key = records.placement_key(instance.id)
    tries = access.ConflictRetries(key)
    while True:
        guard = await store.get(guard_key)
        found = await access.find(store, InstanceRecord, key)
        if (await store.range(records.assignments_prefix(instance.id), limit=1)).items:
            return None
        if found is None:
            return instance
        put = Put(key, records.encode(_inactive(found.record, reason, clock())))
        if (
            await store.txn([unchanged(found.kv), as_read(guard_key, guard)], [put], urgent=True)
        ).succeeded:
            return await retire(store, found.record, reason=reason, clock=clock)
        await tries.again()


async def retire(
    store: Store, instance: InstanceRecord, *, reason: str, clock: Callable[[], float]
) -> InstanceRecord:
    """Make the instance INACTIVE and its tasks STOPPED; returns it as it now is."""
    now = clock()
    key = records.instance_key(instance.cluster, instance.id)
    retired = await access.change(
        store, InstanceRecord, key, lambda record: _inactive(record, reason, now), urgent=True
    )
    async for kv, assignment in access.scan(
        store, AssignRecord, records.assignments_prefix(instance.id)
    ):
        task_id = records.last_element(kv.key)
        await end_task(store, assignment.cluster, task_id, now=now)
    alive = await store.get(records.alive_key(instance.id))
    if alive is not None and alive.lease:
        await store.revoke_lease(alive.lease)
    await store.txn(
        [],
        [
            Delete(records.registration_key(instance.client_token)),
            *([Delete(records.machine_key(instance.machine))] if instance.machine else []),
            Delete(records.unheard_key(instance.id)),
            Delete(records.placement_key(instance.id)),
            Delete(records.manifest_key(instance.id)),
        ],
        urgent=True,
    )
    return retired or instance


def _inactive(record: InstanceRecord, reason: str, now: float) -> InstanceRecord:
    if record.status == "INACTIVE":
        return record
    return replace(
        record,
        status="INACTIVE",
        status_reason=reason,
        deregistered_at=now,
        version=record.version + 1,
    )


async def end_task(store: Store, cluster: str, task_id: str, *, now: float) -> None:
    """Make a task STOPPED that no agent will report any more; one that is STOPPED stays as it is."""
    key = records.task_key(cluster, task_id)
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(store, TaskRecord, key)
        if found is None:
            return
        task = found.record
        gone = Delete(records.assignment_key(task.instance_id, task_id))
        if task.last_status == "STOPPED":
            await store.txn([], [gone], urgent=True)
            return
        ended = task_changes.stop_without_agent(
            task,
            code=task_changes.FAILED_TO_START if not task.started_at else "",
            reason=f"Container instance {task.instance_arn} was deregistered",
            now=now,
        )
        put = Put(key, records.encode(ended))
        if (await store.txn([unchanged(found.kv)], [put, gone], urgent=True)).succeeded:
            return
        await tries.again()
