"""Finds and changes security groups in the store; each change is one transaction.

The default group is in the store only once somebody has changed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.security_groups import group_records, rules
from agent.controlplane.security_groups.group_records import (
    DEFAULT_NAME,
    RuleRecord,
    SecurityGroupRecord,
)
from agent.controlplane.store.contract import Compare, Delete, Op, Put, absent, as_read, present
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Store

_SHOWN = 64


class GroupMissing(AgentError):
    """There is no such group."""

    def __init__(self, given: str) -> None:
        super().__init__(f"The security group '{given[:_SHOWN]}' does not exist")


class GroupExists(AgentError):
    """There is a group of that name."""


class GroupInUse(AgentError):
    """A group is used by tasks, by services or by rules of other groups."""


class GroupFixed(AgentError):
    """The default group cannot be deleted."""


class TooManyRules(AgentError):
    """A group would have too many rules."""


async def find(store: Store, names: Names, group_id: str) -> SecurityGroupRecord | None:
    """Return a group by its id, or None."""
    found = await access.find(store, SecurityGroupRecord, group_records.group_key(group_id))
    if found is not None:
        return found.record
    is_default = group_id == group_records.default_group_id(names)
    return group_records.default_group(names) if is_default else None


async def get(store: Store, names: Names, group_id: str) -> SecurityGroupRecord:
    """Return a group by its id; raises ``GroupMissing``."""
    found = await find(store, names, group_id)
    if found is None:
        raise GroupMissing(group_id)
    return found


async def id_of_name(store: Store, names: Names, name: str) -> str:
    """Return the id of the group with a name; raises ``GroupMissing``."""
    if name == DEFAULT_NAME:
        return group_records.default_group_id(names)
    kv = await store.get(group_records.name_key(name))
    if kv is None:
        raise GroupMissing(name)
    return kv.value.decode()


async def every(store: Store, names: Names) -> list[SecurityGroupRecord]:
    """Return all groups, by id."""
    default = group_records.default_group(names)
    found = {default.id: default}
    async for _, record in access.scan(store, SecurityGroupRecord, group_records.GROUPS):
        found[record.id] = record
    return [found[group_id] for group_id in sorted(found)]


async def create(
    store: Store, name: str, description: str, tags: Mapping[str, str]
) -> SecurityGroupRecord:
    """Create a group, which allows everything out and nothing in; return it.

    Raises:
        GroupExists: there is one of that name.
    """
    new_id = group_records.new_rule_id
    made = SecurityGroupRecord(
        id=group_records.new_group_id(),
        name=name,
        description=description,
        rules=group_records.to_everywhere(new_id(), new_id()),
        tags=dict(tags),
    )
    key, name_key = group_records.group_key(made.id), group_records.name_key(name)
    result = await store.txn(
        [absent(key), absent(name_key)],
        [Put(key, records.encode(made)), Put(name_key, made.id.encode())],
    )
    if not result.succeeded:
        raise GroupExists(name)
    return made


async def change(
    store: Store,
    names: Names,
    group_id: str,
    decide: Callable[[SecurityGroupRecord], SecurityGroupRecord],
    *,
    named: Collection[str] = (),
) -> SecurityGroupRecord:
    """Change a group and return it; retries if others changed it meanwhile.

    Args:
        store: where it is.
        names: names the default group.
        group_id: which group.
        decide: pure; returns the group as it is to be, and may raise to refuse.
        named: ids of the groups that new rules name; they must exist, and begin to be used.

    Raises:
        GroupMissing: it, or one that rules name, does not exist.
        TooManyRules: it would have too many.
    """
    key = group_records.group_key(group_id)
    others = sorted(set(named) - {group_id})
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(store, SecurityGroupRecord, key)
        old = found.record if found is not None else await get(store, names, group_id)
        for other in others:
            await get(store, names, other)
        new = decide(old)
        if rules.too_many(each.rule for each in new.rules):
            raise TooManyRules("The maximum number of rules per security group has been reached.")
        compares, uses = use(names, others)
        put = Put(key, records.encode(new))
        if (
            await store.txn([as_read(key, found.kv if found else None), *compares], [put, *uses])
        ).succeeded:
            return new
        await tries.again()


def use(names: Names, groups: Collection[str]) -> tuple[list[Compare], list[Op]]:
    """Return what a transaction compares and does that begins to use groups. Pure.

    The default group cannot be deleted, so it needs neither.
    """
    default = group_records.default_group_id(names)
    named = sorted(set(groups) - {default})
    return (
        [present(group_records.group_key(group)) for group in named],
        [Put(group_records.use_key(group), b"") for group in named],
    )


async def delete(
    store: Store,
    names: Names,
    group_id: str,
    is_used: Callable[[], Awaitable[bool]],
) -> None:
    """Delete a group that nobody uses.

    Args:
        store: where it is.
        names: names the default group.
        group_id: which group.
        is_used: returns whether anybody uses it; called again if somebody begins to meanwhile.

    Raises:
        GroupMissing: there is none.
        GroupFixed: it is the default group.
        GroupInUse: it is used.
    """
    record = await get(store, names, group_id)
    if record.is_default:
        raise GroupFixed(
            f'the specified group: "{group_id}" name: "default" cannot be deleted by a user'
        )
    guard, key = group_records.use_key(group_id), group_records.group_key(group_id)
    tries = access.ConflictRetries(key)
    while True:
        seen = await store.get(guard)
        if await is_used():
            raise GroupInUse(f"resource {group_id} has a dependent object")
        ops: list[Op] = [Delete(key), Delete(group_records.name_key(record.name)), Delete(guard)]
        if (await store.txn([present(key), as_read(guard, seen)], ops)).succeeded:
            return
        if await find(store, names, group_id) is None:
            raise GroupMissing(group_id)
        await tries.again()


def with_rules(old: SecurityGroupRecord, added: Collection[RuleRecord]) -> SecurityGroupRecord:
    """Return a group with more rules. Pure."""
    return replace(old, rules=[*old.rules, *added])
