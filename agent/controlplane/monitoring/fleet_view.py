"""The tasks and hosts of a store as programs that watch the fleet see them, kept in memory.

Follows the store with one watch, and keeps of each task what is counted, and what Prometheus is told of it,
already encoded. A task is looked at again when its record changes, or that of its host. Definitions are read
once, for a task that is new.

Reads the store. Raises what the store raises; the next call then loads everything anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from agent.controlplane import access, records
from agent.controlplane.monitoring import targets
from agent.controlplane.monitoring.targets import TaskFacts
from agent.controlplane.records import InstanceRecord, TaskDefinitionRecord
from agent.controlplane.store.following import Follower

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.controlplane.monitoring.targets import Exporters
    from agent.controlplane.store.contract import Event, KeyValue, Store

_AT_ONCE: Final = 200
"""How many tasks are looked at before other work on the event loop gets a turn."""

_encode = msgspec.json.Encoder().encode


class HostState(NamedTuple):
    """How hosts are counted."""

    cluster: str
    status: str
    """ACTIVE or DRAINING."""
    is_connected: bool


class TaskState(NamedTuple):
    """How tasks are counted."""

    cluster: str
    status: str
    """``lastStatus``."""


class Counts(NamedTuple):
    """How many there are of everything."""

    hosts: Counter[HostState]
    tasks: Counter[TaskState]
    listed_targets: int
    """Addresses that Prometheus is told of tasks."""
    lost_targets: int
    """Containers that ask to be scraped and cannot be reached."""


class _Listed(NamedTuple):
    cluster: str
    documents: bytes
    """Its targets in JSON, with commas between them; empty if all are lost."""
    found: int
    lost: int


class FleetView:
    """All clusters of one store; for one event loop. Calls of its methods take turns."""

    def __init__(self, store: Store, region: str) -> None:
        self._store = store
        self._region = region
        self._turn = asyncio.Lock()
        self._follower = Follower(
            store, (records.ALIVE, records.INSTANCES, records.TASKS), lambda: FleetState(region)
        )

    async def counts(self) -> Counts:
        """Count everything; includes what was committed before the call."""
        async with self._turn:
            return (await self._state()).counts()

    async def task_targets(self, cluster: str = "") -> bytes:
        """Return Prometheus' document of the tasks of a cluster, or of all."""
        async with self._turn:
            return _document((await self._state()).task_targets(cluster))

    async def agent_targets(self, cluster: str = "") -> bytes:
        """Return Prometheus' document of the agents of a cluster, or of all."""
        async with self._turn:
            return _document((await self._state()).agent_targets(cluster))

    async def _state(self) -> FleetState:
        state = await self._follower.read()
        number = 0
        for task in state.without_definition():
            key = records.task_definition_key(task.family, task.revision)
            found = await access.find(self._store, TaskDefinitionRecord, key)
            state.define(task.task_definition_arn, found.record if found is not None else None)
        while state.renew_one():
            number += 1
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return state


