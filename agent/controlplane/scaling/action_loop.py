"""The loop behind scheduled actions: wakes when a target changes or the time of an action has come.

It remembers when the next action of each target is due, and reads the target when that time has come. A second
loop over the same store, or a restart at any moment, is safe: what an action does is in the transaction that
records it as done.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane import access, records
from agent.controlplane.scaling import acts, scheduled
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.target import ScalableTarget
from agent.controlplane.schedules import expressions
from agent.controlplane.services.record import ServiceRecord
from agent.controlplane.store.contract import Compacted, StoreFailure

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.parts import Parts
    from agent.controlplane.scaling.target import Activity
    from agent.controlplane.store.contract import Watch

_LONGEST_SLEEP_S: Final = 600.0
"""Due times are wall-clock times; after this, the clock is read again."""
_RETRY_S: Final = 1.0
_CONFLICT_S: Final = 0.02
_TURN_LIMIT_S: Final = 60.0
_AGAIN_S: Final = 60.0
"""After how long a target whose turn failed is looked at again; if the store failed, that is ``_RETRY_S``."""

_log = structlog.get_logger(__name__)


class ActionLoop:
    """Carries out the scheduled actions of one store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._due: dict[str, float] = {}
        """When to look at a target that has actions, by its key; Unix seconds."""

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._follow()
            except Compacted:
                _log.warning("scheduled actions fell behind; reading the store again")
            except StoreFailure as error:
                _log.warning(
                    "scheduled actions get no changes from the store; trying again",
                    error=str(error),
                )
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        store = self._parts.store
        async with store.watch(kinds.TARGETS, after_revision=store.revision) as watch:
            await self.load()
            while True:
                await self.act()
                await self._wait(watch)

    async def load(self) -> None:
        """Look at all targets with actions as soon as possible; raises what the store raises."""
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
        if target is not None and target.actions:
            self._due[key] = 0.0
        else:
            self._due.pop(key, None)

    async def act(self) -> None:
        """Do the actions whose time has come; what cannot be done is tried again."""
        now = self._parts.clock()
        for key in [key for key, at in self._due.items() if at <= now]:
            try:
                async with asyncio.timeout(_TURN_LIMIT_S):
                    due = await self._turn(key)
            except (StoreFailure, TimeoutError) as error:
                _log.warning(
                    "scheduled actions cannot be done; trying again", key=key, error=repr(error)
                )
                due = now + _RETRY_S
            except Exception as error:  # noqa: BLE001 - a fault of one target must not stop all others
                _log.error(
                    "scheduled actions cannot be done; trying again in a minute",
                    key=key,
                    error=repr(error),
                )
                due = now + _AGAIN_S
            if due < math.inf:
                self._due[key] = due
            else:
                del self._due[key]

    async def _turn(self, key: str) -> float:
        """Do what is due for a target now, and return when to look at it again; infinity for never."""
        while True:
            found = await access.find(self._parts.store, ScalableTarget, key)
            if found is None:
                return math.inf
            for zone in {action.zone for action in found.record.actions}:
                await asyncio.to_thread(expressions.zone, zone)  # its file is read at first
            after = await self._act_on(found, self._parts.clock())
            if after is not None:
                return scheduled.next_due(after)
            # An operator, a policy or another loop was faster.
            await asyncio.sleep(random.uniform(0, _CONFLICT_S))  # noqa: S311 - spreads retries

    async def _act_on(self, found: Found[ScalableTarget], now: float) -> ScalableTarget | None:
        """Do what is due for a target, and return it as it is then; None if others changed it meanwhile."""
        target = found.record
        changed, activities = after_actions(target, now)
        if changed is target:
            return target
        key = records.service_key(target.cluster, target.service)
        service = await access.find(self._parts.store, ServiceRecord, key)
        if service is None or not acts.belongs(target, service.record):
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
        if not done:
            return None
        _tell(target, activities)
        return changed


def _tell(target: ScalableTarget, activities: list[Activity]) -> None:
    for one in reversed(activities):
        about = {"target": target.resource_id, "cause": one.cause}
        if one.status == kinds.FAILED:
            _log.warning("scheduled action failed", **about, why=one.message)
        else:
            _log.info("scheduled action done", **about, did=one.description)


def after_actions(target: ScalableTarget, now: float) -> tuple[ScalableTarget, list[Activity]]:
    """Return a target after all actions that are due, and their activities, newest first. Pure."""
    activities: list[Activity] = []
    for due in scheduled.passed(target, now):
        if target.suspended.scheduled:
            target = scheduled.with_done(target, due)
            continue
        cause = f"scheduled action name {due.action.name} was triggered"
        activities.insert(0, acts.limits_activity(cause, target.limits(due.action), now))
        target = scheduled.with_limits(target, due) or scheduled.with_done(target, due)
    return target, activities
