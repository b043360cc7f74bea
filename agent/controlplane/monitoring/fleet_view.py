"""The tasks and hosts of a store as programs that watch the fleet see them, kept in memory.

Follows the store with one watch, and keeps of each task what is counted, and what Prometheus is told of it,
already encoded. A task is looked at again when its record changes, or that of its host. Definitions are read
once, for a task that is new.

Reads the store. Raises what the store raises; the next call then loads everything anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
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
            store,
            (records.ALIVE, records.INSTANCES, records.TASKS),
            apply=self._apply,
            clear=self._clear,
        )
        self._clear()

    def _clear(self) -> None:
        self._alive: set[str] = set()
        self._instances: dict[str, InstanceRecord] = {}
        self._states: dict[str, TaskState] = {}
        """By the key of the task, as the next two."""
        self._asking: dict[str, TaskFacts] = {}
        """Tasks with exporters, that have not stopped."""
        self._listed: dict[str, _Listed] = {}
        self._new: dict[str, TaskFacts] = {}
        """Tasks that changed since they were last looked at."""
        self._moved: set[str] = set()
        """Ids of the instances that changed."""
        self._exporters: dict[str, Exporters | None] = {}
        """By task definition; None for one without any, or that cannot be read."""
        self._definitions: dict[str, str] = {}
        """Of the tasks that have not stopped."""
        self._uses: Counter[str] = Counter()
        """How many of them each definition has."""

    async def counts(self) -> Counts:
        """Count everything; includes what was committed before the call."""
        async with self._turn:
            await self._renew()
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

    async def task_targets(self, cluster: str = "") -> bytes:
        """Return Prometheus' document of the tasks of a cluster, or of all."""
        async with self._turn:
            await self._renew()
            return _document(
                one.documents
                for one in self._listed.values()
                if one.documents and cluster in ("", one.cluster)
            )

    async def agent_targets(self, cluster: str = "") -> bytes:
        """Return Prometheus' document of the agents of a cluster, or of all."""
        async with self._turn:
            await self._renew()
            found = (
                targets.of_agent(i, self._region, connected=i.id in self._alive)
                for i in self._instances.values()
                if cluster in ("", i.cluster)
            )
            return _document(_encode(one) for one in found if one is not None)

    async def _renew(self) -> None:
        await self._follower.catch_up()
        moved = [k for k, task in self._asking.items() if task.instance_id in self._moved]
        for key in moved:
            self._new.setdefault(key, self._asking[key])
        self._moved.clear()
        number = 0
        while self._new:
            key, task = self._new.popitem()
            try:
                wanted = await self._exporters_of(task)
            except BaseException:
                self._new.setdefault(key, task)
                raise
            self._list(key, task, wanted)
            number += 1
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _list(self, key: str, task: TaskFacts, wanted: Exporters | None) -> None:
        if wanted is None:
            return
        self._asking[key] = task
        instance = self._instances.get(task.instance_id)
        found, lost = targets.of_task(task, wanted, instance, self._region)
        documents = b",".join(_encode(one) for one in found)
        self._listed[key] = _Listed(task.cluster, documents, len(found), lost)

    async def _exporters_of(self, task: TaskFacts) -> Exporters | None:
        arn = task.task_definition_arn
        if arn not in self._exporters:
            key = records.task_definition_key(task.family, task.revision)
            found = await access.find(self._store, TaskDefinitionRecord, key)
            wanted = targets.exporters(found.record) if found is not None else None
            self._exporters[arn] = wanted if wanted is not None and wanted.found else None
        return self._exporters[arn]

    def _apply(self, event: Event) -> None:
        kv, there = event.kv, event.type == "put"
        if kv.key.startswith(records.TASKS):
            self._apply_task(kv, there=there)
        elif kv.key.startswith(records.INSTANCES):
            found = access.read(InstanceRecord, kv) if there else None
            name = records.last_element(kv.key)
            self._moved.add(name)
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
        self._new[kv.key] = task
        if kv.key not in self._definitions:
            self._definitions[kv.key] = task.task_definition_arn
            self._uses[task.task_definition_arn] += 1

    def _drop(self, key: str) -> None:
        """Forget the targets of a task, and a definition that no other task uses."""
        self._new.pop(key, None)
        self._asking.pop(key, None)
        self._listed.pop(key, None)
        definition = self._definitions.pop(key, None)
        if definition is None:
            return
        self._uses[definition] -= 1
        if not self._uses[definition]:
            del self._uses[definition]
            self._exporters.pop(definition, None)


def _document(targets_in_json: Iterator[bytes]) -> bytes:
    return b"[" + b",".join(targets_in_json) + b"]\n"
