"""Which events a change of the store is. Pure but for what it remembers of earlier changes.

A task's event comes with a greater version of its record, an instance's with its record, its connection or
the tasks assigned to it, those of services with their events and service deployments. After a restart the
memory is empty, and the first change of a thing may be told once more: with the same ``detail.version``,
by which readers of Amazon ECS's events know duplicates, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.controlplane import access, records
from agent.controlplane.events import details, service_actions
from agent.controlplane.records import TaskRecord
from agent.controlplane.services.record import EventsRecord
from agent.controlplane.services.rollouts import RolloutsRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.controlplane.events.envelope import Draft
    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Event, KeyValue


class Happened(NamedTuple):
    """What one revision of the store is."""

    drafts: list[Draft]
    instances: list[str]
    """Keys of the container instances that have changed; what they have now must be read."""


class _Revision(NamedTuple):
    """What is known of the changes of one revision."""

    now: float
    is_past: bool
    touched: dict[str, None]
    """Keys of instances, in the order of their changes."""


class Changes:
    """Tells the events of one store's changes, in their order; for one reader."""

    def __init__(self, names: Names, instances: Iterable[str] = ()) -> None:
        """Take the keys of the instances that there are."""
        self._names = names
        self._instances = {records.last_element(key): key for key in instances}
        self._task_versions: dict[str, int] = {}
        self._newest: dict[str, str] = {}
        """Id of the newest event by the key of a service's events."""
        self._statuses: dict[str, dict[str, str]] = {}
        """Of service deployments by their ids, by the key of a service's."""
        self._looks: dict[str, Callable[[Event, _Revision], list[Draft]]] = {
            records.TASKS: self._task,
            records.INSTANCES: self._instance,
            records.ALIVE: self._connection,
            records.ASSIGNMENTS: self._assignment,
            records.SERVICE_EVENTS: self._service_events,
            records.SERVICE_ROLLOUTS: self._rollouts,
        }

    def of(self, events: Iterable[Event], now: float, *, is_past: bool) -> Happened:
        """Return what the changes of one revision are.

        Args:
            events: all changes of it.
            now: Unix seconds.
            is_past: whether they happened earlier than now, as far as is known: then a task's event has
                the latest time of its record.
        """
        drafts: list[Draft] = []
        seen = _Revision(now, is_past, {})
        for event in events:
            look = self._looks.get(event.kv.key[: event.kv.key.find("/", 1) + 1])
            if look is not None:
                drafts += look(event, seen)
        return Happened(drafts, list(seen.touched))

    def _task(self, event: Event, seen: _Revision) -> list[Draft]:
        kv = event.kv
        if event.type == "delete":
            self._task_versions.pop(kv.key, None)
            return []
        found = access.read(TaskRecord, kv)
        if found is None or found.record.version <= self._task_versions.get(kv.key, 0):
            return []
        record = found.record
        self._task_versions[kv.key] = record.version
        at = seen.now
        if seen.is_past:
            at = min(details.newest_time(record) or at, at)
        return [details.task(record, self._names, at=at)]

    def _instance(self, event: Event, seen: _Revision) -> list[Draft]:
        instance_id = records.last_element(event.kv.key)
        if event.type == "delete":
            self._instances.pop(instance_id, None)
        else:
            self._instances[instance_id] = event.kv.key
            seen.touched[event.kv.key] = None
        return []

    def _connection(self, event: Event, seen: _Revision) -> list[Draft]:
        if event.type == "delete" or event.kv.version == 1:
            self._touch(records.last_element(event.kv.key), seen)
        return []

    def _assignment(self, event: Event, seen: _Revision) -> list[Draft]:
        if event.type == "delete" or event.kv.version == 1:
            self._touch(event.kv.key.split("/")[2], seen)
        return []

    def _touch(self, instance_id: str, seen: _Revision) -> None:
        key = self._instances.get(instance_id)
        if key is not None:
            seen.touched[key] = None

    def _service_events(self, event: Event, _seen: _Revision) -> list[Draft]:
        kv = event.kv
        found = None if event.type == "delete" else access.read(EventsRecord, kv)
        if found is None or not found.record.events:
            self._newest.pop(kv.key, None)
            return []
        known, told = self._newest.get(kv.key), found.record.events
        self._newest[kv.key] = told[0].id
        ids = [one.id for one in told]
        # What one transaction adds has one time; that tells it from the others if none was seen yet.
        count = ids.index(known) if known in ids else sum(one.at == told[0].at for one in told)
        return service_actions.actions(
            self._service_arn(kv), self._cluster_arn(kv), reversed(told[:count])
        )

    def _rollouts(self, event: Event, _seen: _Revision) -> list[Draft]:
        kv = event.kv
        found = None if event.type == "delete" else access.read(RolloutsRecord, kv)
        if found is None:
            self._statuses.pop(kv.key, None)
            return []
        rollouts = found.record.rollouts
        known = self._statuses.get(kv.key)
        self._statuses[kv.key] = {one.id: one.status for one in rollouts}
        if known is None:
            newest = max((one.updated_at for one in rollouts), default=0.0)
            known = {one.id: one.status for one in rollouts if one.updated_at < newest}
        return service_actions.deployments(self._service_arn(kv), known, rollouts)

    def _service_arn(self, kv: KeyValue) -> str:
        _, _, cluster, name = kv.key.split("/", 3)
        return self._names.service(cluster, name)

    def _cluster_arn(self, kv: KeyValue) -> str:
        return self._names.cluster(kv.key.split("/", 3)[2])
