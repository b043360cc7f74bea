"""The routes to other hosts: those that control says, and none that would harm tasks here."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.fleet import ROUTES, WIREGUARD, FleetHost
from agent.network.fleet.known import KnownFleet
from agent.network.fleet.wanted import (
    DEVICE,
    UNREACHABLE,
    Tunnel,
    changes,
    damage,
    tunnel_damage,
    wanted,
)

FLEET, OWN = "10.208.0.0/16", "10.208.1.0/24"


def known(**peers: tuple[str, str]) -> KnownFleet:
    hosts = {
        name: FleetHost(driver=ROUTES, range=cidr, address=address)
        for name, (cidr, address) in peers.items()
    }
    return KnownFleet(range=OWN, fleet_range=FLEET, peers=hosts, is_told=True)


def test_each_host_is_the_gateway_of_its_range_and_the_rest_is_unreachable() -> None:
    found = wanted(
        known(a=("10.208.2.0/24", "192.0.2.2"), b=("10.208.3.0/24", "192.0.2.3")), ROUTES
    )
    assert found.routes == {
        FLEET: UNREACHABLE, "10.208.2.0/24": "192.0.2.2", "10.208.3.0/24": "192.0.2.3",
    }  # fmt: skip
    assert not found.left_out
    assert wanted(KnownFleet(), ROUTES).routes == {}


@pytest.mark.parametrize(
    ("cidr", "address", "says"),
    [
        (OWN, "192.0.2.2", "overlaps that of this host"),
        ("10.208.0.0/23", "192.0.2.2", "overlaps that of this host"),
        (FLEET, "192.0.2.2", "is not one of"),
        ("0.0.0.0/0", "192.0.2.2", "is not one of"),
        ("192.0.2.0/24", "192.0.2.2", "is not one of"),
        ("", "192.0.2.2", "Address cannot be empty"),
        ("fd00:208::/64", "192.0.2.2", "not permitted|Expected 4 octets"),
        ("10.208.2.0/24", "", "Address cannot be empty"),
        ("10.208.2.0/24", "fd00::1", "not permitted|Expected 4 octets"),
        ("10.208.2.0/24", "10.208.7.7", "is one of tasks"),
    ],
)
def test_a_peer_that_cannot_be_is_left_out_with_the_reason(
    cidr: str, address: str, says: str
) -> None:
    found = wanted(known(a=(cidr, address), b=("10.208.9.0/24", "192.0.2.9")), ROUTES)
    assert found.routes == {FLEET: UNREACHABLE, "10.208.9.0/24": "192.0.2.9"}
    assert re.search(says, found.left_out["a"])


def test_a_host_of_another_kind_and_a_second_one_with_the_same_range_are_left_out() -> None:
    found = wanted(
        known(a=("10.208.2.0/24", "192.0.2.2"), b=("10.208.2.0/24", "192.0.2.3")), ROUTES
    )
    assert found.routes["10.208.2.0/24"] == "192.0.2.2"
    assert "another host" in found.left_out["b"]
    other = known(a=("10.208.2.0/24", "192.0.2.2"))
    assert "ECS_FLEET_NETWORK=routes" in wanted(other, "other").left_out["a"]


FLEET6, OWN6 = "fd00:208::/48", "fd00:208:0:1::/64"


def dual(driver: str = ROUTES, **peers: FleetHost) -> KnownFleet:
    return KnownFleet(
        range=OWN, fleet_range=FLEET, ipv6_range=OWN6, ipv6_fleet_range=FLEET6, peers=peers,
        is_told=True,
    )  # fmt: skip


def peer6(**more: Any) -> FleetHost:
    told = {
        "driver": ROUTES, "range": "10.208.2.0/24", "ipv6_range": "fd00:208:0:2::/64",
        "address": "192.0.2.2", "ipv6_address": "2001:db8::2",
    }  # fmt: skip
    return FleetHost(**(told | more))


def test_by_ipv6_there_is_a_way_where_both_hosts_have_a_range() -> None:
    both = {FLEET: UNREACHABLE, FLEET6: UNREACHABLE}
    by_ipv4, by_ipv6 = {"10.208.2.0/24": "192.0.2.2"}, {"fd00:208:0:2::/64": "2001:db8::2"}
    assert wanted(dual(a=peer6()), ROUTES).routes == both | by_ipv4 | by_ipv6
    assert wanted(dual(a=peer6(ipv6_range="")), ROUTES).routes == both | by_ipv4
    assert wanted(dual(a=peer6(ipv6_only=True)), ROUTES).routes == both | by_ipv6
    here = KnownFleet(range=OWN, fleet_range=FLEET, peers={"a": peer6()}, is_told=True)
    assert wanted(here, ROUTES).routes == {FLEET: UNREACHABLE} | by_ipv4
    alone = KnownFleet(
        ipv6_range=OWN6, ipv6_fleet_range=FLEET6, peers={"a": peer6(range="")}, is_told=True
    )
    assert wanted(alone, ROUTES).routes == {FLEET6: UNREACHABLE} | by_ipv6


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"ipv6_range": OWN6}, "overlaps that of this host"),
        ({"ipv6_range": "fd00:208::/63"}, "overlaps that of this host"),
        ({"ipv6_range": FLEET6}, "is not one of"),
        ({"ipv6_range": "fd00:9::/64"}, "is not one of"),
        ({"ipv6_range": "10.208.2.0/24"}, "not permitted|Expected|At least 3"),
        ({"ipv6_address": ""}, "Address cannot be empty"),
        ({"ipv6_address": "192.0.2.2"}, "At least 3 parts"),
        ({"ipv6_address": "fe80::2"}, "for one link alone"),
        ({"ipv6_address": "fd00:208::7"}, "is one of tasks"),
    ],
)
def test_a_peer_that_cannot_be_reached_by_ipv6_is_reached_by_ipv4(
    more: dict[str, str], says: str
) -> None:
    found = wanted(dual(a=peer6(**more)), ROUTES)
    assert found.routes == {
        FLEET: UNREACHABLE, FLEET6: UNREACHABLE, "10.208.2.0/24": "192.0.2.2"
    }  # fmt: skip
    assert re.search(says, found.left_out["a"])


def test_one_tunnel_is_of_both_ranges_of_a_host() -> None:
    told = {"driver": WIREGUARD, "port": 51820, "public_key": "k"}
    found = wanted(dual(a=peer6(**told)), WIREGUARD)
    ranges = "10.208.2.0/24 fd00:208:0:2::/64"
    assert found.tunnels == {"k": Tunnel(ranges, "192.0.2.2", 51820)}
    assert {found.routes[each] for each in ranges.split()} == {DEVICE}
    alone = wanted(dual(a=peer6(**told, ipv6_only=True)), WIREGUARD)
    assert alone.tunnels["k"].range == "fd00:208:0:2::/64"


networks = st.dictionaries(
    st.integers(0, 30).map(lambda n: f"10.208.{n}.0/24"),
    st.sampled_from(["192.0.2.1", "192.0.2.2", UNREACHABLE]),
)


@given(networks, networks)
def test_changes_lead_from_any_routes_to_any_others(
    present: dict[str, str], needed: dict[str, str]
) -> None:
    change = changes(present, needed)
    after = {net: via for net, via in present.items() if net not in change.remove} | change.put
    assert after == needed
    assert all(present.get(net) != via for net, via in change.put.items())
    assert bool(change) is (present != needed)
    assert not changes(after, needed)
    assert bool(damage(present, needed)) is (present != needed)


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_control_says_no_route_touches_the_own_range(cidr: str, address: str) -> None:
    for network in wanted(known(a=(cidr, address)), ROUTES).routes:
        assert network == FLEET or not IPv4Network(network).overlaps(IPv4Network(OWN))


def tunnelled(**peers: FleetHost) -> KnownFleet:
    return KnownFleet(range=OWN, fleet_range=FLEET, peers=peers, is_told=True)


def test_by_wireguard_each_host_has_a_tunnel_for_its_range() -> None:
    host = FleetHost(
        driver=WIREGUARD, range="10.208.2.0/24", address="2001:db8::2", port=51820, public_key="k"
    )
    found = wanted(tunnelled(a=host), WIREGUARD)
    assert found.routes == {FLEET: UNREACHABLE, "10.208.2.0/24": DEVICE}
    assert found.tunnels == {"k": Tunnel("10.208.2.0/24", "2001:db8::2", 51820)}
    same_key = FleetHost(
        driver=WIREGUARD, range="10.208.3.0/24", address="192.0.2.3", port=1, public_key="k"
    )
    twice = wanted(tunnelled(a=host, b=same_key), WIREGUARD)
    assert (twice.tunnels, twice.routes) == (found.tunnels, found.routes)
    assert "key" in twice.left_out["b"]
    own = wanted(tunnelled(a=host), WIREGUARD, own_key="k")
    assert (own.tunnels, own.routes) == ({}, {FLEET: UNREACHABLE})
    assert "the key of this host" in own.left_out["a"]
    for lacking in (
        FleetHost(driver=WIREGUARD, range="10.208.4.0/24", address="192.0.2.4", port=1),
        FleetHost(driver=WIREGUARD, range="10.208.4.0/24", address="192.0.2.4", public_key="x"),
    ):
        assert "missing" in wanted(tunnelled(a=lacking), WIREGUARD).left_out["a"]


def test_what_others_change_of_the_peers_is_damage_and_a_learned_address_is_not() -> None:
    written = {"k": Tunnel("10.208.2.0/24", "192.0.2.2", 51820)}
    assert not tunnel_damage({"k": "10.208.2.0/24"}, written)
    assert tunnel_damage({"k": "0.0.0.0/0"}, written)
    assert tunnel_damage({}, written)
    assert tunnel_damage({"k": "10.208.2.0/24", "x": ""}, written)
