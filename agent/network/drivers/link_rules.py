"""What tasks may send into links of their own, on which no bridge looks at frames.

A packet must come with its task's own address: the pair of link and source must be in a set, which
has one element per task, for each IP version that tasks have. Nothing else passes. ARP and neighbour
discovery are off on these links (``host_ends``), so there is nothing to forge. Nothing for others
arrives, because the host has a route per task. Blocked addresses, loopback and multicast cannot be
reached, and no task can send ICMP as a router, as on the bridge (``bridge_port_rules``).
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.network.bridge import ipv6_port_rules
from agent.network.bridge.bridge_port_rules import (
    ERRORS_OF_ROUTERS,
    NO_HOSTS,
    PORTS_SET,
    UNREACHABLE_BY_THE_TARGET,
    BridgePortRules,
)
from agent.network.kernel import nft
from agent.network.kernel.set_elements import INET_FAMILY, link_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.network.bridge.bridge_port_rules import BridgePort, Element, Layout

FAMILY: Final = "inet"


def table_of(table: str) -> str:
    """Return the name of this table, from that of the agent's others. Pure."""
    return f"{table}_links"


def ruleset(
    table: str, layout: Layout, blocked: Iterable[str], ports: Iterable[BridgePort] = ()
) -> list[dict[str, Any]]:
    """Return the commands that replace the table, in the JSON schema of nftables. Pure."""
    place, ports = {"family": FAMILY, "table": table}, list(ports)

    rule, drop = partial(nft.rule, place), nft.COUNTED_DROP
    icmp_type, icmp_code = nft.field("icmp", "type"), nft.field("icmp", "code")
    source, target = nft.field("ip", "saddr"), nft.field("ip", "daddr")
    never = nft.prefixes({*blocked, *NO_HOSTS})
    of_ipv6 = [port for port in ports if port.ipv6]
    own = nft.match({"concat": [nft.meta("iifname"), source]}, f"@{PORTS_SET}")
    body: list[dict[str, Any]] = [
        {"set": {**place, "name": PORTS_SET, "type": ["ifname", "ipv4_addr"],
                 "elem": [{"concat": [port.link, port.ipv4]} for port in ports]}},
        *([{"set": {**place, "name": ipv6_port_rules.PORTS_SET, "type": ["ifname", "ipv6_addr"],
                    "elem": [{"concat": [port.link, port.ipv6]} for port in of_ipv6]}}]
          if layout.ipv6_pools else []),
        {"chain": {**place, "name": "from_task"}},
        nft.hooked(place, "packets", "filter", "prerouting", -310),
        rule("from_task", "blocked address", nft.match(target, {"set": never}), *drop),
        rule("from_task", "errors of routers",
             nft.match(icmp_type, {"set": ERRORS_OF_ROUTERS}), *drop),
        rule("from_task", "unreachable by a router",
             nft.match(icmp_type, "destination-unreachable"),
             nft.match(icmp_code, {"set": UNREACHABLE_BY_THE_TARGET}, "!="), *drop),
        rule("from_task", "own packets", own, {"accept": None}),
        *nft.rules(place, "from_task", by_ipv6(layout, blocked)),
        rule("from_task", "all else", *drop),
        *(rule("packets", "of tasks", nft.match(nft.meta("iifname"), name),
               {"goto": {"target": "from_task"}}) for name in layout.task_links),
    ]  # fmt: skip
    return nft.replacement(FAMILY, table, body)


def by_ipv6(layout: Layout, blocked: Iterable[str]) -> list[nft.Rule]:
    """Return the rules for what tasks send by IPv6; none without it. Pure."""
    if not layout.ipv6_pools:
        return []
    never = {"set": nft.prefixes({*blocked, *ipv6_port_rules.NO_HOSTS}, ipv6=True)}
    own = {"concat": [nft.meta("iifname"), nft.field("ip6", "saddr")]}
    drop = nft.COUNTED_DROP
    return [
        ("blocked IPv6 address", [nft.match(nft.field("ip6", "daddr"), never), *drop]),
        *(
            (comment, [*expressions, *drop])
            for comment, expressions in ipv6_port_rules.forged_messages()
        ),
        ("own IPv6 packets", [nft.match(own, f"@{ipv6_port_rules.PORTS_SET}"), {"accept": None}]),
    ]


def element_of(link: str, ipv4: str) -> Element:
    """Return the set and the key of a task's element. Pure."""
    return PORTS_SET, link_key(link) + socket.inet_aton(ipv4)


def ipv6_element_of(link: str, ipv6: str) -> Element:
    """Return the set and the key of a task's element for IPv6. Pure."""
    return ipv6_port_rules.PORTS_SET, link_key(link) + ipv6_port_rules.packed(ipv6)


class LinkRules(BridgePortRules):
    """Implements ``PortRules`` for links without a bridge."""

    _family = FAMILY
    _family_number = INET_FAMILY
    _title = "table of links"

    def __init__(self, table: str, blocked: Iterable[str]) -> None:
        """Take the name of the agent's tables, and prefixes that tasks must not reach."""
        super().__init__(table_of(table), blocked)

    def _commands(self, layout: Layout, ports: Iterable[BridgePort] = ()) -> list[dict[str, Any]]:
        return ruleset(self._table, layout, self._blocked, ports)

    def _elements(self, port: BridgePort) -> tuple[Element, ...]:
        by_ipv4 = element_of(port.link, port.ipv4)
        return (by_ipv4, ipv6_element_of(port.link, port.ipv6)) if port.ipv6 else (by_ipv4,)

    def _elements_of_host(self, layout: Layout) -> set[Element]:
        del layout
        return set()

    def _present(self, listed: Sequence[dict[str, Any]]) -> set[Element]:
        by_ipv4 = nft.elements(listed, PORTS_SET)
        by_ipv6 = nft.elements(listed, ipv6_port_rules.PORTS_SET)
        return {element_of(*element["concat"]) for element in by_ipv4} | {
            ipv6_element_of(*element["concat"]) for element in by_ipv6
        }
