"""Services with their tasks and hosts in memory, updated by what the store commits.

Everything is loaded once and then followed with one watch, so that the cost of a read depends on what has
changed. It also says what changed: the services whose plan may be another one now, and the clusters in
which room for tasks may have appeared. Tasks of no service take no memory.

For one event loop; reads take turns. Reads the store, writes nothing, and raises what the store raises.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from agent.controlplane import access, records
from agent.controlplane.loadbalancing import balancer_view
from agent.controlplane.loadbalancing.balancer_view import BalancerView
from agent.controlplane.services import balancing, deployment_alarms, traffic_shift
from agent.controlplane.services.balancing import Balanced
from agent.controlplane.services.observed import Observed, SeenAlarms, SeenHost, SeenTask
from agent.controlplane.services.record import INACTIVE, ServiceRecord
from agent.controlplane.store.contract import Compacted, Event, KeyValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.loadbalancing.balancer_records import ListenerRecord
    from agent.controlplane.loadbalancing.balancer_view import SeenTarget
    from agent.controlplane.services.record import AlarmWatch
    from agent.controlplane.store.contract import Store, Watch

_GROUP = "service:"
_LOADED = (
    *(records.ALIVE, records.INSTANCES, records.SERVICES, records.TASKS),
    *balancer_view.PREFIXES,
)


class ServiceKey(NamedTuple):
    """Which service."""

    cluster: str
    name: str


class Changes(NamedTuple):
    """What may need a new step."""

    services: set[ServiceKey]
    clusters: set[str]
    """Where room for tasks may have appeared, or hosts for daemons."""


class _Instance(Struct, frozen=True, rename="camel"):
    """The fields of an ``InstanceRecord`` that matter here."""

    status: str = "ACTIVE"
    cluster: str = ""


class ServiceView:
    """All services of all clusters."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._turn = asyncio.Lock()
        self._watch: Watch | None = None
        self._lost_since: dict[str, float] = {}
        """By instance id; kept when everything is loaded again."""
        self._changes = Changes(set(), set())
        self._alarms = SeenAlarms()
        """Not of the store; kept when everything is loaded again."""
        self._on_alarms: list[Callable[[], object]] = []
        self._clear()

    def _clear(self) -> None:
        self._revision = 0
        self.balancing = BalancerView()
        """Listeners, targets and their health; replaced when everything is loaded again."""
        self._services: dict[ServiceKey, Found[ServiceRecord]] = {}
        self._daemons = defaultdict[str, set[ServiceKey]](set)
        """By cluster."""
        self._watching: dict[ServiceKey, AlarmWatch] = {}
        """The alarms of services that watch some now."""
        self._tasks = defaultdict[ServiceKey, dict[str, SeenTask]](dict)
        self._of_task: dict[str, ServiceKey] = {}
        """By task id, like the next."""
        self._host_of: dict[str, str] = {}
        self._on_host = defaultdict[str, set[str]](set)
        """Ids of service tasks by instance id."""
        self._instances: dict[str, _Instance] = {}
        self._alive: set[str] = set()

    async def read(self) -> None:
        """Take in everything that was committed before the call."""
        async with self._turn:
            target = self._store.revision
            try:
                await self._follow(target)
            except Compacted:
                await self._forget()
                await self._follow(target)
            except BaseException:
                await self._forget()
                raise

    def take_changes(self) -> Changes:
        """Return what has changed since the last call."""
        taken, self._changes = self._changes, Changes(set(), set())
        return taken

    def when_alarms_change(self, wake: Callable[[], object]) -> None:
        """Have something called when alarms have changed what a service may do next."""
        self._on_alarms.append(wake)

    def watched_alarms(self) -> set[str]:
        """Return the names of the alarms that deployments watch now."""
        return {name for watch in self._watching.values() for name in watch.names}

    def take_alarms(self, seen: SeenAlarms) -> None:
        """Take what is known now of the alarms that deployments watch; services for which it matters have changed."""
        before, self._alarms = self._alarms, seen
        touched = {
            key
            for key in self._watching
            if deployment_alarms.known(self._services[key].record, before)
            != deployment_alarms.known(self._services[key].record, seen)
        }
        self._changes.services.update(touched)
        for wake in self._on_alarms if touched else ():
            wake()

    def service(self, key: ServiceKey) -> Found[ServiceRecord] | None:
        """Return a service and the key-value that holds it."""
        return self._services.get(key)

    def services(self, cluster: str) -> list[ServiceRecord]:
        """Return the services of a cluster, whatever their status, by name."""
        found = [one.record for key, one in self._services.items() if key.cluster == cluster]
        return sorted(found, key=lambda record: record.name)

    def with_service_connect(self) -> list[ServiceRecord]:
        """Return the services of all clusters that have Service Connect, by ARN."""
        found = [
            one.record
            for one in self._services.values()
            if one.record.primary.service_connect is not None
        ]
        return sorted(found, key=lambda record: record.arn)

    def balanced_by(self, group_arn: str) -> str:
        """Return the name of a service that uses a target group, or that still has tasks in it; or nothing."""
        for key, found in self._services.items():
            used = {
                arn
                for deployment in found.record.deployments
                for balancer in deployment.load_balancers
                for arn in traffic_shift.pair(balancer)
            }
            if found.record.status != INACTIVE and group_arn in used:
                return key.name
        return ""

    def daemons(self, cluster: str) -> set[ServiceKey]:
        """Return the DAEMON services of a cluster."""
        return self._daemons.get(cluster, set())

    def tasks(self, key: ServiceKey) -> Iterable[SeenTask]:
        """Return the tasks of a service that are not STOPPED, and those not counted yet."""
        return self._tasks[key].values() if key in self._tasks else ()

    def observed(
        self,
        key: ServiceKey,
        others: Mapping[str, SeenHost] | None = None,
        *,
        is_refused: bool = False,
    ) -> Observed:
        """Return a service's tasks and their hosts, or ``others`` where more is known of hosts."""
        tasks = dict(self._tasks[key]) if key in self._tasks else {}
        targets = self._targets(tasks)
        balanced = self._balanced(key)
        if targets or balanced:
            tasks = {
                id_: balancing.with_health(
                    task, targets.get(id_, ()), is_balanced=task.started_by in balanced
                )
                for id_, task in tasks.items()
            }
        hosts = {task.instance_id for task in tasks.values()}
        seen = {id_: host for id_ in hosts if (host := self.host(id_)) is not None}
        return Observed(
            tasks,
            seen | dict(others or {}),
            balanced=Balanced(targets=targets, listeners=self._listeners(key)),
            alarms=self._alarms if key in self._watching else SeenAlarms(),
            is_refused=is_refused,
        )

    def _targets(self, tasks: Iterable[str]) -> dict[str, tuple[SeenTarget, ...]]:
        """Return the targets that tasks are, by their ids."""
        if not self.balancing.has_tasks:
            return {}
        now = self._clock()
        found = {task_id: self.balancing.of_task(task_id, now) for task_id in tasks}
        return {task_id: targets for task_id, targets in found.items() if targets}

    def _listeners(self, key: ServiceKey) -> dict[str, Found[ListenerRecord]]:
        """Return the listeners that a service may shift traffic with, by the ARNs of their rules."""
        found = self._services.get(key)
        arns = traffic_shift.rules_of(found.record) if found is not None else ()
        known = {arn: self.balancing.listener(arn) for arn in arns}
        return {arn: one for arn, one in known.items() if one is not None}

    def _balanced(self, key: ServiceKey) -> frozenset[str]:
        """Return the ids of a service's deployments that have load balancers."""
        found = self._services.get(key)
        deployments = found.record.deployments if found is not None else ()
        return frozenset(one.id for one in deployments if one.load_balancers)

    def host(self, instance_id: str) -> SeenHost | None:
        """Return a host; None for one that was deregistered."""
        instance = self._instances.get(instance_id)
        if instance is None or instance.status == "INACTIVE":
            return None
        lost_since = None
        if instance_id not in self._alive:
            lost_since = self._lost_since.setdefault(instance_id, self._clock())
        return SeenHost(instance_id, instance.status == "ACTIVE", lost_since)

    async def _follow(self, target: int) -> None:
        if self._watch is None:
            self._watch = await self._load()
        while self._revision < target:
            batch = await anext(self._watch)
            for event in batch.events:
                self._apply(event)
            self._revision = batch.revision

    async def _load(self) -> Watch:
        """Load everything; the watch repeats changes made meanwhile, which does no harm."""
        for prefix in _LOADED:
            start_after, more = None, True
            while more:
                page = await self._store.range(
                    prefix, start_after=start_after, limit=access.SCAN_PAGE
                )
                self._revision = self._revision or page.revision
                for kv in page.items:
                    self._apply(Event("put", kv))
                    start_after = kv.key
                more = page.more
        # Watch all keys, so that every commit advances the watch.
        return self._store.watch("/", after_revision=self._revision)

    async def _forget(self) -> None:
        watch, self._watch = self._watch, None
        self._clear()
        if watch is not None:
            await watch.aclose()

    def _apply(self, event: Event) -> None:
        kv, there = event.kv, event.type == "put"
        name = records.last_element(kv.key)
        if kv.key.startswith(balancer_view.PREFIXES):
            touched = self.balancing.apply(event)
            of = (self._of_task.get(task_id) for task_id in touched)
            self._changes.services.update(key for key in of if key is not None)
        elif kv.key.startswith(records.TASKS):
            self._apply_task(kv, name, there=there)
        elif kv.key.startswith(records.SERVICES):
            self._apply_service(kv, there=there)
        elif kv.key.startswith(records.INSTANCES):
            self._apply_instance(kv, name, there=there)
        elif kv.key.startswith(records.ALIVE):
            if there:
                self._alive.add(name)
                self._lost_since.pop(name, None)
            else:
                self._alive.discard(name)
                if name in self._instances:
                    self._lost_since[name] = self._clock()
            self._host_changed(name)

    def _apply_service(self, kv: KeyValue, *, there: bool) -> None:
        _, _, cluster, name = kv.key.split("/", 3)
        key = ServiceKey(cluster, name)
        found = access.read(ServiceRecord, kv) if there else None
        if found is None:
            self._services.pop(key, None)
        else:
            self._services[key] = found
            self._changes.services.add(key)
        watch = deployment_alarms.watched(found.record) if found is not None else None
        if watch is not None:
            self._watching[key] = watch
        else:
            self._watching.pop(key, None)
        if found is not None and found.record.is_daemon and found.record.status != INACTIVE:
            self._daemons[cluster].add(key)
        else:
            self._daemons[cluster].discard(key)

    def _apply_instance(self, kv: KeyValue, name: str, *, there: bool) -> None:
        found = access.read(_Instance, kv) if there else None
        if found is None:
            self._host_changed(name)
            self._instances.pop(name, None)
            self._lost_since.pop(name, None)
        else:
            self._instances[name] = found.record
            self._host_changed(name)

    def _host_changed(self, instance_id: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is not None:
            self._changes.clusters.add(instance.cluster)
        on_host = self._on_host.get(instance_id, ())
        self._changes.services.update(self._of_task[task] for task in on_host)

    def _apply_task(self, kv: KeyValue, task_id: str, *, there: bool) -> None:
        found = access.read(SeenTask, kv) if there else None
        task = found.record if found is not None else None
        if task is None or task.last_status == "STOPPED":
            self._changes.clusters.add(kv.key.split("/")[2])
        old = self._of_task.get(task_id)
        is_kept = (
            task is not None
            and task.group.startswith(_GROUP)
            and (task.last_status != "STOPPED" or not task.counted)
        )
        if task is None or not is_kept:
            if old is not None:
                self._drop(task_id, old)
                self._changes.services.add(old)
            return
        key = ServiceKey(kv.key.split("/")[2], task.group.removeprefix(_GROUP))
        if old is not None and self._tasks[old].get(task_id) == task:
            return
        if old is not None:
            self._drop(task_id, old)
        self._tasks[key][task_id] = task
        self._of_task[task_id] = key
        self._host_of[task_id] = task.instance_id
        self._on_host[task.instance_id].add(task_id)
        self._changes.services.add(key)

    def _drop(self, task_id: str, key: ServiceKey) -> None:
        del self._of_task[task_id]
        tasks = self._tasks[key]
        tasks.pop(task_id, None)
        if not tasks:
            del self._tasks[key]
        host = self._host_of.pop(task_id)
        on_host = self._on_host[host]
        on_host.discard(task_id)
        if not on_host:
            del self._on_host[host]
