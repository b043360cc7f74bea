"""The loop behind scheduled actions: wakes when a target changes or the time of an action has come."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import structlog

from agent.controlplane import access, records
from agent.controlplane.scaling import acts, scheduled
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.target import ScalableTarget
from agent.controlplane.services.record import ACTIVE, ServiceRecord
from agent.controlplane.store.contract import Compacted, StoreFailure

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.parts import Parts
    from agent.controlplane.scaling.target import Activity
    from agent.controlplane.store.contract import Watch

_LONGEST_SLEEP_S = 600.0
"""Due times are wall-clock times; after this, the clock is read again."""
_RETRY_S = 1.0

_log = structlog.get_logger(__name__)


class ActionLoop:
    """Carries out the scheduled actions of one store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._due: dict[str, float] = {}
        """By the key of a target that has actions."""

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._follow()
            except Compacted:
                _log.warning("scheduled actions fell behind; reading the store again")
            except (StoreFailure, TimeoutError) as error:
                _log.warning("scheduled actions cannot be done; trying again", error=repr(error))
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        store = self._parts.store
        revision = store.revision
        await self.load()
        async with store.watch(kinds.TARGETS, after_revision=revision) as watch:
            while True:
                await self.act()
                await self._wait(watch)

    async def load(self) -> None:
        """Read when the actions of all targets are due; raises what the store raises."""
        self._due.clear()
        async for found in access.scan(self._parts.store, ScalableTarget, kinds.TARGETS):
            self._note(found.kv.key, found.record)

    async def _wait(self, watch: Watch) -> None:
        """Return when a target has changed or an action is due."""
        wait_s = min(self._due.values(), default=math.inf) - self._parts.clock()
        try:
            async with asyncio.timeout(min(max(0.0, wait_s), _LONGEST_SLEEP_S)):
                batch = await anext(watch)
        except TimeoutError:
            return
        for event in batch.events:
            found = access.read(ScalableTarget, event.kv) if event.type == "put" else None
            self._note(event.kv.key, found.record if found is not None else None)

    def _note(self, key: str, target: ScalableTarget | None) -> None:
        due = scheduled.next_due(target) if target is not None else math.inf
        if due < math.inf:
            self._due[key] = due
        else:
            self._due.pop(key, None)

    async def act(self) -> None:
        """Do the actions whose time has come; raises what the store raises."""
        now = self._parts.clock()
        for key in [key for key, at in self._due.items() if at <= now]:
            found = await access.find(self._parts.store, ScalableTarget, key)
            if found is None:
                del self._due[key]
                continue
            self._note(key, await self._act_on(found, now))

    async def _act_on(self, found: Found[ScalableTarget], now: float) -> ScalableTarget:
        """Do what is due for a target, and return it as it is then."""
        target = found.record
        key = records.service_key(target.cluster, target.service)
        service = await access.find(self._parts.store, ServiceRecord, key)
        changed, activities = after_actions(target, now)
        if service is None or service.record.status != ACTIVE:
            return changed  # the target goes with its service
        desired = service.record.desired_count
        cause = next((one.cause for one in activities if one.status == kinds.SUCCESSFUL), None)
        if cause is not None and changed.within(desired) != desired:
            desired = changed.within(desired)
            activities = [acts.activity(cause, desired, now), *activities]
        done = await acts.commit(
            self._parts.store,
            service,
            found.kv,
            changed,
            desired=desired,
            activities=activities,
            now=now,
        )
        return changed if done else target


def after_actions(target: ScalableTarget, now: float) -> tuple[ScalableTarget, list[Activity]]:
    """Return a target after all actions that are due, and their activities, newest first. Pure."""
    activities: list[Activity] = []
    for due in scheduled.passed(target, now):
        if target.suspended.scheduled:
            target = scheduled.with_done(target, due)
            continue
        cause = f"scheduled action name {due.action.name} was triggered"
        changed = scheduled.with_limits(target, due)
        if changed is None:
            target = scheduled.with_done(target, due)
            activities.insert(0, acts.failed_limits(cause, target, due.action, now))
        else:
            target = changed
            activities.insert(0, acts.limits_activity(cause, target, now))
    return target, activities
