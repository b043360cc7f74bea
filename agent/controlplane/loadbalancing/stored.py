"""Finds and changes load balancers, listeners and target groups in the store; each change is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import access, records
from agent.controlplane.loadbalancing import balancer_records, forwarding, naming
from agent.controlplane.loadbalancing.balancer_records import (
    ListenerRecord,
    LoadBalancerRecord,
    TargetGroupRecord,
    TargetRecord,
)
from agent.controlplane.store.contract import (
    Compare,
    Delete,
    DeletePrefix,
    Op,
    Put,
    absent,
    as_read,
    present,
    unchanged,
)
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Store

_SHOWN = 128


class BalancerMissing(AgentError):
    """There is no such load balancer."""

    def __init__(self, given: str) -> None:
        super().__init__(f"Load balancer '{given[:_SHOWN]}' not found")


class ListenerMissing(AgentError):
    """There is no such listener."""

    def __init__(self, given: str) -> None:
        super().__init__(f"Listener '{given[:_SHOWN]}' not found")


class RuleMissing(AgentError):
    """There is no such rule."""

    def __init__(self, given: str) -> None:
        super().__init__(f"Rule '{given[:_SHOWN]}' not found")


class GroupMissing(AgentError):
    """There is no such target group."""

    def __init__(self, given: str) -> None:
        super().__init__(f"Target groups '{given[:_SHOWN]}' not found")


class GroupInUse(AgentError):
    """A target group is used by a listener or by a service."""

    def __init__(self, arn: str, by: str) -> None:
        super().__init__(f"Target group '{arn[:_SHOWN]}' is currently in use by {by}")


class NameTaken(AgentError):
    """There is another one of that name."""


async def balancer(store: Store, names: Names, arn: str) -> access.Found[LoadBalancerRecord]:
    """Return a load balancer by its ARN; raises ``BalancerMissing``."""
    name = naming.parse_load_balancer(names, arn)
    key = balancer_records.load_balancer_key(name or "")
    found = await access.find(store, LoadBalancerRecord, key) if name else None
    if found is None or found.record.arn != arn:
        raise BalancerMissing(arn)
    return found


async def balancers(store: Store) -> list[LoadBalancerRecord]:
    """Return all load balancers, by name."""
    prefix = balancer_records.LOAD_BALANCERS
    return [record async for _, record in access.scan(store, LoadBalancerRecord, prefix)]


async def create_balancer(store: Store, record: LoadBalancerRecord) -> None:
    """Create a load balancer; raises ``NameTaken``."""
    await _create(store, balancer_records.load_balancer_key(record.name), records.encode(record))


async def delete_balancer(store: Store, names: Names, arn: str) -> None:
    """Delete a load balancer and its listeners; one that does not exist is ignored."""
    try:
        found = await balancer(store, names, arn)
    except BalancerMissing:
        return
    listeners = balancer_records.listeners_prefix(found.record.name)
    created = Compare(found.kv.key, "create_revision", "=", found.kv.create_revision)
    await store.txn([created], [Delete(found.kv.key), DeletePrefix(listeners)])


async def listener(store: Store, names: Names, arn: str) -> access.Found[ListenerRecord]:
    """Return the listener that its ARN, or that of one of its rules, names.

    Raises:
        ListenerMissing, RuleMissing: there is no such listener, or it has no such rule.
    """
    named = naming.parse_listener(names, arn)
    if named is None:
        raise ListenerMissing(arn)
    missing = RuleMissing(arn) if named.rule_id else ListenerMissing(arn)
    key = balancer_records.listener_key(named.load_balancer, named.listener_id)
    found = await access.find(store, ListenerRecord, key)
    if found is None or forwarding.find_rule(found.record, arn) is None:
        raise missing
    return found


async def listeners(store: Store, load_balancer: str = "") -> list[ListenerRecord]:
    """Return the listeners of a load balancer, by its name, or of all."""
    prefix = balancer_records.LISTENERS
    if load_balancer:
        prefix = balancer_records.listeners_prefix(load_balancer)
    return [record async for _, record in access.scan(store, ListenerRecord, prefix)]


async def create_listener(store: Store, names: Names, record: ListenerRecord) -> None:
    """Create a listener.

    Raises:
        BalancerMissing, GroupMissing: its load balancer, or a group that it forwards to, does not exist.
        NameTaken: the load balancer has a listener for that port.
    """
    tries = access.ConflictRetries(record.arn)
    while True:
        of = await balancer(store, names, record.load_balancer_arn)
        if any(each.port == record.port for each in await listeners(store, record.load_balancer)):
            raise NameTaken("A listener already exists on this port for this load balancer")
        compares, uses = await use_groups(store, names, forwarding.groups_of(record))
        key = balancer_records.listener_key(record.load_balancer, record.id)
        # The load balancer is put again, so that of two listeners for a port only one is created.
        then = [
            Put(key, records.encode(record)),
            Put(of.kv.key, records.encode(of.record)),
            *uses,
        ]
        if (await store.txn([absent(key), unchanged(of.kv), *compares], then)).succeeded:
            return
        await tries.again()


async def change_listener(
    store: Store, names: Names, arn: str, decide: Callable[[ListenerRecord], ListenerRecord]
) -> ListenerRecord:
    """Change a listener or its rules and return it; retries if others changed it meanwhile.

    Args:
        store: where it is.
        names: parses ARNs.
        arn: the listener's, or one of its rules'.
        decide: pure; returns the listener as it is to be, and may raise to refuse.

    Raises:
        ListenerMissing, RuleMissing: there is none.
        GroupMissing: a group that it is to forward to does not exist.
    """
    tries = access.ConflictRetries(arn)
    while True:
        found = await listener(store, names, arn)
        new = decide(found.record)
        if new == found.record:
            return new
        added = forwarding.groups_of(new) - forwarding.groups_of(found.record)
        compares, uses = await use_groups(store, names, added)
        put = Put(found.kv.key, records.encode(new))
        if (await store.txn([unchanged(found.kv), *compares], [put, *uses])).succeeded:
            return new
        await tries.again()


async def delete_listener(store: Store, names: Names, arn: str) -> None:
    """Delete a listener with its rules; raises ``ListenerMissing``."""
    found = await listener(store, names, arn)
    await store.txn([], [Delete(found.kv.key)])


async def group(store: Store, names: Names, arn: str) -> access.Found[TargetGroupRecord]:
    """Return a target group by its ARN; raises ``GroupMissing``."""
    name = naming.parse_target_group(names, arn)
    key = balancer_records.target_group_key(name or "")
    found = await access.find(store, TargetGroupRecord, key) if name else None
    if found is None or found.record.arn != arn:
        raise GroupMissing(arn)
    return found


async def groups(store: Store) -> list[TargetGroupRecord]:
    """Return all target groups, by name."""
    prefix = balancer_records.TARGET_GROUPS
    return [record async for _, record in access.scan(store, TargetGroupRecord, prefix)]


async def create_group(store: Store, record: TargetGroupRecord) -> None:
    """Create a target group; raises ``NameTaken``."""
    await _create(store, balancer_records.target_group_key(record.name), records.encode(record))


async def change_group(
    store: Store,
    names: Names,
    arn: str,
    decide: Callable[[TargetGroupRecord], TargetGroupRecord],
) -> TargetGroupRecord:
    """Change a target group and return it; ``decide`` is as in ``access.change``.

    Raises:
        GroupMissing: there is none.
    """
    found = await group(store, names, arn)
    changed = await access.change(store, TargetGroupRecord, found.kv.key, decide)
    if changed is None or changed.arn != arn:
        raise GroupMissing(arn)
    return changed


async def delete_group(
    store: Store, names: Names, arn: str, service_of: Callable[[], Awaitable[str]]
) -> None:
    """Delete a target group and its targets; one that does not exist is ignored.

    Args:
        store: where it is.
        names: parses ARNs.
        arn: of the group.
        service_of: returns the name of a service that uses it, or nothing; may be called again.

    Raises:
        GroupInUse: a listener or a service uses it.
    """
    tries = access.ConflictRetries(arn)
    while True:
        try:
            found = await group(store, names, arn)
        except GroupMissing:
            return
        guard = balancer_records.group_use_key(found.record.id)
        seen = await store.get(guard)
        if any(arn in forwarding.groups_of(each) for each in await listeners(store)):
            raise GroupInUse(arn, "a listener or a rule")
        if service := await service_of():
            raise GroupInUse(arn, f"service {service}")
        targets = balancer_records.targets_prefix(found.record.id)
        ops: list[Op] = [Delete(found.kv.key), Delete(guard), DeletePrefix(targets)]
        if (await store.txn([unchanged(found.kv), as_read(guard, seen)], ops)).succeeded:
            return
        await tries.again()


async def sweep(store: Store, now: float) -> int:
    """Delete the targets whose time is over and that no service looks after; return how many."""
    gone = 0
    async for kv, target in access.scan(store, TargetRecord, balancer_records.TARGETS):
        if target.is_gone(now) and not target.task_id:
            gone += (await store.txn([unchanged(kv)], [Delete(kv.key)], urgent=True)).succeeded
    return gone


async def use_groups(
    store: Store, names: Names, arns: Iterable[str]
) -> tuple[list[Compare], list[Op]]:
    """Return what a transaction compares and does that begins to use target groups.

    Raises:
        GroupMissing: one does not exist.
    """
    compares: list[Compare] = []
    ops: list[Op] = []
    for arn in sorted(set(arns)):
        found = await group(store, names, arn)
        compares.append(present(found.kv.key))
        ops.append(Put(balancer_records.group_use_key(found.record.id), b""))
    return compares, ops


async def _create(store: Store, key: str, value: bytes) -> None:
    if not (await store.txn([absent(key)], [Put(key, value)])).succeeded:
        raise NameTaken(records.last_element(key))
