"""What tasks may send into links of their own, on which no bridge looks at frames.

A packet must come with its task's own address: the pair of link and source must be in a set, which has
one element per task. Only IPv4 passes. ARP and neighbour discovery are off on these links
(``host_ends``), so there is nothing to forge. Nothing for others arrives, because the host has a route
per task. Blocked addresses, loopback and multicast cannot be reached, and no task can send ICMP as a
router, as on the bridge (``bridge_port_rules``).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from agent.network.bridge.bridge_port_rules import (
    ERRORS_OF_ROUTERS,
    LINK_NAME_BYTES,
    NO_HOSTS,
    PORTS_SET,
    UNREACHABLE_BY_THE_TARGET,
    BridgePortRules,
)
from agent.network.kernel import nft
from agent.network.kernel.set_elements import INET_FAMILY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.network.bridge.bridge_port_rules import BridgePort, Layout

FAMILY: Final = "inet"


def table_of(table: str) -> str:
    """Return the name of this table, from that of the agent's others. Pure."""
    return f"{table}_links"


def ruleset(
    table: str, layout: Layout, blocked: Iterable[str], ports: Iterable[BridgePort] = ()
) -> list[dict[str, Any]]:
    """Return the commands that replace the table, in the JSON schema of nftables. Pure."""
    place = {"family": FAMILY, "table": table}

    def rule(chain: str, comment: str, *expressions: dict[str, Any]) -> dict[str, Any]:
        return {"rule": {**place, "chain": chain, "comment": comment, "expr": list(expressions)}}

    drop: tuple[dict[str, Any], ...] = ({"counter": None}, {"drop": None})
    icmp_type, icmp_code = nft.field("icmp", "type"), nft.field("icmp", "code")
    source, target = nft.field("ip", "saddr"), nft.field("ip", "daddr")
    never = [nft.prefix(cidr) for cidr in sorted({*blocked, *NO_HOSTS})]
    own = nft.match({"concat": [nft.meta("iifname"), source]}, f"@{PORTS_SET}")
    body: list[dict[str, Any]] = [
        {"set": {**place, "name": PORTS_SET, "type": ["ifname", "ipv4_addr"],
                 "elem": [{"concat": [port.link, port.ipv4]} for port in ports]}},
        {"chain": {**place, "name": "from_task"}},
        {"chain": {**place, "name": "packets", "type": "filter", "hook": "prerouting",
                   "prio": -310, "policy": "accept"}},
        rule("from_task", "blocked address", nft.match(target, {"set": never}), *drop),
        rule("from_task", "errors of routers",
             nft.match(icmp_type, {"set": ERRORS_OF_ROUTERS}), *drop),
        rule("from_task", "unreachable by a router",
             nft.match(icmp_type, "destination-unreachable"),
             nft.match(icmp_code, {"set": UNREACHABLE_BY_THE_TARGET}, "!="), *drop),
        rule("from_task", "own packets", own, {"accept": None}),
        rule("from_task", "all else", *drop),
        *(rule("packets", "of tasks", nft.match(nft.meta("iifname"), name),
               {"goto": {"target": "from_task"}}) for name in layout.task_links),
    ]  # fmt: skip
    return nft.replacement(FAMILY, table, body)


def element_of(link: str, ipv4: str) -> tuple[str, bytes]:
    """Return the set and the key of a task's element. Pure."""
    return PORTS_SET, link.encode().ljust(LINK_NAME_BYTES, b"\0") + socket.inet_aton(ipv4)


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

    def _elements(self, port: BridgePort) -> tuple[tuple[str, bytes], ...]:
        return (element_of(port.link, port.ipv4),)

    def _elements_of_host(self, layout: Layout) -> set[tuple[str, bytes]]:
        del layout
        return set()

    def _present(self, listed: Sequence[dict[str, Any]]) -> set[tuple[str, bytes]]:
        return {element_of(*element["concat"]) for element in nft.elements(listed, PORTS_SET)}
