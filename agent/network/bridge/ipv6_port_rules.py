"""What tasks may send by IPv6 through their ports of the bridge: the part of the table that needs a pool. Pure.

Everything that a task sends goes to the host, which forwards it, also to its neighbours: each has its
address alone, and knows the host's MAC from the start. So nothing is asked or learned, and all of
neighbour and router discovery is dropped, with every other multicast: there is no place where a task
could answer for another. As for IPv4, a packet must have its task's own addresses, a port receives only
what is for its task, and no task can send errors of routers.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.bridge.bridge_port_rules import BridgePort, Layout

PORTS_SET: Final = "ports_ipv6"
"""Link, MAC and address of each task."""
ADDRESSES_SET: Final = "addresses_ipv6"
"""Addresses of the pool that are in use."""
NO_HOSTS: Final = ("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8")
"""Destinations that no task may use: the loopback, mapped IPv4 addresses, single links, multicast."""
ROUTERS_AND_NEIGHBOURS: Final = (2, 3, 4, 133, 134, 135, 136, 137)
"""ICMPv6 types: errors of routers (RFC 4443), and how neighbours are found (RFC 4861)."""
UNREACHABLE_BY_THE_TARGET: Final = [1, 4]
"""Codes that a destination host itself sends: what its own firewall forbids, and port."""


def sets(
    place: dict[str, str], layout: Layout, ports: Iterable[BridgePort]
) -> list[dict[str, Any]]:
    """Return the sets with the elements of these ports."""
    of_ipv6 = [port for port in ports if port.ipv6]
    return [
        {"set": {**place, "name": PORTS_SET, "type": ["ifname", "ether_addr", "ipv6_addr"],
                 "elem": [{"concat": [p.link, p.mac, p.ipv6]} for p in of_ipv6]}},
        {"set": {**place, "name": ADDRESSES_SET, "type": "ipv6_addr",
                 "elem": sorted({*(port.ipv6 for port in of_ipv6), *layout.ipv6_gateways})}},
    ]  # fmt: skip


def from_task(layout: Layout, blocked: Iterable[str]) -> list[nft.Rule]:
    """Return the rules for what comes from tasks, in order."""
    target = nft.field("ip6", "daddr")
    never = {"set": nft.prefixes({*blocked, *NO_HOSTS}, ipv6=True)}
    pools = {"set": nft.prefixes(layout.ipv6_pools, ipv6=True)}
    drop = nft.COUNTED_DROP
    return [
        ("blocked IPv6 address", [_is_ipv6(), nft.match(target, never), *drop]),
        ("IPv6 address that nobody has",
         [_is_ipv6(), nft.match(target, pools), nft.match(target, f"@{ADDRESSES_SET}", "!="), *drop]),
        *((comment, [_is_ipv6(), *expressions, *drop]) for comment, expressions in forged_messages()),
        ("own IPv6 packets",
         [_is_ipv6(), nft.match(nft.meta("pkttype"), "host"),
          _known("iifname", nft.field("ether", "saddr"), nft.field("ip6", "saddr")),
          {"accept": None}]),
    ]  # fmt: skip


def to_task() -> list[dict[str, Any]]:
    """Return the expressions of the rule for what a port does not pass to its task."""
    known = _known("oifname", nft.field("ether", "daddr"), nft.field("ip6", "daddr"), "!=")
    return [_is_ipv6(), known, *nft.COUNTED_DROP]


def forged_messages() -> list[nft.Rule]:
    """Return the matches of ICMPv6 messages that are not a task's to send, with a comment each."""
    is_icmp = nft.match(nft.meta("l4proto"), "ipv6-icmp")
    kind, code = nft.field("icmpv6", "type"), nft.field("icmpv6", "code")
    return [
        ("IPv6 routers and neighbours",
         [is_icmp, nft.match(kind, {"set": list(ROUTERS_AND_NEIGHBOURS)})]),
        ("IPv6 unreachable by a router",
         [is_icmp, nft.match(kind, "destination-unreachable"),
          nft.match(code, {"set": UNREACHABLE_BY_THE_TARGET}, "!=")]),
    ]  # fmt: skip


def packed(ipv6: str) -> bytes:
    """Return an address as the kernel keeps it in a set."""
    return socket.inet_pton(socket.AF_INET6, ipv6)


def _is_ipv6() -> dict[str, Any]:
    return nft.match(nft.field("ether", "type"), "ip6")


def _known(
    link: str, mac: dict[str, Any], address: dict[str, Any], operator: str = "=="
) -> dict[str, Any]:
    return nft.match({"concat": [nft.meta(link), mac, address]}, f"@{PORTS_SET}", operator)
