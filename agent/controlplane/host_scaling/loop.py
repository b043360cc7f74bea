"""The loop behind managed scaling: wakes when tasks or hosts of a cluster have changed, and decides again.

What it costs depends on what changes: nothing is read for clusters without such a capacity provider, and several
changes within a moment are looked at once. A restart at any moment is safe: see the package.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane import access, records
from agent.controlplane.host_scaling import placing, scaling
from agent.controlplane.host_scaling.caller import Caller
from agent.controlplane.host_scaling.hooks import Pair
from agent.controlplane.host_scaling.record import PREFIX
from agent.controlplane.records import ClusterRecord
from agent.controlplane.store.contract import Compacted, Delete, StoreFailure
from agent.controlplane.tasks import providers
from agent.controlplane.tasks.providers import CapacityProviderRecord

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.host_scaling.hooks import HostHooks
    from agent.controlplane.parts import Parts
    from agent.controlplane.store.contract import Event

TURN_LIMIT_S: Final = 60.0
SETTLE_S: Final = 0.2
"""How long changes are collected before they are looked at."""
_LONGEST_SLEEP_S: Final = 600.0
"""Due times are wall-clock times; after this, the clock is read again."""
_RETRY_S: Final = 1.0
_ROUNDS: Final = 100
"""Of placing, in one turn."""
_OF_CLUSTERS: Final = (records.TASKS, records.INSTANCES)
_WATCHED: Final = (*_OF_CLUSTERS, records.ALIVE, records.CLUSTERS, providers.PREFIX)

_log = structlog.get_logger(__name__)


class HostScalingLoop:
    """Keeps the hosts of one store's capacity providers with managed scaling."""

    def __init__(
        self, parts: Parts, hooks: HostHooks, notes: Path, rng: random.Random | None = None
    ) -> None:
        """Take what is needed; ``notes`` is a directory for what says which programs run, which exists."""
        self._parts = parts
        self._hooks = hooks
        self._notes = notes
        self._rng = rng or random.SystemRandom()
        self._woken = asyncio.Event()
        self._dirty: set[str] = set()
        """Names of clusters."""
        self._due: dict[str, float] = {}
        """When to look at a cluster without a change; Unix seconds."""
        self._providers: dict[str, CapacityProviderRecord] = {}
        self._clusters: dict[str, list[str]] = {}
        """The capacity providers of each cluster that has some."""
        self._callers: dict[Pair, Caller] = {}
        self._lost_since: dict[str, float] = {}
        """By the ids of hosts that are disconnected."""
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[Pair, asyncio.Task[None]] = {}
        hooks.on_reload.append(self._wake_all)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for caller in self._callers.values():
                self._start(caller)
            group.create_task(self._listen(), name="changes of hosts")
            group.create_task(self._work(), name="turns of managed scaling")

    async def settle(self) -> None:
        """Take the turns that are due now.

        Raises:
            StoreFailure, TimeoutError: a turn failed; it is tried again after a moment, the others were taken.
        """
        problem: Exception | None = None
        now = self._parts.clock()
        self._dirty |= {cluster for cluster, at in self._due.items() if at <= now}
        while self._dirty:
            cluster = self._dirty.pop()
            self._due.pop(cluster, None)
            try:
                async with asyncio.timeout(TURN_LIMIT_S):
                    await self._turn(cluster)
            except (StoreFailure, TimeoutError) as error:
                problem = error
                self._due[cluster] = self._parts.clock() + _RETRY_S
            except Exception as error:  # noqa: BLE001 - a fault of one cluster must not stop all others
                _log.error("hosts are not scaled; trying again", cluster=cluster, error=repr(error))
                self._due[cluster] = self._parts.clock() + TURN_LIMIT_S
        if problem is not None:
            raise problem

    async def load(self) -> None:
        """Read all capacity providers and clusters, and look at all that matter; raises what the store raises."""
        store = self._parts.store
        self._providers = {
            found.record.name: found.record
            async for found in access.scan(store, CapacityProviderRecord, providers.PREFIX)
        }
        self._clusters = {
            found.record.name: found.record.capacity_providers
            async for found in access.scan(store, ClusterRecord, records.CLUSTERS)
            if found.record.status == providers.ACTIVE
        }
        self._dirty |= self._concerned()
        await self._forget_others()

    def _concerned(self) -> set[str]:
        """Return the clusters that have a capacity provider whose tasks wait, or may wait still."""
        return {
            cluster
            for cluster, names in self._clusters.items()
            if any(name in self._providers for name in names)
        }

    async def _listen(self) -> None:
        """Take note of every change that may matter."""
        store = self._parts.store
        while True:
            try:
                async with store.watch("/", after_revision=store.revision) as watch:
                    await self.load()
                    self._woken.set()
                    async for batch in watch:
                        for event in batch.events:
                            if event.kv.key.startswith(_WATCHED):
                                await self._note(event)
            except Compacted:
                _log.warning("managed scaling fell behind; reading the store again")
            except StoreFailure as error:
                _log.warning("managed scaling gets no changes; trying again", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _note(self, event: Event) -> None:
        key = event.kv.key
        if key.startswith(_OF_CLUSTERS):
            touched = {key.split("/")[2]} & self._concerned()
        elif key.startswith(records.ALIVE):
            touched = self._concerned()
        else:
            await self.load()
            touched = self._concerned()
        if touched:
            self._dirty |= touched
            self._woken.set()

    async def _work(self) -> None:
        while True:
            try:
                await self._wait()
                await asyncio.sleep(SETTLE_S)
                self._woken.clear()
                await self.settle()
            except (StoreFailure, TimeoutError) as error:
                _log.warning("hosts cannot be scaled; trying again", error=repr(error))
                await asyncio.sleep(_RETRY_S)

    async def _wait(self) -> None:
        """Return when something has changed or a turn is due."""
        due = min(self._due.values(), default=None)
        wait_s = _LONGEST_SLEEP_S if due is None else max(0.0, due - self._parts.clock())
        try:
            async with asyncio.timeout(min(wait_s, _LONGEST_SLEEP_S)):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _turn(self, cluster: str) -> None:
        """Place what waits in a cluster, and decide about its hosts."""
        parts = self._parts
        for _ in range(_ROUNDS):
            hosts = await parts.fleet.read(cluster)
            waiting = await placing.waiting_tasks(parts, cluster)
            places = await parts.fleet.places(cluster)
            if not await placing.place(parts, places, waiting, self._rng):
                break
        tasks = [one.record for one in waiting]
        moments = [task.created_at + placing.WAIT_LIMIT_S for task in tasks]
        self._note_lost(hosts.values())
        for pair in self._pairs(cluster):
            wake_at = await self._scale(pair, hosts, tasks)
            moments += [wake_at] if wake_at is not None else []
        if moments:
            self._due[cluster] = min([*moments, self._due.get(cluster, min(moments))])

    def _pairs(self, cluster: str) -> list[Pair]:
        """Return the capacity providers of a cluster that have managed scaling."""
        return [
            Pair(cluster, name)
            for name in self._clusters.get(cluster, ())
            if (one := self._providers.get(name)) is not None and one.is_scaled
        ]

    def _note_lost(self, hosts: scaling.Hosts) -> None:
        now = self._parts.clock()
        for host in hosts:
            if host.instance.agent_connected:
                self._lost_since.pop(host.record.id, None)
            else:
                self._lost_since.setdefault(host.record.id, now)

    async def _scale(
        self, pair: Pair, hosts: scaling.ByArn, waiting: list[records.TaskRecord]
    ) -> float | None:
        """Decide about the hosts of a capacity provider; return when to look again."""
        hook = self._hooks.of(pair.provider)
        if hook is None:
            self._stop(pair)
            self._hooks.troubles[pair] = scaling.no_hook(self._hooks.file, pair.provider)
            return None
        caller = self._caller(pair)
        if self._hooks.troubles.get(pair, "").startswith(scaling.NO_PROGRAM):
            del self._hooks.troubles[pair]
        seen = await scaling.see(self._parts, pair, hosts, waiting, self._lost_since)
        await scaling.end_told(self._parts, seen, caller.done)
        provider = self._providers[pair.provider]
        decision = scaling.decide(seen, provider, hook, self._parts.clock())
        self._hooks.figures[pair] = scaling.figures(decision)
        if not await scaling.commit(self._parts.store, seen, decision):
            self._dirty.add(pair.cluster)
            self._woken.set()
            return None
        scaling.tell(seen, decision)
        self._tell_unfit(pair, seen.demand.unfit)
        document = scaling.document(self._parts.names, seen, provider, decision)
        caller.want(hook, decision.order, document)
        return decision.wake_at

    def _tell_unfit(self, pair: Pair, unfit: int) -> None:
        if unfit:
            self._hooks.unfit[pair] = unfit
        else:
            self._hooks.unfit.pop(pair, None)

    def _caller(self, pair: Pair) -> Caller:
        known = self._callers.get(pair)
        if known is None:
            note = self._notes / f"{pair.cluster}.{pair.provider}"
            known = Caller(pair, self._hooks, note, lambda: self._wake(pair.cluster))
            self._callers[pair] = known
            self._start(known)
        return known

    def _start(self, caller: Caller) -> None:
        if self._group is not None:
            name = f"hosts of {caller.pair.provider} in {caller.pair.cluster}"
            self._tasks[caller.pair] = self._group.create_task(caller.run(), name=name)

    def _stop(self, pair: Pair) -> None:
        """Tell the program of a capacity provider nothing more; a run is ended."""
        self._callers.pop(pair, None)
        task = self._tasks.pop(pair, None)
        if task is not None:
            task.cancel()

    def _wake_all(self) -> None:
        self._dirty |= self._concerned()
        self._woken.set()

    def _wake(self, cluster: str) -> None:
        self._dirty.add(cluster)
        self._woken.set()

    async def _forget_others(self) -> None:
        """Forget the capacity providers that have no managed scaling any more, or left their cluster."""
        kept = {pair for cluster in self._clusters for pair in self._pairs(cluster)}
        for pair in [pair for pair in self._callers if pair not in kept]:
            self._stop(pair)
        self._hooks.keep(kept)
        store = self._parts.store
        async for page in access.pages(store, PREFIX):
            for kv in page:
                _, _, cluster, provider = kv.key.split("/")
                if Pair(cluster, provider) not in kept:
                    await store.txn([], [Delete(kv.key)], urgent=True)
