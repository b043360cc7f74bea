"""Removes an instance from its cluster permanently, and stops the tasks that only it could report.

The instance becomes INACTIVE first, so that nothing more is placed on it. Then its tasks become
STOPPED one by one, their assignments are deleted, and last its lease. Every step may be repeated:
after a crash in between, call it again.

Tests: ``tests/unit/controlplane/agents/test_agents.py``,
``tests/unit/controlplane/api/ecs/test_instances.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.fleet_network import members
from agent.controlplane.records import AssignRecord, InstanceRecord, TaskRecord
from agent.controlplane.store.contract import Delete, Put, as_read, unchanged
from agent.controlplane.tasks import changes as task_changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.store.contract import Store

LEFT = "left"
"""``status_reason`` of an instance whose agent left: the host may register again as a new one."""


async def retire_idle(
    store: Store, instance: InstanceRecord, *, reason: str, clock: Callable[[], float]
) -> InstanceRecord | None:
    """Do the same as ``retire``, but only if no task is on the instance; otherwise return None.

    A task that is placed at the same time is either seen here or not placed.
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
    """Set the instance to INACTIVE and its tasks to STOPPED; return the instance as it is now."""
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
            *await members.leaving(store, instance.id),
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
    """Set a task that no agent will report any more to STOPPED; a STOPPED one stays unchanged."""
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
