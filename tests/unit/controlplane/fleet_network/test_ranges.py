"""Ranges never overlap, and none is given while a host has it."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.fleet_network.ranges import RangePlan

PLAN = RangePlan.parse("10.208.0.0/16", 24)


@pytest.mark.parametrize(
    ("cidr", "prefix", "says"),
    [
        ("10.208.0.1/16", 24, "host bits"),
        ("fd00::/64", 24, "not an IPv4 network"),
        ("10.208.0.0/24", 24, "from /25 to /28"),
        ("10.208.0.0/16", 29, "from /17 to /28"),
        ("10.0.0.0/8", 28, "more than 65536"),
    ],
)
def test_networks_that_cannot_be_cut_are_refused(cidr: str, prefix: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RangePlan.parse(cidr, prefix)


def test_a_range_rests_after_it_was_given_back() -> None:
    assert PLAN.free([]) == "10.208.0.0/24"
    assert PLAN.free(["10.208.1.0/24"], after="10.208.0.0/24") == "10.208.2.0/24"
    assert PLAN.free([], after="10.208.255.0/24") == "10.208.0.0/24"
    assert PLAN.free([], after="of an earlier plan") == "10.208.0.0/24"


def test_a_host_that_has_a_range_keeps_it_if_nobody_else_has_it() -> None:
    assert PLAN.free([], after="10.208.7.0/24", wished="10.208.3.0/24") == "10.208.3.0/24"
    assert PLAN.free(["10.208.3.0/24"], wished="10.208.3.0/24") == "10.208.0.0/24"
    assert PLAN.free([], wished="10.209.3.0/24") == PLAN.free([], wished="x") == "10.208.0.0/24"


def test_ranges_of_an_earlier_plan_are_not_given_again() -> None:
    assert PLAN.free(["10.208.0.0/17"]) == "10.208.128.0/24"
    assert PLAN.free(["10.208.0.16/28", "172.16.0.0/24"]) == "10.208.1.0/24"
    assert not PLAN.free(["10.0.0.0/8"])


@given(
    st.integers(8, 24).flatmap(
        lambda whole: st.tuples(st.just(whole), st.integers(whole + 1, min(28, whole + 6)))
    ),
    st.lists(st.integers(0, 63), max_size=150),
)
def test_hosts_that_come_and_go_never_share_a_range(
    lengths: tuple[int, int], events: list[int]
) -> None:
    whole, prefix = lengths
    plan = RangePlan.parse(str(IPv4Network((int(PLAN.network.network_address), whole), strict=False)), prefix)  # fmt: skip
    held: dict[int, str] = {}
    last = ""
    for host in events:
        if host in held:
            del held[host]
            continue
        found = plan.free(held.values(), after=last)
        if not found:
            assert len(held) == plan.size
            continue
        network = IPv4Network(found)
        assert network.prefixlen == prefix
        assert network.subnet_of(plan.network)
        assert not any(network.overlaps(IPv4Network(each)) for each in held.values())
        held[host] = last = found
