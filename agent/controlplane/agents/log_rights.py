"""Which log groups a host may write to: those that its tasks name for ``awslogs``.

A stopped task counts for as long as control remembers it, and what was allowed once is remembered, so
that the last lines of a task get through. One event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access, records
from agent.controlplane.records import TaskDefinitionRecord, TaskRecord
from agent.controlplane.scheduler.fleet import LENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import Store

_REMEMBERED: Final = 10_000


class LogRights:
    """Says which groups hosts may write to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[int, set[str]]] = OrderedDict()
        """By instance: at which revision it was looked, and all groups that were found so far."""

    async def allowed(self, instance: InstanceRecord, groups: set[str]) -> set[str]:
        """Return those of some groups that a task of an instance logs to, or did."""
        looked_at, known = self._known.get(instance.id, (-1, set()))
        if not groups <= known and self._store.revision != looked_at:
            looked_at = self._store.revision
            known = known | await self._groups_of(instance)
        self._known[instance.id] = looked_at, known
        self._known.move_to_end(instance.id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return groups & known

    async def _groups_of(self, instance: InstanceRecord) -> set[str]:
        # A host that is lent also runs tasks of other clusters.
        cluster = records.tasks_prefix(instance.cluster)
        where = records.TASKS if LENT in instance.attributes else cluster
        definitions = {
            records.task_definition_key(task.family, task.revision)
            async for _, task in access.scan(self._store, TaskRecord, where)
            if task.instance_id == instance.id
        }
        found = await access.find_many(self._store, TaskDefinitionRecord, definitions)
        return {name for each in found.values() for name in groups_in(each.record.definition)}


def groups_in(definition: Mapping[str, Any]) -> Iterator[str]:
    """Yield the log groups that containers of a task definition log to. Pure."""
    for container in definition.get("containerDefinitions", ()):
        logs = container.get("logConfiguration") or {}
        if logs.get("logDriver") == "awslogs":
            group = (logs.get("options") or {}).get("awslogs-group")
            if group:
                yield group
