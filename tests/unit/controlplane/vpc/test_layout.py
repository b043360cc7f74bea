"""Subnets by the zones and the pools of hosts."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.names import Names
from agent.controlplane.records import AttributeRecord
from agent.controlplane.vpc import layout
from agent.controlplane.vpc.seen import SeenHost, SeenTask

NAMES = Names()


def host(zone: str, pool: str, **more: Any) -> SeenHost:
    values = {"ecs.availability-zone": zone, "ecs-host-agent.task-pool": pool}
    attributes = {name: AttributeRecord(value=value) for name, value in values.items()}
    return SeenHost(id=f"{zone}{pool}", attributes=attributes, **more)


def test_a_zone_without_hosts_has_a_subnet() -> None:
    (found,) = layout.subnets(NAMES, [], "here")
    assert (found.zone, str(found.block), found.addresses) == ("here", layout.POOL, 0)


def test_a_subnet_holds_the_pools_of_the_hosts_of_its_zone() -> None:
    hosts = [
        host("a", "10.1.0.0/24"),
        host("a", "10.1.1.0/24"),
        host("b", "10.2.0.0/24", range="10.9.0.0/28"),
        host("b", "none"),
    ]
    found = layout.subnets(NAMES, hosts, "a")
    assert [(one.zone, str(one.block), one.addresses) for one in found] == [
        ("a", "10.1.0.0/23", 506),
        ("b", "10.9.0.0/28", 13),
    ]
    assert len({one.id for one in found}) == 2
    assert layout.subnets(NAMES, reversed(hosts), "a") == found


def test_pools_that_are_far_apart_are_not_said_to_be_one() -> None:
    far = [IPv4Network("10.0.0.0/24"), IPv4Network("192.168.0.0/24")]
    assert layout.covering(far) == far[0]


NETWORKS = st.integers(0, 2**16 - 1).map(lambda n: IPv4Network((10 << 24 | n << 8, 24)))


@given(st.lists(NETWORKS, min_size=1, max_size=8))
def test_a_block_is_the_smallest_that_holds_all(networks: list[IPv4Network]) -> None:
    block = layout.covering(networks)
    assert all(each.subnet_of(block) for each in networks)
    if len(set(networks)) > 1:
        halves = list(block.subnets())
        assert not any(all(each.subnet_of(half) for each in networks) for half in halves)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (["subnet-1", layout.subnet_id(NAMES, "a")], layout.subnet_id(NAMES, "a")),
        (["subnet-1", "subnet-2"], "subnet-1"),
        ([layout.subnet_id(NAMES, "b")], layout.subnet_id(NAMES, "b")),
        ([], layout.subnet_id(NAMES, "a")),
    ],
)
def test_the_subnet_of_a_task(named: list[str], expected: str) -> None:
    assert layout.subnet_of(NAMES, named, "a") == expected


def test_the_ids_of_another_account_are_others() -> None:
    assert layout.subnet_id(Names(account="123456789012"), "a") != layout.subnet_id(NAMES, "a")


def test_a_task_without_a_reported_interface_has_none() -> None:
    assert SeenTask().interface is None
