"""Ranges never overlap, and none is given while a host has it."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.fleet_network.ranges import RangePlan

PLAN = RangePlan.parse("10.208.0.0/16", 24)
DUAL = RangePlan.parse("10.208.0.0/16", 24, "fd00:208::/48", 64)
ALONE = RangePlan.parse("", 24, "fd00:208::/48", 64)


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


@pytest.mark.parametrize(
    ("cidr", "prefix", "says"),
    [
        ("10.208.0.0/16", 24, "not an IPv6 network"),
        ("fd00::1/64", 80, "host bits"),
        ("fd00::/64", 64, "from /65 to /96"),
        ("fd00::/64", 97, "from /65 to /96"),
        ("fd00::/40", 64, "more than 65536"),
        ("fd00::/57", 64, "has 128 ranges, and 10.208.0.0/16 has 256"),
        ("fe80::/10", 20, "is not for hosts"),
        ("ff00::/8", 20, "is not for hosts"),
    ],
)
def test_networks_of_ipv6_that_cannot_be_cut_are_refused(cidr: str, prefix: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RangePlan.parse("10.208.0.0/16", 24, cidr, prefix)


@given(st.integers(0, 255))
def test_ranges_of_both_kinds_have_the_same_place(place: int) -> None:
    ipv4, ipv6 = DUAL.of_ipv4(place), DUAL.of_ipv6(place)
    assert (ipv4, ipv6) == (f"10.208.{place}.0/24", str(IPv6Network((0xFD00_0208 << 96 | place << 64, 64))))  # fmt: skip
    assert DUAL.index_of(ipv4) == DUAL.index_of(ipv6) == ALONE.index_of(ipv6) == place
    assert DUAL.at(place) == ipv4
    assert ALONE.at(place) == ipv6
    assert DUAL.free([ipv6], wished=[ipv4]) != ipv4, "a host has it since there was IPv6 alone"
    assert ALONE.free([], wished=["x", ipv6]) == ipv6
    assert not PLAN.of_ipv6(place)
    assert not ALONE.of_ipv4(place)


def test_there_is_no_place_beyond_the_smaller_network() -> None:
    assert DUAL.index_of("fd00:208:0:100::/64") is None
    assert ALONE.index_of("fd00:208:0:100::/64") == 256
    assert ALONE.index_of("fd00:209::/64") is ALONE.index_of("10.208.0.0/24") is None


def test_a_range_rests_after_it_was_given_back() -> None:
    assert PLAN.free([]) == "10.208.0.0/24"
    assert PLAN.free(["10.208.1.0/24"], after="10.208.0.0/24") == "10.208.2.0/24"
    assert PLAN.free([], after="10.208.255.0/24") == "10.208.0.0/24"
    assert PLAN.free([], after="of an earlier plan") == "10.208.0.0/24"


def test_a_host_that_has_a_range_keeps_it_if_nobody_else_has_it() -> None:
    assert PLAN.free([], after="10.208.7.0/24", wished=["10.208.3.0/24"]) == "10.208.3.0/24"
    assert PLAN.free(["10.208.3.0/24"], wished=["10.208.3.0/24"]) == "10.208.0.0/24"
    assert PLAN.free([], wished=["10.209.3.0/24"]) == PLAN.free([], wished=["x"]) == "10.208.0.0/24"


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
    assert PLAN.ipv4 is not None
    first = int(PLAN.ipv4.network.network_address)
    whole_network = IPv4Network((first, whole), strict=False)
    plan = RangePlan.parse(str(whole_network), prefix)
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
        assert network.subnet_of(whole_network)
        assert not any(network.overlaps(IPv4Network(each)) for each in held.values())
        held[host] = last = found
