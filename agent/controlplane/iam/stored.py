"""Finds and changes roles of IAM in the store; each change is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import access, records
from agent.controlplane.iam import role_records
from agent.controlplane.iam.role_records import IamRoleRecord
from agent.controlplane.store.contract import Delete, Put, absent, unchanged
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.store.contract import Store

_SHOWN = 64


class RoleMissing(AgentError):
    """There is no such role."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The role with name {name[:_SHOWN]} cannot be found.")


class RoleExists(AgentError):
    """There is a role of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Role with name {name[:_SHOWN]} already exists.")


class RoleInUse(AgentError):
    """A role that has policies cannot be deleted."""


async def get(store: Store, name: str) -> IamRoleRecord:
    """Return a role; raises ``RoleMissing``."""
    found = await access.find(store, IamRoleRecord, role_records.role_key(name))
    if found is None or found.record.name != name:
        raise RoleMissing(name)
    return found.record


async def every(store: Store) -> list[IamRoleRecord]:
    """Return all roles, by name."""
    return [one.record async for one in access.scan(store, IamRoleRecord, role_records.ROLES)]


async def create(store: Store, record: IamRoleRecord) -> None:
    """Create a role; raises ``RoleExists``, also for a name that differs in case alone."""
    key = role_records.role_key(record.name)
    if not (await store.txn([absent(key)], [Put(key, records.encode(record))])).succeeded:
        raise RoleExists(record.name)


async def change(
    store: Store, name: str, decide: Callable[[IamRoleRecord], IamRoleRecord]
) -> IamRoleRecord:
    """Change a role and return it; retries if others changed it meanwhile.

    Args:
        store: where it is.
        name: of the role.
        decide: as in ``access.change``.

    Raises:
        RoleMissing: there is none.
    """

    def of_name(record: IamRoleRecord) -> IamRoleRecord:
        if record.name != name:
            raise RoleMissing(name)
        return decide(record)

    changed = await access.change(store, IamRoleRecord, role_records.role_key(name), of_name)
    if changed is None:
        raise RoleMissing(name)
    return changed


async def delete(store: Store, name: str) -> None:
    """Delete a role.

    Raises:
        RoleMissing: there is none.
        RoleInUse: it has policies.
    """
    key = role_records.role_key(name)
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(store, IamRoleRecord, key)
        if found is None or found.record.name != name:
            raise RoleMissing(name)
        if found.record.attached:
            raise RoleInUse("Cannot delete entity, must detach all policies first.")
        if found.record.inline:
            raise RoleInUse("Cannot delete entity, must delete policies first.")
        if (await store.txn([unchanged(found.kv)], [Delete(key)])).succeeded:
            return
        await tries.again()