class FleetState:
    """What is known of tasks and hosts, from the keys that were seen so far."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._alive: set[str] = set()
        self._instances: dict[str, InstanceRecord] = {}
        self._by_instance: defaultdict[str, set[str]] = defaultdict(set)
        """Keys of the tasks of each instance that have exporters, and have not stopped."""
        self._states: dict[str, TaskState] = {}
        """By the key of the task, as those that follow."""
        self._tasks: dict[str, TaskFacts] = {}
        """Those that have exporters, or may have, and have not stopped."""
        self._listed: dict[str, _Listed] = {}
        self._stale: set[str] = set()
        """Tasks that changed, or whose host did."""
        self._definitions: dict[str, str] = {}
        """Of the tasks that have not stopped."""
        self._uses: Counter[str] = Counter()
        """How many of them each definition has."""
        self._exporters: dict[str, Exporters | None] = {}
        """By task definition; None for one without any, or that cannot be read."""

    def counts(self) -> Counts:
        """Count everything."""
        hosts = Counter(
            HostState(i.cluster, i.status, i.id in self._alive)
            for i in self._instances.values()
            if i.status != "INACTIVE"
        )
        listed = self._listed.values()
        return Counts(
            hosts,
            Counter(self._states.values()),
            sum(one.found for one in listed),
            sum(one.lost for one in listed),
        )

    def task_targets(self, cluster: str) -> Iterator[bytes]:
        """Yield the targets of tasks in JSON."""
        for one in self._listed.values():
            if one.documents and cluster in ("", one.cluster):
                yield one.documents

    def agent_targets(self, cluster: str) -> Iterator[bytes]:
        """Yield the targets of agents in JSON."""
        for instance in self._instances.values():
            if cluster in ("", instance.cluster):
                connected = instance.id in self._alive
                found = targets.of_agent(instance, self._region, connected=connected)
                if found is not None:
                    yield _encode(found)

    def without_definition(self) -> list[TaskFacts]:
        """Return one task of each definition that was not read yet."""
        lacking: dict[str, TaskFacts] = {}
        for key in self._stale:
            task = self._tasks.get(key)
            if task is not None and task.task_definition_arn not in self._exporters:
                lacking.setdefault(task.task_definition_arn, task)
        return list(lacking.values())

    def define(self, arn: str, definition: TaskDefinitionRecord | None) -> None:
        """Take note of a definition; None for one that is missing."""
        wanted = targets.exporters(definition) if definition is not None else None
        self._exporters[arn] = wanted if wanted is not None and wanted.found else None

    def renew_one(self) -> bool:
        """Look at one task that has changed; False if none has."""
        if not self._stale:
            return False
        key = self._stale.pop()
        task = self._tasks.get(key)
        if task is None:
            return True
        wanted = self._exporters.get(task.task_definition_arn)
        if wanted is None:
            del self._tasks[key]  # it will never be listed
            return True
        self._by_instance[task.instance_id].add(key)
        instance = self._instances.get(task.instance_id)
        found, lost = targets.of_task(task, wanted, instance, self._region)
        documents = b",".join(_encode(one) for one in found)
        self._listed[key] = _Listed(task.cluster, documents, len(found), lost)
        return True

    def apply(self, event: Event) -> None:
        """Take note of one key."""
        kv, there = event.kv, event.type == "put"
        if kv.key.startswith(records.TASKS):
            self._apply_task(kv, there=there)
        elif kv.key.startswith(records.INSTANCES):
            found = access.read(InstanceRecord, kv) if there else None
            name = records.last_element(kv.key)
            self._stale |= self._by_instance.get(name, set())
            if found is None:
                self._instances.pop(name, None)
            else:
                self._instances[name] = found.record
        elif kv.key.startswith(records.ALIVE):
            name = records.last_element(kv.key)
            (self._alive.add if there else self._alive.discard)(name)

    def _apply_task(self, kv: KeyValue, *, there: bool) -> None:
        found = access.read(TaskFacts, kv) if there else None
        if found is None:
            self._states.pop(kv.key, None)
            self._drop(kv.key)
            return
        task = found.record
        self._states[kv.key] = TaskState(task.cluster, task.last_status)
        if task.last_status == "STOPPED":
            self._drop(kv.key)
            return
        self._tasks[kv.key] = task
        self._stale.add(kv.key)
        if kv.key not in self._definitions:
            self._definitions[kv.key] = task.task_definition_arn
            self._uses[task.task_definition_arn] += 1

    def _drop(self, key: str) -> None:
        """Forget the targets of a task, and a definition that no other task uses."""
        self._stale.discard(key)
        self._listed.pop(key, None)
        task = self._tasks.pop(key, None)
        if task is not None and task.instance_id in self._by_instance:
            of_instance = self._by_instance[task.instance_id]
            of_instance.discard(key)
            if not of_instance:
                del self._by_instance[task.instance_id]
        definition = self._definitions.pop(key, None)
        if definition is None:
            return
        self._uses[definition] -= 1
        if not self._uses[definition]:
            del self._uses[definition]
            self._exporters.pop(definition, None)


def _document(targets_in_json: Iterator[bytes]) -> bytes:
    return b"[" + b",".join(targets_in_json) + b"]\n"
