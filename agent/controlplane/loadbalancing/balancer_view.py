"""Listeners, targets and what ingresses report, in memory: updated by what the store commits. Pure.

Taking in a change returns the tasks whose health it may have changed: its cost depends on what has changed. Target
groups and load balancers themselves are not kept: they are read where they are needed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from agent.controlplane import access, records
from agent.controlplane.access import Found
from agent.controlplane.loadbalancing import balancer_records, forwarding, health, naming
from agent.controlplane.loadbalancing.balancer_records import (
    HealthRecord,
    IngressRecord,
    ListenerRecord,
    TargetRecord,
    TargetState,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.controlplane.loadbalancing.health import Health
    from agent.controlplane.store.contract import Event, KeyValue

PREFIXES = (
    balancer_records.LISTENERS,
    balancer_records.TARGETS,
    balancer_records.INGRESSES,
    balancer_records.TARGET_HEALTH,
)
"""Keys that the view follows."""


class SeenTarget(NamedTuple):
    """A target of a task."""

    target: TargetRecord
    revision: int
    """Of the last change of its key."""
    health: Health
    is_drained: bool
    """Whether it is deregistered, and has no requests left."""


class BalancerView:
    """All listeners, targets and ingresses."""

    def __init__(self) -> None:
        self._listeners: dict[str, Found[ListenerRecord]] = {}
        """By key."""
        self._users = defaultdict[str, set[str]](set)
        """Keys of the listeners that name a group, by its ARN."""
        self._targets = defaultdict[str, dict[str, Found[TargetRecord]]](dict)
        """By the id of their group, and by name."""
        self._of_task = defaultdict[str, set[tuple[str, str]]](set)
        """Group id and name of each target, by task id."""
        self._ingresses: dict[str, frozenset[str]] = {}
        """By the id of each that is connected: names of the load balancers that it serves, none for all."""
        self._reports = defaultdict[str, dict[str, HealthRecord]](dict)
        """By group id and ingress id."""

    def apply(self, event: Event) -> set[str]:
        """Take in a change of a key under one of ``PREFIXES``; return the ids of the tasks concerned."""
        kv, there = event.kv, event.type == "put"
        if kv.key.startswith(balancer_records.TARGETS):
            return self._apply_target(kv, there=there)
        if kv.key.startswith(balancer_records.TARGET_HEALTH):
            return self._apply_health(kv, there=there)
        if kv.key.startswith(balancer_records.LISTENERS):
            return self._apply_listener(kv, there=there)
        return self._apply_ingress(kv, there=there)

    @property
    def has_tasks(self) -> bool:
        """Whether any task is a target."""
        return bool(self._of_task)

    def is_used(self, group_arn: str) -> bool:
        """Return whether a listener names a target group."""
        return group_arn in self._users

    def balancers_of(self, group_arn: str) -> list[str]:
        """Return the ARNs of the load balancers whose listeners name a target group, sorted."""
        users = self._users.get(group_arn, ())
        return sorted({self._listeners[key].record.load_balancer_arn for key in users})

    def listener(self, arn: str) -> Found[ListenerRecord] | None:
        """Return the listener that its ARN, or that of one of its rules, names; None if it is gone."""
        return self._listeners.get(naming.listener_key_of(arn))

    def targets(self, group_arn: str) -> list[TargetRecord]:
        """Return the targets of a group, by name, those that are gone among them."""
        found = self._targets.get(naming.target_group_id(group_arn), {})
        return [found[name].record for name in sorted(found)]

    def health(self, group_arn: str, name: str, now: float) -> Health:
        """Return the health of a target by its name (``target_name``)."""
        found = self._targets.get(naming.target_group_id(group_arn), {}).get(name)
        target = found.record if found is not None else None
        used = self.is_used(group_arn)
        return health.health(target, self._reports_on(group_arn, name), is_used=used, now=now)

    def of_task(self, task_id: str, now: float) -> tuple[SeenTarget, ...]:
        """Return the targets that a task is."""
        return tuple(self._seen(*place, now) for place in sorted(self._of_task.get(task_id, ())))

    def _seen(self, group_id: str, name: str, now: float) -> SeenTarget:
        kv, target = self._targets[group_id][name]
        arn = target.group_arn
        drained = target.drains_until > 0 and health.is_drained(
            target, self._reports_on(arn, name), is_used=self.is_used(arn), now=now
        )
        return SeenTarget(target, kv.mod_revision, self.health(arn, name, now), drained)

    def _reports_on(self, group_arn: str, name: str) -> list[TargetState | None]:
        """Return what each ingress that serves a group knows of a target."""
        known = self._reports.get(naming.target_group_id(group_arn), {})
        keys = self._users.get(group_arn, ())
        balancers = {self._listeners[key].record.load_balancer for key in keys}
        serving = [id_ for id_, names in self._ingresses.items() if not names or names & balancers]
        reports = (known.get(ingress_id) for ingress_id in serving)
        return [report.targets.get(name) if report is not None else None for report in reports]

    def _apply_target(self, kv: KeyValue, *, there: bool) -> set[str]:
        _, _, group_id, name = kv.key.split("/", 3)
        found = access.read(TargetRecord, kv) if there else None
        old = self._targets[group_id].pop(name, None)
        touched = set()
        if old is not None and old.record.task_id:
            task_id = old.record.task_id
            touched.add(task_id)
            self._of_task[task_id].discard((group_id, name))
            if not self._of_task[task_id]:
                del self._of_task[task_id]
        if found is not None:
            self._targets[group_id][name] = found
            if found.record.task_id:
                touched.add(found.record.task_id)
                self._of_task[found.record.task_id].add((group_id, name))
        if not self._targets[group_id]:
            del self._targets[group_id]
        return touched

    def _apply_health(self, kv: KeyValue, *, there: bool) -> set[str]:
        _, _, ingress_id, group_id = kv.key.split("/", 3)
        found = access.read(HealthRecord, kv) if there else None
        old = self._reports[group_id].pop(ingress_id, None)
        if found is not None:
            self._reports[group_id][ingress_id] = found.record
        if not self._reports[group_id]:
            del self._reports[group_id]
        before = old.targets if old is not None else {}
        after = found.record.targets if found is not None else {}
        changed = {
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        }
        return set(self._tasks_of(group_id, changed))

    def _apply_listener(self, kv: KeyValue, *, there: bool) -> set[str]:
        found = access.read(ListenerRecord, kv) if there else None
        old = self._listeners.pop(kv.key, None)
        groups = set()
        if old is not None:
            groups |= forwarding.groups_of(old.record)
            for arn in forwarding.groups_of(old.record):
                self._users[arn].discard(kv.key)
        if found is not None:
            self._listeners[kv.key] = found
            groups |= forwarding.groups_of(found.record)
            for arn in forwarding.groups_of(found.record):
                self._users[arn].add(kv.key)
        for arn in groups:
            if not self._users[arn]:
                del self._users[arn]
        ids = [naming.target_group_id(arn) for arn in groups]
        return {task for group_id in ids for task in self._tasks_of(group_id)}

    def _apply_ingress(self, kv: KeyValue, *, there: bool) -> set[str]:
        name = records.last_element(kv.key)
        self._ingresses.pop(name, None)
        if there:
            found = access.read(IngressRecord, kv)
            names = found.record.load_balancers if found is not None else ()
            self._ingresses[name] = frozenset(names)
        return set(self._of_task)

    def _tasks_of(self, group_id: str, names: set[str] | None = None) -> Iterator[str]:
        for name, found in self._targets.get(group_id, {}).items():
            if found.record.task_id and (names is None or name in names):
                yield found.record.task_id
