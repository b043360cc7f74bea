"""The loop that registers tasks of services under the names of their registries, and deregisters them.

It follows changes of tasks; a task without a registry costs a search for a word in its record. When it begins,
and after it missed changes, it reads all tasks and all instances. A second loop over the same store, or a
restart at any moment, is safe: each change compares the task that it was decided by.

A task that is told to stop is deregistered by that very transaction (``tasks.stopping``).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane import access, records
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery import stored
from agent.controlplane.discovery.record import RegisteredInstance, RegistryRecord
from agent.controlplane.discovery.task_instances import MARK, NamedTask, instance_of
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import (
    Compacted,
    StoreFailure,
    absent,
    as_read,
    present,
    unchanged,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.access import Found
    from agent.controlplane.discovery.task_instances import Registration
    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Event, KeyValue, Store

_RETRY_S: Final = 1.0
_TURN_LIMIT_S: Final = 60.0
_AT_ONCE: Final = 16
"""How many tasks are written side by side."""

_log = structlog.get_logger(__name__)


class RegistrationLoop:
    """Keeps the instances of tasks as they should be, in one store."""

    def __init__(self, store: Store, names: Names) -> None:
        """Take the store, and the names that have its region."""
        self._store = store
        self._region = names.region
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Work until cancelled."""
        store = self._store
        while True:
            try:
                async with store.watch(records.TASKS, after_revision=store.revision) as watch:
                    await self.settle()
                    async for batch in watch:
                        await self._turn(_newest(batch.events))
            except* Compacted:
                _log.warning("names of tasks fell behind; reading the store again")
            except* (StoreFailure, TimeoutError) as errors:
                _log.warning(
                    "tasks cannot be registered by name; trying again",
                    error=str(errors.exceptions[0]),
                )
                await asyncio.sleep(_RETRY_S)

    async def settle(self) -> None:
        """Register every task that should be, and deregister all others.

        Raises:
            StoreFailure: some of it was not done; the same again is safe.
        """
        async for page in access.pages(self._store, records.TASKS):
            await self._turn([kv for kv in page if MARK in kv.value])
        async for kv, instance in access.scan(self._store, RegisteredInstance, kinds.INSTANCES):
            if instance.task and await self._store.get(instance.task) is None:
                await self._store.txn(
                    [unchanged(kv), absent(instance.task)],
                    stored.delete_instance(_registry_of(kv), instance.id),
                )

    async def _turn(self, tasks: Iterable[KeyValue]) -> None:
        async with asyncio.timeout(_TURN_LIMIT_S), asyncio.TaskGroup() as group:
            for kv in tasks:
                await self._room.acquire()
                group.create_task(self._apply(kv)).add_done_callback(lambda _: self._room.release())

    async def _apply(self, kv: KeyValue) -> None:
        """Bring the instance of a task up to date; a newer state of the task comes with its own change."""
        read = access.read(NamedTask, kv)
        if read is not None:
            for registration in read.record.registrations:
                await self._register(kv, read.record, registration)

    async def _register(self, kv: KeyValue, task: NamedTask, registration: Registration) -> None:
        """Bring the instance of a task in one registry up to date."""
        registry_id = registration.registry_id
        key = kinds.instance_key(registry_id, task.id)
        tries = access.ConflictRetries(key)
        while True:
            known = await access.find(self._store, RegisteredInstance, key)
            if known is None and not task.serves:
                return
            wanted = await self._wanted(task, kv.key, registration, known)
            if wanted == (known.record if known is not None else None):
                return
            compares = [unchanged(kv), as_read(key, known.kv if known is not None else None)]
            if wanted is None:
                then = stored.delete_instance(registry_id, task.id)
            else:
                compares.append(present(kinds.registry_key(registry_id)))
                then = stored.put_instance(registry_id, wanted)
            if (await self._store.txn(compares, then, urgent=wanted is None)).succeeded:
                return
            now = await self._store.get(kv.key)
            if now is None or now.mod_revision != kv.mod_revision:
                return
            await tries.again()

    async def _wanted(
        self,
        task: NamedTask,
        key: str,
        registration: Registration,
        known: Found[RegisteredInstance] | None,
    ) -> RegisteredInstance | None:
        registry = await access.find(
            self._store, RegistryRecord, kinds.registry_key(registration.registry_id)
        )
        if registry is None:
            return None
        host = await access.find(
            self._store, InstanceRecord, records.key_of_instance(task.instance_arn)
        )
        return instance_of(
            task,
            key,
            registry.record,
            known.record if known is not None else None,
            port=registration.port,
            region=self._region,
            ec2_instance_id=host.record.ec2_instance_id if host is not None else "",
        )


def _newest(events: Iterable[Event]) -> list[KeyValue]:
    """Return the newest record of each changed task that may have a registry."""
    found = {
        event.kv.key: event.kv for event in events if event.type == "put" and MARK in event.kv.value
    }
    return list(found.values())


def _registry_of(kv: KeyValue) -> str:
    """Return the registry in the key of an instance."""
    return kv.key.removeprefix(kinds.INSTANCES).partition("/")[0]
