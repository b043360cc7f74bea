"""Finds and changes users of IAM and their access keys in the store; each change is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.iam import user_records
from agent.controlplane.iam.user_records import AccessKeyRecord, IamUserRecord
from agent.controlplane.store.contract import Delete, Put, absent, unchanged
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.secrets.keeper import SecretKeeper
    from agent.controlplane.store.contract import Store

KEYS_MOST: Final = 2
"""Access keys of one user: one that is used, and one to change to."""
_SHOWN = 64


class UserMissing(AgentError):
    """There is no such user."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The user with name {name[:_SHOWN]} cannot be found.")


class UserExists(AgentError):
    """There is a user of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"User with name {name[:_SHOWN]} already exists.")


class UserInUse(AgentError):
    """A user that has keys or policies cannot be deleted."""


class KeyMissing(AgentError):
    """A user has no such access key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"The Access Key with id {key_id[:_SHOWN]} cannot be found.")


class TooManyKeys(AgentError):
    """A user would have more access keys than it may have."""

    def __init__(self) -> None:
        super().__init__(f"Cannot exceed quota for AccessKeysPerUser: {KEYS_MOST}")


async def get(store: Store, name: str) -> IamUserRecord:
    """Return a user; raises ``UserMissing``."""
    found = await access.find(store, IamUserRecord, user_records.user_key(name))
    if found is None or found.record.name != name:
        raise UserMissing(name)
    return found.record


async def every(store: Store) -> list[IamUserRecord]:
    """Return all users, by name."""
    return [one.record async for one in access.scan(store, IamUserRecord, user_records.USERS)]


async def create(store: Store, record: IamUserRecord) -> None:
    """Create a user; raises ``UserExists``, also for a name that differs in case alone."""
    key = user_records.user_key(record.name)
    if not (await store.txn([absent(key)], [Put(key, records.encode(record))])).succeeded:
        raise UserExists(record.name)


async def change(
    store: Store, name: str, decide: Callable[[IamUserRecord], IamUserRecord]
) -> IamUserRecord:
    """Change a user and return it; retries if others changed it meanwhile.

    Args:
        store: where it is.
        name: of the user.
        decide: as in ``access.change``.

    Raises:
        UserMissing: there is none.
    """

    def of_name(record: IamUserRecord) -> IamUserRecord:
        if record.name != name:
            raise UserMissing(name)
        return decide(record)

    changed = await access.change(store, IamUserRecord, user_records.user_key(name), of_name)
    if changed is None:
        raise UserMissing(name)
    return changed


async def delete(store: Store, name: str) -> None:
    """Delete a user.

    Raises:
        UserMissing: there is none.
        UserInUse: it has keys or policies.
    """
    key = user_records.user_key(name)
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(store, IamUserRecord, key)
        if found is None or found.record.name != name:
            raise UserMissing(name)
        if found.record.keys:
            raise UserInUse("Cannot delete entity, must delete access keys first.")
        if found.record.attached:
            raise UserInUse("Cannot delete entity, must detach all policies first.")
        if found.record.inline:
            raise UserInUse("Cannot delete entity, must delete policies first.")
        if (await store.txn([unchanged(found.kv)], [Delete(key)])).succeeded:
            return
        await tries.again()


async def add_key(keeper: SecretKeeper, name: str, now: float) -> tuple[AccessKeyRecord, str]:
    """Give a user another access key; return it and its secret, which nobody can read again.

    Raises:
        UserMissing: there is none.
        TooManyKeys: it would have too many.
        SecretsFailure: the secret cannot be sealed.
    """
    key_id, secret = user_records.new_key_id(), user_records.new_secret()
    async with keeper.storing:
        sealed = await keeper.seal(secret, user_records.bound_key(key_id))
        made = AccessKeyRecord(id=key_id, secret=sealed, created_at=now)

        def decide(old: IamUserRecord) -> IamUserRecord:
            if len(old.keys) >= KEYS_MOST:
                raise TooManyKeys
            return replace(old, keys=[*old.keys, made])

        await change(keeper.store, name, decide)
    return made, secret


async def set_active(store: Store, name: str, key_id: str, *, is_active: bool) -> None:
    """Have an access key be accepted, or not.

    Raises:
        UserMissing: there is no such user.
        KeyMissing: it has no such key.
    """

    def decide(old: IamUserRecord) -> IamUserRecord:
        _expect(old, key_id)
        return replace(
            old,
            keys=[
                replace(key, is_active=is_active) if key.id == key_id else key for key in old.keys
            ],
        )

    await change(store, name, decide)


async def remove_key(store: Store, name: str, key_id: str) -> None:
    """Remove an access key for good.

    Raises:
        UserMissing: there is no such user.
        KeyMissing: it has no such key.
    """

    def decide(old: IamUserRecord) -> IamUserRecord:
        _expect(old, key_id)
        return replace(old, keys=[key for key in old.keys if key.id != key_id])

    await change(store, name, decide)


def _expect(user: IamUserRecord, key_id: str) -> None:
    if all(key.id != key_id for key in user.keys):
        raise KeyMissing(key_id)
