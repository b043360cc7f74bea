"""Pure decisions of the drivers: which addresses fit, which rules there are, what may change."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.errors import NetworkFailure
from agent.network.address_pool import AddressPool, Ipv6Lease
from agent.network.addresses import link_name_of, mac_of_ipv6
from agent.network.bridge.bridge_port_rules import BridgePort
from agent.network.bridge.links import SandboxLink
from agent.network.drivers import link_rules, sandbox_rules
from agent.network.drivers.leases import why_without_ipv6
from agent.network.drivers.opening import refuse_change
from agent.network.drivers.parent import Parent, ipv6_subnet_on, subnet_on
from agent.network.drivers.routed import layout_of
from agent.network.host import link_ruleset
from agent.network.host.agent_address import Doors
from agent.network.host.firewall import Wanted
from agent.network.host_routes import Route, not_of_links
from agent.network.sandbox_record import decode, encode
from agent.network.sandboxes.recovery import RecoveryPlan, drop_unfit
from tests.unit.network.builders import record

if TYPE_CHECKING:
    from pathlib import Path

POOL = AddressPool("192.0.2.32/27", quarantine_s=1)
PARENT = Parent(
    "lan0", 7, "02:00:00:00:00:07", 1500, True, frozenset({"192.0.2.2/24"}), "192.0.2.1"
)
LINK = SandboxLink(
    "ecsc0000222", "0a:58:c0:00:02:22", "192.0.2.34", 24, "192.0.2.1", 1500, ("1.2.3.4/32",)
)


def test_tasks_are_told_the_network_and_router_of_the_parent() -> None:
    assert subnet_on(PARENT, POOL, "") == (24, "192.0.2.1")
    assert subnet_on(PARENT, POOL, "192.0.2.254") == (24, "192.0.2.254")


@pytest.mark.parametrize(
    ("parent", "gateway", "said"),
    [
        (PARENT._replace(addresses=frozenset()), "", "not part of a network of lan0 (no IPv4"),
        (PARENT._replace(addresses=frozenset({"10.0.0.1/8"})), "", "not part of a network of lan0"),
        (PARENT._replace(gateway=""), "", "set ECS_TASK_NETWORK_GATEWAY"),
        (PARENT, "10.0.0.1", "set ECS_TASK_NETWORK_GATEWAY"),
        (PARENT, "fd00::1", "set ECS_TASK_NETWORK_GATEWAY"),
        (PARENT, "192.0.2.40", "contains 192.0.2.40"),
        (PARENT._replace(addresses=frozenset({"192.0.2.41/24"})), "", "contains 192.0.2.41"),
    ],
)
def test_a_pool_that_does_not_fit_the_parent_is_refused(
    parent: Parent, gateway: str, said: str
) -> None:
    with pytest.raises(NetworkFailure) as failure:
        subnet_on(parent, POOL, gateway)
    assert said in str(failure.value)


@given(
    host=st.integers(1, 254), router=st.integers(1, 254), start=st.integers(0, 31),
    length=st.integers(24, 29),
)  # fmt: skip
def test_no_task_gets_the_address_of_host_or_router(
    host: int, router: int, start: int, length: int
) -> None:
    network = IPv4Network(f"192.0.2.{start * 8}/{length}", strict=False)
    pool = AddressPool(str(network), quarantine_s=1)
    parent = PARENT._replace(
        addresses=frozenset({f"192.0.2.{host}/24"}), gateway=f"192.0.2.{router}"
    )
    used = {IPv4Address(f"192.0.2.{host}"), IPv4Address(f"192.0.2.{router}")}
    try:
        subnet = subnet_on(parent, pool, "")
    except NetworkFailure:
        assert any(address in network for address in used)
        return
    first = IPv4Address(pool.take(0))
    assert first not in used
    assert first in IPv4Interface(f"{subnet.gateway}/{subnet.prefix_len}").network


def test_routes_of_the_driver_itself_do_not_count_as_others() -> None:
    own = [
        Route(IPv4Network("192.0.2.33/32"), "lo", via_gateway=False),
        Route(IPv4Network("192.0.2.32/27"), "", via_gateway=False),
        Route(IPv4Network("192.0.2.40/32"), link_name_of("192.0.2.40"), via_gateway=False),
    ]
    other = Route(IPv4Network("192.0.2.32/28"), "docker0", via_gateway=False)
    assert not_of_links([*own, other], POOL) == [other]


def test_rules_name_links_of_the_pool_and_of_tasks_of_an_earlier_one() -> None:
    layout = layout_of(POOL, ["192.0.2.34", "10.1.1.1"], ["192.0.2.33"])
    assert layout.pools == {"192.0.2.32/27", "10.1.1.1/32"}
    assert layout.task_links == ("ecs0a010101*", "ecsc000022*", "ecsc000023*")
    assert layout.is_routed


def test_rules_do_not_grow_with_tasks() -> None:
    layout = layout_of(POOL, (), ())
    ports = [BridgePort(link_name_of(f"192.0.2.{n}"), "", f"192.0.2.{n}") for n in range(34, 60)]
    none = [c for c in link_rules.ruleset("t", layout, ()) if "rule" in c.get("add", {})]
    many = [c for c in link_rules.ruleset("t", layout, (), ports) if "rule" in c.get("add", {})]
    assert none == many
    assert len(none) == 7


def test_an_element_is_as_the_set_keeps_it() -> None:
    name, key = link_rules.element_of("ecsc0000222", "192.0.2.34")
    assert (name, key) == ("ports", b"ecsc0000222" + bytes(5) + bytes([192, 0, 2, 34]))


def test_links_that_lead_to_this_host_only_end_at_the_agents_server() -> None:
    layout = layout_of(POOL, (), ())

    def comments(chain: str, *, is_routed: bool) -> list[str]:
        wanted = Wanted(layout._replace(is_routed=is_routed), frozenset({"eth0"}))
        commands = link_ruleset.ruleset(
            "t", wanted, doors=Doors(51679, "docker0", "", 51678, (6820,))
        )
        rules = [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]
        found = [r["comment"].rpartition(" ")[0] for r in rules if r["chain"] == chain]
        return list(dict.fromkeys(found))

    assert comments("from_task", is_routed=False) == ["into other networks of this host"]
    assert comments("from_task", is_routed=True)[:2] == ["task to task", "task to outside"]
    assert comments("agent", is_routed=False)[1:4] == [
        "tasks to the agent's server", "answers to this host", "tasks to this host",
    ]  # fmt: skip
    assert comments("agent", is_routed=True)[1:3] == [
        "tasks to the agent's server", "tasks to ports of control and agent",
    ]  # fmt: skip
    assert "tasks to this host" not in comments("agent", is_routed=True)


def test_a_shared_mac_is_not_compared() -> None:
    def comments(*, has_own_mac: bool) -> set[str]:
        commands = sandbox_rules.ruleset(LINK, "eth0", has_own_mac=has_own_mac)
        rules = [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]
        return {rule["comment"].rpartition(" ")[0] for rule in rules}

    own = {"foreign MAC", "foreign MAC in ARP"}
    assert comments(has_own_mac=True) - comments(has_own_mac=False) == own
    assert {"own ARP", "own packets", "all else"} <= comments(has_own_mac=False)


def test_another_driver_is_refused_while_tasks_have_the_old_one() -> None:
    refuse_change("routed", [], POOL)
    refuse_change("bridge", [record(5, "arn")], POOL)
    with pytest.raises(NetworkFailure, match=r"ECS_TASK_NETWORK_DRIVER=routed, but .* bridge; set"):
        refuse_change("routed", [record(5, "arn")], POOL)


def test_unclaimed_sandboxes_of_another_driver_are_dropped() -> None:
    old, new = record(5), replace(record(6), driver="routed")
    plan = RecoveryPlan([], [old, new], [], [], [], [], [], [])
    drop_unfit(plan, lambda row: row.driver == "routed")
    assert (plan.ready, plan.dropped) == ([new], [old])


IPV6_POOL = AddressPool("192.0.2.32/27", ipv6_cidr="2001:db8::20:0/112", quarantine_s=1)
IPV6_PARENT = PARENT._replace(ipv6_addresses=frozenset({"2001:db8::2/64"}), ipv6_gateway="fe80::1")


def test_tasks_are_told_the_ipv6_network_and_router_of_the_parent() -> None:
    assert ipv6_subnet_on(IPV6_PARENT, IPV6_POOL, "") == (64, "fe80::1")
    assert ipv6_subnet_on(IPV6_PARENT, IPV6_POOL, "2001:db8::1") == (64, "2001:db8::1")


@pytest.mark.parametrize(
    ("parent", "gateway", "said"),
    [
        (PARENT, "", "not part of a network of lan0 (no IPv6"),
        (IPV6_PARENT._replace(ipv6_addresses=frozenset({"fd00::2/64"})), "", "not part of a network"),
        (IPV6_PARENT._replace(ipv6_gateway=""), "", "set ECS_TASK_NETWORK_IPV6_GATEWAY"),
        (IPV6_PARENT, "2001:db9::1", "set ECS_TASK_NETWORK_IPV6_GATEWAY"),
        (IPV6_PARENT, "192.0.2.1", "set ECS_TASK_NETWORK_IPV6_GATEWAY"),
        (IPV6_PARENT, "2001:db8::20:9", "contains 2001:db8::20:9"),
        (
            IPV6_PARENT._replace(ipv6_addresses=frozenset({"2001:db8::20:7/64"})), "",
            "contains 2001:db8::20:7",
        ),
    ],
)  # fmt: skip
def test_a_pool_of_ipv6_that_does_not_fit_the_parent_is_refused(
    parent: Parent, gateway: str, said: str
) -> None:
    with pytest.raises(NetworkFailure) as failure:
        ipv6_subnet_on(parent, IPV6_POOL, gateway)
    assert said in str(failure.value)


def test_a_child_answers_only_for_its_own_ipv6_address() -> None:
    link = LINK._replace(ipv6=Ipv6Lease("2001:db8::20:2", 64, "fe80::1"))
    commands = sandbox_rules.ruleset(link, "eth0", has_own_mac=True)
    rules = [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]
    names = [rule["comment"].rpartition(" ")[0] for rule in rules]
    at = names.index
    assert (
        at("IPv6 answer for another") < at("IPv6 routers") < at("own IPv6 packets") < at("all else")
    )
    without = sandbox_rules.ruleset(LINK, "eth0", has_own_mac=True)
    assert not [c for c in without if "IPv6" in str(c)]


@pytest.mark.parametrize(
    ("ipv4_cidr", "ipv6_cidr"),
    [("192.0.2.0/27", "2001:db8::20:0/112"), ("192.0.2.32/27", "fd00::/64"), ("192.0.2.32/27", ""),
     ("", "2001:db8::20:0/112")],
)  # fmt: skip
def test_other_ipv6_is_refused_while_tasks_have_it(ipv4_cidr: str, ipv6_cidr: str) -> None:
    task = replace(
        record(34, "arn", "192.0.2"), ipv6=Ipv6Lease(IPV6_POOL.ipv6_of("192.0.2.34"), 128, "x")
    )
    refuse_change("bridge", [task], IPV6_POOL)
    refuse_change("bridge", [record(34, "arn", "192.0.2")], POOL)
    other = AddressPool(ipv4_cidr, ipv6_cidr=ipv6_cidr, quarantine_s=1)
    with pytest.raises(NetworkFailure, match=r"still runs with 2001:db8::20:2, .*set .* back"):
        refuse_change("bridge", [task], other)


def test_what_a_task_shows_with_ipv6_alone() -> None:
    alone = replace(record(2), ipv6=Ipv6Lease("fd00::2", 128, "fd00::1"), ipv6_only=True)
    shown = alone.network()
    assert (shown.ipv4, shown.gateway, shown.ipv6) == ("", "", "fd00::2")
    assert shown.asks_from == alone.ipv4
    assert alone.addresses == ("fd00::2",)
    assert decode(encode(alone)) == alone
    both = replace(alone, ipv6_only=False)
    assert both.addresses == (both.ipv4, "fd00::2")
    assert both.network().asks_from == both.ipv4


def test_why_a_host_has_no_ipv6(tmp_path: Path) -> None:
    assert "this kernel has no IPv6" in why_without_ipv6(tmp_path)
    for name in ("all", "default"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "disable_ipv6").write_text("0\n", encoding="ascii")
    assert why_without_ipv6(tmp_path) == ""
    (tmp_path / "default" / "disable_ipv6").write_text("1\n", encoding="ascii")
    assert "set net.ipv6.conf.default.disable_ipv6=0" in why_without_ipv6(tmp_path)


def test_tasks_of_two_hosts_with_ipv6_alone_have_different_macs() -> None:
    macs = {mac_of_ipv6(f"2001:db8::{host}:2") for host in range(200)}
    assert len(macs) == 200
    assert all(re.fullmatch(r"0a(:[0-9a-f]{2}){5}", mac) for mac in macs)
