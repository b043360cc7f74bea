"""Which links lead outside of the host."""

from __future__ import annotations

import pytest

from agent.network.bridge.egress_links import comes_and_goes, leading_outside
from agent.network.bridge.links import HostLink


def link(name: str, number: int, kind: str = "", master: int = 0) -> HostLink:
    return HostLink(name=name, number=number, kind=kind, master=master, mtu=1500, is_up=True)


HOST = [
    link("lo", 1),
    link("eth0", 2),
    link("eth1", 3, master=20),
    link("wg0", 4, "wireguard"),
    link("docker0", 10, "bridge"),
    link("veth1234", 11, "veth", master=10),
    link("br-0123456789ab", 12, "bridge"),
    link("virbr0", 13, "bridge"),
    link("vnet0", 14, "tun", master=13),
    link("ecs-br0", 15, "bridge"),
    link("ecs0acf0002", 16, "veth", master=15),
    link("br0", 20, "bridge"),
    link("calic0ffee", 21, "veth"),
    link("vlan7", 22, "vlan"),
]


def test_networks_inside_the_host_do_not_lead_outside() -> None:
    found = leading_outside(HOST, addressed={1, 2, 10, 12, 13, 15, 20}, default=2)
    assert found == {"eth0", "wg0", "br0", "vlan7"}


def test_the_default_route_leads_outside_by_whatever_link() -> None:
    nested = [
        link("lo", 1),
        link("eth0", 2, "veth"),
        link("eth1", 3, "veth"),
        link("br0", 4, "bridge"),
    ]
    assert leading_outside(nested, addressed={2, 3}, default=2) == {"eth0", "eth1"}
    assert leading_outside(nested, addressed=(), default=4) == {"br0"}
    assert leading_outside(nested, addressed=(), default=0) == frozenset()


def test_a_link_of_a_vrf_leads_where_it_did() -> None:
    links = [link("blue", 5, "vrf"), link("eth2", 6, master=5)]
    assert "eth2" in leading_outside(links, addressed=(), default=0)


def test_a_name_that_rules_would_take_for_a_pattern_is_left_out() -> None:
    odd = [link("eth+", 2), link("eth*", 3), link('e"h', 4)]
    assert leading_outside(odd, addressed=(), default=2) == frozenset()


@pytest.mark.parametrize(
    ("name", "does"),
    [("veth12ab", True), ("ecs0acf0002", True), ("ecs-br0", False), ("tun0", False)],
)
def test_links_of_containers_come_and_go(name: str, does: bool) -> None:
    assert comes_and_goes(name) is does
