"""The loop behind services: wakes when something changed or a time has come, and plans again.

A change of a service, of its tasks or of their hosts wakes that service. A service whose tasks found no
room is also woken when room may have appeared in its cluster, but less and less often. Services take
turns; a turn ends when there is nothing to do. What fails is logged and tried again.

A second loop over the same store, or a restart at any moment, is safe: see the package.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.controlplane import records
from agent.controlplane.front.errors import ApiError
from agent.controlplane.loadbalancing import balancer_view
from agent.controlplane.scheduler.placement import PlacementError
from agent.controlplane.scheduler.query import QueryError
from agent.controlplane.services import acts, launching, places, task_sets
from agent.controlplane.services.due import DueTimes
from agent.controlplane.services.launching import Launched
from agent.controlplane.services.record import group as group_of
from agent.controlplane.services.step import step
from agent.controlplane.services.task_sets import Launch
from agent.controlplane.store.contract import Compacted, StoreFailure

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.parts import Parts
    from agent.controlplane.services.launching import Order
    from agent.controlplane.services.observed import Observed
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord
    from agent.controlplane.services.view import ServiceKey

ACTS_IN_A_TURN = 16
"""After this many acts, other services get their turn."""
TURN_LIMIT_S = 60.0
FIRST_HOLD_S = 1.0
LONGEST_HOLD_S = 60.0
_LONGEST_SLEEP_S = 600.0
"""Due times are wall-clock times; after this, the clock is read again."""
_RETRY_S = 1.0
_CONFLICT_S = 0.02
_WATCHED = (
    *(records.SERVICES, records.TASKS, records.INSTANCES, records.ALIVE),
    *balancer_view.PREFIXES,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Hold:
    """Nothing is launched for a service for a while, because it did not work."""

    until: float
    tries: int
    of: tuple[str, int]
    """The deployment and the desired count that did not work; with others it is tried at once."""


class ServiceLoop:
    """Keeps every service of one store as it should be."""

    def __init__(self, parts: Parts, rng: random.Random | None = None) -> None:
        self._parts = parts
        self._view = parts.services
        self._rng = rng or random.SystemRandom()
        self._woken = asyncio.Event()
        self._dirty: set[ServiceKey] = set()
        self._due = DueTimes()
        self._holds: dict[ServiceKey, dict[str, _Hold]] = {}
        """By id of the task set, which is empty for a service that has none."""
        self._view.when_alarms_change(self._woken.set)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="changes of services")
            group.create_task(self._work(), name="turns of services")

    async def settle(self) -> None:
        """Take turns until nothing is left to do now.

        Raises:
            StoreFailure, TimeoutError: the turns of some services failed. They are tried again after a
                moment; the others were taken.
        """
        problem: Exception | None = None
        await self._look()
        while self._dirty:
            key = self._dirty.pop()
            try:
                await self._turn(key)
            except (StoreFailure, TimeoutError) as error:
                problem = error
                self._due.note(key, self._parts.clock() + _RETRY_S)
            await self._look()
        if problem is not None:
            raise problem

    async def _listen(self) -> None:
        """Wake the loop for every change that may matter."""
        store = self._parts.store
        while True:
            try:
                async with store.watch("/", after_revision=store.revision) as watch:
                    self._woken.set()
                    async for batch in watch:
                        if any(event.kv.key.startswith(_WATCHED) for event in batch.events):
                            self._woken.set()
            except Compacted:
                _log.warning("services fell behind; reading the store again")
            except StoreFailure as error:
                _log.warning(
                    "services get no changes from the store; trying again", error=str(error)
                )
                await asyncio.sleep(_RETRY_S)

    async def _work(self) -> None:
        while True:
            try:
                await self._wait()
                await self.settle()
            except (StoreFailure, TimeoutError) as error:
                _log.warning("services cannot be updated; trying again", error=repr(error))
                await asyncio.sleep(_RETRY_S)
                self._woken.set()

    async def _wait(self) -> None:
        """Return when something has changed or a turn is due."""
        now, due = self._parts.clock(), self._due.first()
        sleep_s = _LONGEST_SLEEP_S if due is None else min(max(0.0, due - now), _LONGEST_SLEEP_S)
        try:
            async with asyncio.timeout(sleep_s):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        """Find the services that need a turn."""
        self._woken.clear()
        await self._view.read()
        now = self._parts.clock()
        changes = self._view.take_changes()
        self._dirty |= changes.services
        for cluster in changes.clusters:
            self._dirty |= self._view.daemons(cluster)
        for key, holds in self._holds.items() if changes.clusters else ():
            if key.cluster in changes.clusters or self._borrows(key):
                self._due.note(key, max(now, min(hold.until for hold in holds.values())))
        self._dirty.update(self._due.take(now))

    def _borrows(self, key: ServiceKey) -> bool:
        """Return whether tasks of a service may be placed on hosts of other clusters."""
        found = self._view.service(key)
        return found is not None and any(d.platform_version for d in found.record.deployments)

    async def _turn(self, key: ServiceKey) -> None:
        """Do for one service what can be done now."""
        self._due.drop(key)
        try:
            async with asyncio.timeout(TURN_LIMIT_S):
                for _ in range(ACTS_IN_A_TURN):
                    if not await self._act(key):
                        return
                    await self._view.read()
        except (StoreFailure, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of one service must not stop all others
            _log.error(
                "service cannot be updated; trying again in a minute",
                service=key.name,
                cluster=key.cluster,
                error=repr(error),
            )
            self._due.note(key, self._parts.clock() + LONGEST_HOLD_S)
            return
        self._dirty.add(key)

    async def _act(self, key: ServiceKey) -> bool:
        """Do one thing for a service; False if nothing is left to do now."""
        found = self._view.service(key)
        self._forget_holds(key, found.record if found is not None else None)
        if found is None:
            return False
        now = self._parts.clock()
        seen, order = await self._observe(key, found)
        if task_sets.is_active(found.record):
            plan, launches = task_sets.step(found.record, seen, now)
        else:
            plan = step(found.record, seen, now)
            launches = [Launch(plan, seen)] if plan.start else []
        if plan.wake_at is not None:
            self._due.note(key, plan.wake_at)
        if plan.service is not found.record or plan.stops or plan.counted:
            if not await acts.commit(self._parts.store, found, plan, now):
                await self._yield()
            return True
        for one in launches:
            if await self._launch(key, found, one, order):
                return True
        return False

    def _forget_holds(self, key: ServiceKey, service: ServiceRecord | None) -> None:
        """Forget the holds of a service that is gone, and of its task sets that are."""
        holds = self._holds.pop(key, None)
        if holds is None or service is None:
            return
        kept = {one.id for one in service.task_sets} if service.is_external else {""}
        if left := {name: hold for name, hold in holds.items() if name in kept}:
            self._holds[key] = left

    async def _observe(
        self, key: ServiceKey, found: Found[ServiceRecord]
    ) -> tuple[Observed, Order | None]:
        """Return what a step needs to see, and what to launch if that had to be found out for it."""
        seen, order = await self._observe_tasks(key, found)
        return await places.with_places(self._parts, found.record, seen), order

    async def _observe_tasks(
        self, key: ServiceKey, found: Found[ServiceRecord]
    ) -> tuple[Observed, Order | None]:
        service, seen = found.record, self._view.observed(key)
        if service.status != "ACTIVE":
            return seen, None
        if service.is_daemon:
            order = await self._order(key, found, service, service.primary)
            hosts = await self._parts.fleet.read(key.cluster)
            daemons = {group_of(each.name) for each in self._view.daemons(key.cluster)}
            known = launching.seen_hosts(order, hosts, seen, daemons | {service.group})
            return self._view.observed(key, known, is_refused=order is None), order
        if service.placement_strategy:
            hosts = await self._parts.fleet.read(key.cluster)
            return self._view.observed(key, launching.roomy_hosts(hosts, seen)), None
        return seen, None

    async def _order(
        self,
        key: ServiceKey,
        found: Found[ServiceRecord],
        service: ServiceRecord,
        deployment: DeploymentRecord,
    ) -> Order | None:
        """Return what to launch for a deployment of a service, or of one of its task sets."""
        try:
            return await launching.read_order(self._parts, found.record, deployment)
        except (ApiError, PlacementError, QueryError) as error:
            await launching.explain(self._parts, found, service, str(error))
            self._due.note(key, self._hold(key, found, service))
            return None

    async def _launch(
        self,
        key: ServiceKey,
        found: Found[ServiceRecord],
        launch: Launch,
        order: Order | None,
    ) -> bool:
        service = launch.plan.service
        hold = self._holds.get(key, {}).get(_set_id(found, service))
        if hold is not None and hold.of != _what(service):
            self._release(key, found, service)
        elif hold is not None and self._parts.clock() < hold.until:
            self._due.note(key, hold.until)
            return False
        order = order or await self._order(key, found, service, launch.plan.deployment)
        if order is None:
            return False
        outcome = await launching.start(
            self._parts, found, launch.plan, order, launch.seen, self._rng
        )
        if outcome is Launched.SOME:
            self._hold(key, found, service)
            return False
        if outcome is Launched.ALL:
            self._release(key, found, service)
        else:
            await self._yield()
        return True

    def _hold(self, key: ServiceKey, found: Found[ServiceRecord], service: ServiceRecord) -> float:
        """Launch nothing for the service, or the task set, for a while, longer each time; return until when."""
        holds = self._holds.setdefault(key, {})
        old = holds.get(_set_id(found, service))
        tries = old.tries + 1 if old is not None else 0
        wait_s = min(FIRST_HOLD_S * 2.0 ** min(tries, 10), LONGEST_HOLD_S)
        until = self._parts.clock() + wait_s
        holds[_set_id(found, service)] = _Hold(until, tries, _what(service))
        return until

    def _release(
        self, key: ServiceKey, found: Found[ServiceRecord], service: ServiceRecord
    ) -> None:
        """Forget that nothing was to be launched for the service, or the task set."""
        holds = self._holds.get(key, {})
        holds.pop(_set_id(found, service), None)
        if not holds:
            self._holds.pop(key, None)

    async def _yield(self) -> None:
        """Let the other scheduler, or whoever else was faster, go on."""
        await asyncio.sleep(random.uniform(0, _CONFLICT_S))  # noqa: S311 - spreads retries


def _set_id(found: Found[ServiceRecord], service: ServiceRecord) -> str:
    return service.primary.id if found.record.is_external else ""


def _what(service: ServiceRecord) -> tuple[str, int]:
    return service.primary.id, service.desired_count
