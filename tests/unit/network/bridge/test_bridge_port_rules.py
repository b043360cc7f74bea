"""Rules for what comes in from tasks: how they are made, and how elements are written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.network.addresses import link_name_of, link_prefixes, mac_of
from agent.network.bridge import bridge_port_rules, ipv6_port_rules
from agent.network.bridge.bridge_port_rules import BridgePort, Layout

LAYOUT = Layout(frozenset({"10.207.0.0/20"}), frozenset({"10.207.0.1"}))


def port(ipv4: str) -> BridgePort:
    return BridgePort(link_name_of(ipv4), mac_of(ipv4), ipv4)


def rules_of(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]


def test_rules_do_not_grow_with_tasks() -> None:
    none = rules_of(bridge_port_rules.ruleset("t", LAYOUT, ()))
    many = rules_of(
        bridge_port_rules.ruleset("t", LAYOUT, (), [port(f"10.207.1.{n}") for n in range(200)])
    )
    assert none == many
    assert len(none) < 14


def test_an_element_is_as_the_set_keeps_it() -> None:
    (ports, key), (addresses, address) = bridge_port_rules.elements_of(port("10.207.0.5"))
    assert (ports, addresses) == (bridge_port_rules.PORTS_SET, bridge_port_rules.ADDRESSES_SET)
    assert key == b"ecs0acf0005" + bytes(5) + bytes.fromhex("0a580acf0005") + bytes(2) + address
    assert address == bytes([10, 207, 0, 5])


def test_blocked_addresses_come_before_all_that_lets_in() -> None:
    rules = rules_of(bridge_port_rules.ruleset("t", LAYOUT, ["169.254.169.254/32"], ()))
    of_task = [rule for rule in rules if rule["chain"] == "from_task"]
    assert of_task[0]["comment"].startswith("blocked address")
    assert of_task[0]["expr"][-1] == {"drop": None}
    assert of_task[-1]["expr"][-1] == {"drop": None}


def test_the_loopback_and_groups_are_blocked_also_where_nothing_else_is() -> None:
    first = rules_of(bridge_port_rules.ruleset("t", LAYOUT, (), ()))[0]
    assert first["comment"].startswith("blocked address")
    blocked = {each["prefix"]["addr"] for each in first["expr"][1]["match"]["right"]["set"]}
    assert blocked == {"0.0.0.0", "127.0.0.0", "224.0.0.0"}


@given(st.integers(0, 2**32 - 1), st.integers(8, 29))
def test_the_beginnings_of_names_are_of_the_pools_links_and_of_no_others(
    address: int, prefix_len: int
) -> None:
    pool = IPv4Network((address, prefix_len), strict=False)
    prefixes = tuple(link_prefixes(str(pool)))
    assert 1 <= len(prefixes) <= 8

    def is_known(value: int) -> bool:
        return link_name_of(str(IPv4Address(value))).startswith(prefixes)

    first, last = int(pool.network_address), int(pool.broadcast_address)
    assert is_known(first)
    assert is_known(last)
    assert first == 0 or not is_known(first - 1)
    assert last == 2**32 - 1 or not is_known(last + 1)


IPV6_LAYOUT = LAYOUT._replace(
    ipv6_pools=frozenset({"fd00::/64"}), ipv6_gateways=frozenset({"fd00::1"})
)


def test_rules_for_ipv6_come_before_the_end_and_do_not_grow_with_tasks() -> None:
    ports = [port(f"10.207.1.{n}")._replace(ipv6=f"fd00::1{n:02x}") for n in range(200)]
    none = rules_of(bridge_port_rules.ruleset("t", IPV6_LAYOUT, ()))
    assert none == rules_of(bridge_port_rules.ruleset("t", IPV6_LAYOUT, (), ports))
    assert len(none) < 20
    names = [r["comment"].rpartition(" ")[0] for r in none if r["chain"] == "from_task"]
    assert names[-6:] == [
        "blocked IPv6 address", "IPv6 address that nobody has", "IPv6 routers and neighbours",
        "IPv6 unreachable by a router", "own IPv6 packets", "all else",
    ]  # fmt: skip


def test_an_element_of_ipv6_is_as_the_set_keeps_it() -> None:
    elements = bridge_port_rules.elements_of(port("10.207.0.5")._replace(ipv6="fd00::5"))
    address = bytes.fromhex("fd00" + "0" * 27 + "5")
    key = b"ecs0acf0005" + bytes(5) + bytes.fromhex("0a580acf0005") + bytes(2) + address
    assert elements[2:] == (
        (ipv6_port_rules.PORTS_SET, key), (ipv6_port_rules.ADDRESSES_SET, address),
    )  # fmt: skip


def test_elements_have_as_many_components_as_the_type_of_their_set() -> None:
    ports = [port("10.207.0.5"), port("10.207.0.6")._replace(ipv6="fd00::6")]
    commands = bridge_port_rules.ruleset("t", IPV6_LAYOUT, (), ports)
    by_port = [c["add"]["set"] for c in commands if "set" in c.get("add", {})]
    elements = {s["name"]: [e["concat"] for e in s["elem"] if "concat" in e] for s in by_port}
    by_ipv4 = [[p.link, p.mac, p.ipv4] for p in ports]
    assert elements[bridge_port_rules.PORTS_SET] == by_ipv4
    assert elements[ipv6_port_rules.PORTS_SET] == [[ports[1].link, ports[1].mac, "fd00::6"]]
