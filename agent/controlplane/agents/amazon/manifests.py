"""Task manifests: all that is wanted of an instance, and which of an agent's tasks are really not.

An agent ignores a manifest whose ``timeline`` is not higher than every number it saw before, also in
an earlier life. So timelines are milliseconds of the clock, and the last one given is stored: they
grow when the clock is set back, and when the store is put back to an older copy.

Reads and writes the store; raises what it raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.controlplane import access, records
from agent.controlplane.names import parse_arn
from agent.controlplane.records import AssignRecord, TaskRecord
from agent.controlplane.store.contract import Put, as_read, present

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.history import History
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import KeyValue


class Manifests:
    """Makes manifests and judges what agents conclude from them."""

    def __init__(self, parts: Parts, history: History) -> None:
        self._parts = parts
        self._history = history

    def wanted(self, instance: InstanceRecord, rows: Iterable[KeyValue]) -> list[tuple[str, str]]:
        """Return ARN and desired status of all tasks of an instance.

        One whose assignment cannot be read is not known to be unwanted: it is named by its key.
        """
        found = []
        for kv in rows:
            try:
                row = records.decode(AssignRecord, kv)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                task_id = records.last_element(kv.key)
                found.append((self._parts.names.task(instance.cluster, task_id), "RUNNING"))
            else:
                found.append((row.task_arn, row.desired_status))
        return found

    async def next_timeline(self, instance: InstanceRecord) -> int:
        """Return a number higher than any that was given to the instance's agent; durable."""
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

        A task is unwanted when it is no longer assigned to the instance, or to be stopped. What is
        not named as we name tasks is the agent's own business. One that nothing is known of is
        unwanted only where the store cannot have forgotten it: an instance may be from before the
        store went back to an older copy.
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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
    if task is None:
        return not may_be_forgotten
    return (
        task.record.instance_id != instance.id
        or task.record.desired_status == "STOPPED"
        or task.record.last_status == "STOPPED"
    )
