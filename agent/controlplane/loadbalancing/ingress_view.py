"""What ingresses are told, in memory: updated by what the store commits, with a number for each change. Pure.

The numbers only mean something together with ``run``: a view that was loaded anew has another one, and
then everything is told again.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeVar

from agent.controlplane import access
from agent.controlplane.loadbalancing import balancer_records, ingress_truth
from agent.controlplane.loadbalancing.balancer_records import (
    ListenerRecord,
    LoadBalancerRecord,
    TargetGroupRecord,
    TargetRecord,
)
from agent.model.ingress import Truth

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.controlplane.records import Record
    from agent.controlplane.store.contract import Event

PREFIXES: Final = (
    balancer_records.LOAD_BALANCERS,
    balancer_records.LISTENERS,
    balancer_records.TARGET_GROUPS,
    balancer_records.TARGETS,
)
"""Keys that the view follows."""
_RecordT = TypeVar("_RecordT", bound="Record")


class IngressView:
    """Load balancers, listeners, groups and targets, and when each of them has changed."""

    def __init__(self) -> None:
        self.run = uuid.uuid4().hex
        self._serial = 1
        self._balancers: dict[str, LoadBalancerRecord] = {}
        """By key; so are the next two."""
        self._listeners: dict[str, ListenerRecord] = {}
        self._groups: dict[str, TargetGroupRecord] = {}
        self._shape_changed = 1
        """Number of the last change of any of these."""
        self._targets = defaultdict[str, dict[str, TargetRecord]](dict)
        """By group id and key."""
        self._targets_changed: dict[str, int] = {}
        """Number of the last change of the targets of a group, by its id."""
        self._draining: dict[str, TargetRecord] = {}
        """By key; those whose time was not over at the last ``expire``."""

    def apply(self, event: Event) -> None:
        """Take note of one key; those of others are ignored."""
        key = event.kv.key
        if key.startswith(balancer_records.TARGETS):
            self._apply_target(event)
        elif key.startswith(balancer_records.LISTENERS):
            self._apply_shape(self._listeners, ListenerRecord, event)
        elif key.startswith(balancer_records.TARGET_GROUPS):
            self._apply_shape(self._groups, TargetGroupRecord, event)
        elif key.startswith(balancer_records.LOAD_BALANCERS):
            self._apply_shape(self._balancers, LoadBalancerRecord, event)

    def expire(self, now: float) -> float | None:
        """Take note of targets whose time is over; return when the next one's is, in Unix seconds."""
        for key, target in list(self._draining.items()):
            if target.is_gone(now):
                del self._draining[key]
                self._touch(key)
        return min((each.drains_until for each in self._draining.values()), default=None)

    @property
    def group_ids(self) -> set[str]:
        """The ids of all target groups."""
        return {each.id for each in self._groups.values()}

    def truth(
        self, run: str, after: int, names: Collection[str], now: float, *, is_known: bool
    ) -> Truth | None:
        """Return what has changed for an ingress; None for nothing.

        Args:
            run: of the view that ``after`` is of.
            after: number of the last change that it knows.
            names: of the load balancers that it serves; none for all.
            now: Unix seconds.
            is_known: whether it has reported, and lives.
        """
        after = after if run == self.run and after <= self._serial else 0
        if after == self._serial:
            return None
        served = {
            each.name: each for each in self._balancers.values() if not names or each.name in names
        }
        of = [each for each in self._listeners.values() if each.load_balancer in served]
        groups = ingress_truth.groups(self._groups.values(), of)
        is_new = self._shape_changed > after
        # A group that a listener begins to name may have targets from before.
        told = [
            each.id for each in groups if is_new or self._targets_changed.get(each.id, 0) > after
        ]
        if not is_new and not told:
            return Truth(run=self.run, serial=self._serial, is_known=is_known)
        return Truth(
            run=self.run,
            serial=self._serial,
            is_known=is_known,
            listeners=ingress_truth.listeners(served, of) if is_new else None,
            groups=groups if is_new else None,
            targets={
                each: ingress_truth.targets(self._targets.get(each, {}).values(), now)
                for each in told
            },
        )

    def _apply_shape(self, kept: dict[str, _RecordT], kind: type[_RecordT], event: Event) -> None:
        found = access.read(kind, event.kv) if event.type == "put" else None
        old = kept.pop(event.kv.key, None)
        if found is not None:
            kept[event.kv.key] = found.record
        if old != (found.record if found is not None else None):
            self._serial += 1
            self._shape_changed = self._serial

    def _apply_target(self, event: Event) -> None:
        key, group_id = event.kv.key, event.kv.key.split("/")[2]
        found = access.read(TargetRecord, event.kv) if event.type == "put" else None
        self._draining.pop(key, None)
        self._targets[group_id].pop(key, None)
        if found is not None:
            self._targets[group_id][key] = found.record
            if found.record.drains_until:
                self._draining[key] = found.record
        self._touch(key)

    def _touch(self, key: str) -> None:
        self._serial += 1
        self._targets_changed[key.split("/")[2]] = self._serial
