"""Task manifests: all tasks of an instance, and which of an agent's tasks are really not wanted.

An agent ignores a manifest whose ``timeline`` is not higher than every number it has seen before, even
before a restart. So timelines are the clock in milliseconds, and the last one is stored: they also grow
if the clock is set back, and if the store is replaced by an older copy.

Reads and writes the store; raises what the store raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import access, records
from agent.controlplane.names import parse_arn
from agent.controlplane.records import AssignRecord, TaskRecord
from agent.controlplane.store.contract import Put, as_read, present
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.history import History
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import KeyValue


class Manifests:
    """Builds manifests and decides which tasks agents may stop because of them."""

    def __init__(self, parts: Parts, history: History) -> None:
        self._parts = parts
        self._history = history

    def wanted(self, instance: InstanceRecord, rows: Iterable[KeyValue]) -> list[tuple[str, str]]:
        """Return ARN and desired status of all tasks of an instance.

        A task whose assignment cannot be read could still be wanted, so its id is taken from the key.
        """
        found = []
        for kv in rows:
            try:
                row = records.decode(AssignRecord, kv)
            except BAD_JSON:
                task_id = records.last_element(kv.key)
                found.append((self._parts.names.task(instance.cluster, task_id), "RUNNING"))
            else:
                found.append((row.task_arn, row.desired_status))
        return found

    async def next_timeline(self, instance: InstanceRecord) -> int:
        """Return a number higher than any that the instance's agent got before; durable."""
        store, key = self._parts.store, records.manifest_key(instance.id)
        of_instance = present(records.instance_key(instance.cluster, instance.id))
        tries = access.ConflictRetries(key)
        while True:
            kv = await store.get(key)
            last = int(kv.value) if kv is not None and kv.value.isdigit() else 0
            timeline = max(int(self._parts.clock() * 1000), last + 1)
            put = Put(key, str(timeline).encode())
            if (await store.txn([as_read(key, kv), of_instance], [put], urgent=True)).succeeded:
                return timeline
            await tries.again()

    async def unwanted(self, instance: InstanceRecord, candidates: Iterable[str]) -> list[str]:
        """Return those of an agent's tasks that it must stop.

        A task is unwanted if it is no longer assigned to the instance, or should stop. ARNs that are
        not ours are left to the agent. An unknown task is only unwanted if the store cannot have lost
        it: an instance may be older than a history of the store, which began when an older copy was
        restored.
        """
        ids: dict[str, tuple[str, str]] = {}
        for arn in candidates:
            parsed = parse_arn(arn)
            if parsed is None or parsed.kind != "task" or len(parsed.path) != 2:
                continue
            cluster, task_id = parsed.path
            if arn == self._parts.names.task(cluster, task_id):
                ids[arn] = (cluster, task_id)
        store = self._parts.store
        tasks = await access.find_many(
            store, TaskRecord, [records.task_key(*path) for path in ids.values()]
        )
        rows = {
            records.last_element(kv.key): kv
            for kv in (await store.range(records.assignments_prefix(instance.id))).items
        }
        return [
            arn
            for arn, path in ids.items()
            if _is_unwanted(
                rows.get(path[1]),
                tasks.get(records.task_key(*path)),
                instance,
                may_be_forgotten=instance.history not in ("", self._history.current),
            )
        ]


def _is_unwanted(
    row: KeyValue | None,
    task: access.Found[TaskRecord] | None,
    instance: InstanceRecord,
    *,
    may_be_forgotten: bool,
) -> bool:
    if row is not None:
        try:
            return records.decode(AssignRecord, row).desired_status == "STOPPED"
        except BAD_JSON:
            return False
    if task is None:
        return not may_be_forgotten
    return (
        task.record.instance_id != instance.id
        or task.record.desired_status == "STOPPED"
        or task.record.last_status == "STOPPED"
    )
