"""Finds and changes load balancers, listeners and target groups in the store; each change is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import access, records
from agent.controlplane.loadbalancing import (
    balancer_records,
    forwarding,
    named_records,
    naming,
)
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


class _Missing(AgentError):
    """There is no such thing."""

    what = ""

    def __init__(self, given: str) -> None:
        super().__init__(f"{self.what} '{given[:_SHOWN]}' not found")


class BalancerMissing(_Missing):
    """There is no such load balancer."""

    what = "Load balancer"


class ListenerMissing(_Missing):
    """There is no such listener."""

    what = "Listener"


class RuleMissing(_Missing):
    """There is no such rule."""

    what = "Rule"


class GroupMissing(_Missing):
    """There is no such target group."""

    what = "Target groups"


class BalancerProtected(AgentError):
    """A load balancer must not be deleted."""

    def __init__(self, arn: str) -> None:
        super().__init__(
            f"Load balancer '{arn[:_SHOWN]}' cannot be deleted because deletion protection is enabled"
        )


class GroupInUse(AgentError):
    """A target group is used by a listener or by a service."""

    def __init__(self, arn: str, by: str) -> None:
        super().__init__(f"Target group '{arn[:_SHOWN]}' is currently in use by {by}")


class PortTaken(AgentError):
    """A load balancer has another listener for a port."""

    def __init__(self) -> None:
        super().__init__("A listener already exists on this port for this load balancer")


async def balancer(store: Store, names: Names, arn: str) -> access.Found[LoadBalancerRecord]:
    """Return a load balancer by its ARN; raises ``BalancerMissing``."""
    found = await access.find(store, LoadBalancerRecord, _balancer_key(names, arn))
    if found is None or found.record.arn != arn:
        raise BalancerMissing(arn)
    return found


async def balancers(store: Store, named: Iterable[str] | None = None) -> list[LoadBalancerRecord]:
    """Return all load balancers, or those with one of these names."""
    keys = None if named is None else map(balancer_records.load_balancer_key, named)
    return await named_records.listed(
        store, LoadBalancerRecord, balancer_records.LOAD_BALANCERS, keys
    )


async def create_balancer(
    store: Store, record: LoadBalancerRecord, most: int
) -> LoadBalancerRecord:
    """Create a load balancer and return it, or the one that has its name.

    Raises:
        named_records.TooMany: there are ``most`` already.
    """
    key = balancer_records.load_balancer_key(record.name)
    return await named_records.create(store, key, record, most, "load balancers")


async def change_balancer(
    store: Store,
    names: Names,
    arn: str,
    decide: Callable[[LoadBalancerRecord], LoadBalancerRecord],
) -> LoadBalancerRecord:
    """Change a load balancer and return it; ``decide`` is as in ``access.change``.

    Raises:
        BalancerMissing: there is none.
    """
    return await named_records.change(
        store, LoadBalancerRecord, _balancer_key(names, arn), arn, decide, BalancerMissing(arn)
    )


async def delete_balancer(store: Store, names: Names, arn: str) -> None:
    """Delete a load balancer and its listeners; one that does not exist is ignored.

    Raises:
        BalancerProtected: it must not be deleted.
    """
    tries = access.ConflictRetries(arn)
    while True:
        try:
            found = await balancer(store, names, arn)
        except BalancerMissing:
            return
        if found.record.is_protected:
            raise BalancerProtected(arn)
        ops: list[Op] = [
            Delete(found.kv.key),
            DeletePrefix(balancer_records.listeners_prefix(found.record.name)),
        ]
        if (await store.txn([unchanged(found.kv)], ops)).succeeded:
            return
        await tries.again()


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


async def listeners(store: Store, load_balancer: str) -> list[ListenerRecord]:
    """Return the listeners of a load balancer, by its name."""
    prefix = balancer_records.listeners_prefix(load_balancer)
    return await named_records.listed(store, ListenerRecord, prefix)


async def listeners_named(store: Store, names: Names, arns: Iterable[str]) -> list[ListenerRecord]:
    """Return the listeners that ARNs of them or of their rules name; those that exist, each once."""
    named = (naming.parse_listener(names, arn) for arn in arns)
    keys = [
        balancer_records.listener_key(one.load_balancer, one.listener_id)
        for one in named
        if one is not None
    ]
    return await named_records.listed(store, ListenerRecord, balancer_records.LISTENERS, keys)


async def create_listener(store: Store, names: Names, record: ListenerRecord) -> None:
    """Create a listener.

    Raises:
        BalancerMissing, GroupMissing: its load balancer, or a group that it forwards to, does not exist.
        PortTaken: the load balancer has a listener for that port.
    """
    tries = access.ConflictRetries(record.arn)
    key = balancer_records.listener_key(record.load_balancer, record.id)
    while True:
        claimed, claims = await _claim_port(store, names, record)
        exist, uses = await use_groups(store, names, forwarding.groups_of(record))
        then = [Put(key, records.encode(record)), *claims, *uses]
        if (await store.txn([absent(key), *claimed, *exist], then)).succeeded:
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
        PortTaken: its load balancer has another listener for its new port.
    """
    tries = access.ConflictRetries(arn)
    while True:
        found = await listener(store, names, arn)
        new = decide(found.record)
        if new == found.record:
            return new
        added = forwarding.groups_of(new) - forwarding.groups_of(found.record)
        compares, ops = await use_groups(store, names, added)
        if new.port != found.record.port:
            claimed, claims = await _claim_port(store, names, new)
            compares, ops = [*compares, *claimed], [*ops, *claims]
        put = Put(found.kv.key, records.encode(new))
        if (await store.txn([unchanged(found.kv), *compares], [put, *ops])).succeeded:
            return new
        await tries.again()


