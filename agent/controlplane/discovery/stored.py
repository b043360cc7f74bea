"""Reads and writes of names that more than one part needs."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

from agent.controlplane import access, records
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery.record import (
    HTTP,
    NamespaceRecord,
    OperationRecord,
    RegisteredInstance,
    RegistryRecord,
)
from agent.controlplane.store.contract import Delete, Put, absent, as_read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Compare, Op, Store

INSTANCES_MOST: Final = 1000
"""Of one registry; Amazon's quota."""
_PLAIN_NAME: Final = re.compile(r"(?!arn:)[!#-.0-;=?-~]{1,1024}")
"""Of a namespace: visible ASCII without < > " and /."""
_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"


def new_id(kind: str) -> str:
    """Return a new id, such as ``srv-`` and 16 letters and digits."""
    return f"{kind}-{''.join(secrets.choice(_ID_LETTERS) for _ in range(16))}"


def operation(kind: str, targets: Mapping[str, str], now: float) -> OperationRecord:
    """Return a new operation."""
    letters = "".join(secrets.choice(_ID_LETTERS) for _ in range(32))
    return OperationRecord(
        id=f"{letters}-{secrets.token_hex(4)}", type=kind, targets=dict(targets), at=now
    )


def put_operation(done: OperationRecord) -> Op:
    """Return what stores an operation."""
    return Put(kinds.operation_key(done.id), records.encode(done))


def put_instance(registry_id: str, instance: RegisteredInstance) -> list[Op]:
    """Return what stores an instance; the transaction must find its registry present."""
    return [
        Put(kinds.instance_key(registry_id, instance.id), records.encode(instance)),
        Put(kinds.guard_key(registry_id), b""),
    ]


def delete_instance(registry_id: str, instance_id: str) -> list[Op]:
    """Return what removes an instance; the transaction must find its registry present, or leaves a guard behind."""
    return [
        Delete(kinds.instance_key(registry_id, instance_id)),
        Put(kinds.guard_key(registry_id), b""),
    ]


async def namespace_named(store: Store, name: str) -> Found[NamespaceRecord] | None:
    """Return a namespace by its name; None if there is none."""
    key = await store.get(kinds.namespace_name_key(name))
    if key is None:
        return None
    return await access.find(store, NamespaceRecord, kinds.namespace_key(key.value.decode()))


async def http_namespace(
    store: Store, names: Names, name: str, now: float
) -> NamespaceRecord | None:
    """Return the namespace with a name, and make it as an HTTP namespace if there is none.

    Args:
        store: where it is.
        names: makes its ARN.
        name: its name.
        now: Unix seconds.

    Returns:
        None if there is none and none can have this name.
    """
    tries = access.ConflictRetries(f"namespace {name[:64]}")
    while True:
        found = await namespace_named(store, name)
        if found is not None:
            return found.record
        if not _PLAIN_NAME.fullmatch(name):
            return None
        id_, name_key = new_id("ns"), kinds.namespace_name_key(name)
        made = NamespaceRecord(
            id=id_, arn=names.namespace(id_), name=name, type=HTTP, created_at=now
        )
        then = [
            Put(kinds.namespace_key(id_), records.encode(made)),
            Put(name_key, id_.encode()),
        ]
        if (await store.txn([absent(name_key)], then)).succeeded:
            return made
        await tries.again()


async def registry_named(
    store: Store, namespace: NamespaceRecord, name: str
) -> Found[RegistryRecord] | None:
    """Return a registry of a namespace by its name; None if there is none."""
    key = await store.get(kinds.registry_name_key(namespace, name))
    if key is None:
        return None
    return await access.find(store, RegistryRecord, kinds.registry_key(key.value.decode()))


async def instances(store: Store, registry_id: str) -> list[RegisteredInstance]:
    """Return the instances of a registry, by id."""
    prefix = kinds.instances_prefix(registry_id)
    return [found.record async for found in access.scan(store, RegisteredInstance, prefix)]


async def still_empty(store: Store, parent_id: str, prefix: str) -> Compare | None:
    """Return the condition that a namespace or registry is still empty; None if it has something in it.

    Args:
        store: where it is.
        parent_id: its id.
        prefix: of what would be in it.
    """
    key = kinds.guard_key(parent_id)
    # First, so that what is added after the look below changes it.
    guard = await store.get(key)
    if (await store.range(prefix, limit=1)).items:
        return None
    return as_read(key, guard)


async def count(store: Store, prefix: str) -> int:
    """Return how many keys begin with a prefix, which are not many."""
    return sum([len(page) async for page in access.pages(store, prefix)])


async def revision(store: Store, registry_id: str) -> int:
    """Return a number that grows with every change of a registry's instances; 1 before the first."""
    guard = await store.get(kinds.guard_key(registry_id))
    return 1 if guard is None else guard.mod_revision
