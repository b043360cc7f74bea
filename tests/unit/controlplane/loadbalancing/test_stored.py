"""Load balancers, listeners and target groups in a store: what is kept whole when two change it at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.loadbalancing import (
    balancer_records,
    forwarding,
    named_records,
    naming,
    stored,
)
from agent.controlplane.loadbalancing.balancer_records import (
    ActionRecord,
    ListenerRecord,
    LoadBalancerRecord,
    RuleRecord,
    TargetGroupRecord,
    TargetRecord,
    WeightedGroup,
)
from agent.controlplane.names import Names
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAMES = Names()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "control.db")
    yield opened
    await opened.close()


async def no_user() -> str:
    return ""


async def make_group(store: SqliteStore, name: str) -> TargetGroupRecord:
    group_id = naming.new_id()
    arn = naming.target_group_arn(NAMES, name, group_id)
    made = TargetGroupRecord(name=name, id=group_id, arn=arn, protocol="HTTP", port=80)
    assert await stored.create_group(store, made, most=3) == made
    return made


async def make_balancer(store: SqliteStore, name: str = "web") -> LoadBalancerRecord:
    balancer_id = naming.new_id()
    arn = naming.load_balancer_arn(NAMES, "application", name, balancer_id)
    made = LoadBalancerRecord(name=name, id=balancer_id, arn=arn)
    assert await stored.create_balancer(store, made, most=3) == made
    return made


def forwards(*groups: TargetGroupRecord) -> RuleRecord:
    to = [WeightedGroup(target_group_arn=group.arn) for group in groups]
    return RuleRecord(id=naming.new_id(), action=ActionRecord(kind="forward", groups=to))


def listener_of(of: LoadBalancerRecord, rule: RuleRecord, port: int = 80) -> ListenerRecord:
    listener_id = naming.new_id()
    return ListenerRecord(
        id=listener_id,
        arn=naming.listener_arn(of.arn, listener_id),
        load_balancer=of.name,
        load_balancer_arn=of.arn,
        protocol="HTTP",
        port=port,
        rules=[rule],
    )


async def test_a_group_that_is_forwarded_to_is_not_deleted(store: SqliteStore) -> None:
    blue, green = await make_group(store, "blue"), await make_group(store, "green")
    listener = listener_of(await make_balancer(store), forwards(blue))
    await stored.create_listener(store, NAMES, listener)
    both = replace(listener.default_rule, action=forwards(blue, green).action)

    async def begins_to_forward() -> str:
        """A listener begins to use the group after its users were looked for."""
        found = [forwarding.groups_of(each) for each in await stored.listeners(store, "web")]
        await stored.change_listener(
            store, NAMES, listener.arn, lambda old: forwarding.with_rule(old, both)
        )
        return "a listener" if any(green.arn in arns for arns in found) else ""

    with pytest.raises(stored.GroupInUse):
        await stored.delete_group(store, NAMES, green.arn, begins_to_forward)
    assert (await stored.group(store, NAMES, green.arn)).record == green


async def test_a_deleted_group_takes_its_targets_along_and_is_not_forwarded_to(
    store: SqliteStore,
) -> None:
    blue, green = await make_group(store, "blue"), await make_group(store, "green")
    listener = listener_of(await make_balancer(store), forwards(blue))
    await stored.create_listener(store, NAMES, listener)
    key = balancer_records.target_key(green.id, "10.0.0.1", 80)
    target = TargetRecord(group_arn=green.arn, id="10.0.0.1", port=80)
    await store.txn([], [Put(key, records.encode(target))])

    await stored.delete_group(store, NAMES, green.arn, no_user)
    await stored.delete_group(store, NAMES, green.arn, no_user)

    assert await store.get(key) is None
    to_green = replace(listener.default_rule, action=forwards(green).action)
    with pytest.raises(stored.GroupMissing):
        await stored.change_listener(
            store, NAMES, listener.arn, lambda old: forwarding.with_rule(old, to_green)
        )


async def test_a_deleted_load_balancer_takes_its_listeners_along(store: SqliteStore) -> None:
    of, other = await make_balancer(store), await make_balancer(store, "web-2")
    blue = await make_group(store, "blue")
    gone, kept = listener_of(of, forwards(blue)), listener_of(other, forwards(blue))
    await stored.create_listener(store, NAMES, gone)
    await stored.create_listener(store, NAMES, kept)

    await stored.delete_balancer(store, NAMES, of.arn)

    left = await stored.listeners_named(store, NAMES, [gone.arn, kept.arn])
    assert [each.arn for each in left] == [kept.arn]
    with pytest.raises(stored.BalancerMissing):
        await stored.create_listener(store, NAMES, listener_of(of, forwards(blue)))


async def test_of_two_listeners_for_a_port_one_is_created(store: SqliteStore) -> None:
    of, blue = await make_balancer(store), await make_group(store, "blue")
    made = await asyncio.gather(
        *(stored.create_listener(store, NAMES, listener_of(of, forwards(blue))) for _ in range(3)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in made) == ["NoneType", "PortTaken", "PortTaken"]


async def test_of_two_listeners_that_change_to_a_port_one_gets_it(store: SqliteStore) -> None:
    of, blue = await make_balancer(store), await make_group(store, "blue")
    made = [listener_of(of, forwards(blue), port) for port in (80, 81, 82)]
    for each in made:
        await stored.create_listener(store, NAMES, each)

    async def to_443(arn: str) -> int:
        changed = await stored.change_listener(
            store, NAMES, arn, lambda old: replace(old, port=443)
        )
        return changed.port

    found = await asyncio.gather(*(to_443(each.arn) for each in made), return_exceptions=True)

    assert sorted(type(each).__name__ for each in found) == ["PortTaken", "PortTaken", "int"]
    ports = [each.port for each in await stored.listeners(store, "web")]
    assert ports.count(443) == 1


async def test_names_are_unique_and_arns_of_others_name_nothing(store: SqliteStore) -> None:
    blue = await make_group(store, "blue")
    again = replace(blue, id="0" * 16, arn=blue.arn.replace(blue.id, "0" * 16))
    assert await stored.create_group(store, again, most=1) == blue, "the name is taken"
    with pytest.raises(named_records.TooMany):
        await stored.create_group(store, replace(again, name="green"), most=1)
    for arn in (blue.arn.replace(blue.id, "0" * 16), blue.arn.replace("us-east-1", "eu-west-1")):
        with pytest.raises(stored.GroupMissing):
            await stored.group(store, NAMES, arn)
    unknown = replace(blue, arn=f"{blue.arn}/../x")
    with pytest.raises(stored.GroupMissing):
        await stored.group(store, NAMES, unknown.arn)