async def delete_listener(store: Store, names: Names, arn: str) -> None:
    """Delete a listener with its rules; raises ``ListenerMissing``."""
    found = await listener(store, names, arn)
    await store.txn([], [Delete(found.kv.key)])


async def group(store: Store, names: Names, arn: str) -> access.Found[TargetGroupRecord]:
    """Return a target group by its ARN; raises ``GroupMissing``."""
    found = await access.find(store, TargetGroupRecord, _group_key(names, arn))
    if found is None or found.record.arn != arn:
        raise GroupMissing(arn)
    return found


async def groups(store: Store, named: Iterable[str] | None = None) -> list[TargetGroupRecord]:
    """Return all target groups, or those with one of these names."""
    keys = None if named is None else map(balancer_records.target_group_key, named)
    return await named_records.listed(
        store, TargetGroupRecord, balancer_records.TARGET_GROUPS, keys
    )


async def create_group(store: Store, record: TargetGroupRecord, most: int) -> TargetGroupRecord:
    """Create a target group and return it, or the one that has its name.

    Raises:
        named_records.TooMany: there are ``most`` already.
    """
    key = balancer_records.target_group_key(record.name)
    return await named_records.create(store, key, record, most, "target groups")


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
    return await named_records.change(
        store, TargetGroupRecord, _group_key(names, arn), arn, decide, GroupMissing(arn)
    )


async def delete_group(
    store: Store, names: Names, arn: str, user_of: Callable[[], Awaitable[str]]
) -> None:
    """Delete a target group and its targets; one that does not exist is ignored.

    Args:
        store: where it is.
        names: parses ARNs.
        arn: of the group.
        user_of: returns what uses it, for people, or nothing, by all that was committed before the call; may
            be called again.

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
        if user := await user_of():
            raise GroupInUse(arn, user)
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


async def _claim_port(
    store: Store, names: Names, record: ListenerRecord
) -> tuple[list[Compare], list[Op]]:
    """Return what a transaction compares and does that gives a listener its port.

    Raises:
        BalancerMissing: its load balancer does not exist.
        PortTaken: another listener has the port.
    """
    of = await balancer(store, names, record.load_balancer_arn)
    others = await listeners(store, record.load_balancer)
    if any(each.port == record.port and each.id != record.id for each in others):
        raise PortTaken
    # The load balancer is put again, so that of two listeners for a port only one gets it.
    return [unchanged(of.kv)], [Put(of.kv.key, records.encode(of.record))]


def _balancer_key(names: Names, arn: str) -> str:
    name = naming.parse_load_balancer(names, arn)
    if name is None:
        raise BalancerMissing(arn)
    return balancer_records.load_balancer_key(name)


def _group_key(names: Names, arn: str) -> str:
    name = naming.parse_target_group(names, arn)
    if name is None:
        raise GroupMissing(arn)
    return balancer_records.target_group_key(name)
