"""What a task may send through an interface that the host does not see: rules inside its namespace.

Frames of ``macvlan`` and ``ipvlan`` go from the namespace straight to the wire, or to a neighbour on
the same parent. So they are filtered where they leave the namespace: only ARP and packets with the
task's own addresses pass, of IPv6 also what it says of itself as a neighbour, and nothing to a blocked
address. A container needs ``NET_ADMIN`` to change these rules; one that has it can, which is why
docs/task-networking.md names these drivers as those where a privileged task is not held.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Final

from agent.errors import NetworkFailure
from agent.network.bridge import ipv6_port_rules
from agent.network.bridge.bridge_port_rules import NO_HOSTS
from agent.network.kernel import namespaces, nft

if TYPE_CHECKING:
    from agent.network.bridge.links import SandboxLink

FAMILY: Final = "netdev"
_NEIGHBOUR_ADVERTISEMENT: Final = 136
_MEMBERSHIPS: Final = (131, 132, 143)
"""ICMPv6 types of listeners to multicasts (RFC 2710, RFC 3810), without an address of the link."""
_OF_ROUTERS: Final = (2, 3, 4, 134, 137)
"""ICMPv6 types: errors of routers, advertisements, redirects."""
TABLE: Final = "ecs_task"


def ruleset(link: SandboxLink, interface: str, *, has_own_mac: bool) -> list[dict[str, Any]]:
    """Return the commands that replace the table in a task's namespace. Pure.

    Args:
        link: whose addresses may be used.
        interface: name of the interface in the namespace.
        has_own_mac: whether frames must have the MAC in ``link``; else all tasks share the parent's,
            and the driver sets it.
    """
    place = {"family": FAMILY, "table": TABLE}
    rule, drop = partial(nft.rule, place, "leaving"), nft.COUNTED_DROP
    is_arp = nft.match(nft.field("ether", "type"), "arp")
    is_ip = nft.match(nft.field("ether", "type"), "ip")
    # Multicast stays on the link, and harms nobody who has not asked for it.
    never = nft.prefixes({*link.blocked, *NO_HOSTS} - {"224.0.0.0/3"})
    own_mac = [
        rule("foreign MAC", nft.match(nft.field("ether", "saddr"), link.mac, "!="), *drop),
        rule("foreign MAC in ARP", is_arp,
             nft.match(nft.field("arp", "saddr ether"), link.mac, "!="), *drop),
    ]  # fmt: skip
    return nft.replacement(
        FAMILY,
        TABLE,
        [
            nft.hooked(place, "leaving", "filter", "egress", 0, device=interface),
            *(own_mac if has_own_mac else []),
            rule("own ARP", is_arp, nft.match(nft.field("arp", "saddr ip"), link.ipv4),
                 {"accept": None}),
            rule("blocked address", is_ip, nft.match(
                nft.field("ip", "daddr"), {"set": never}), *drop),
            rule("own packets", is_ip, nft.match(nft.field("ip", "saddr"), link.ipv4),
                 {"accept": None}),
            *nft.rules(place, "leaving", _by_ipv6(link)),
            rule("all else", *drop),
        ],
    )  # fmt: skip


def _by_ipv6(link: SandboxLink) -> list[nft.Rule]:
    """Return the rules for IPv6; none if the task has none.

    Here a task does find its neighbours, and is found by them: an answer must be about its own address. Of
    that, it can tell a wrong MAC, and does not get its own packets then.
    """
    if link.ipv6 is None:
        return []
    is_ipv6 = nft.match(nft.field("ether", "type"), "ip6")
    is_icmp = nft.match(nft.meta("l4proto"), "ipv6-icmp")
    own = nft.match(nft.field("ip6", "saddr"), link.ipv6.address)
    kind = nft.field("icmpv6", "type")
    target = {"payload": {"base": "th", "offset": 64, "len": 128}}
    about_another = nft.match(target, str(int(IPv6Address(link.ipv6.address))), "!=")
    drop = nft.COUNTED_DROP
    # Multicast stays on the link, and so do neighbours and routers with link-local addresses.
    never = {*link.blocked, *ipv6_port_rules.NO_HOSTS} - {"fe80::/10", "ff00::/8"}
    return [
        ("blocked IPv6 address", [is_ipv6, nft.match(
            nft.field("ip6", "daddr"), {"set": nft.prefixes(never, ipv6=True)}), *drop]),
        ("IPv6 answer for another",
         [is_ipv6, is_icmp, nft.match(kind, _NEIGHBOUR_ADVERTISEMENT), about_another, *drop]),
        ("IPv6 routers",
         [is_ipv6, is_icmp, nft.match(kind, {"set": list(_OF_ROUTERS)}), *drop]),
        ("own IPv6 packets", [is_ipv6, own, {"accept": None}]),
        # By these, switches learn where its multicasts are wanted, among them questions of neighbours.
        ("IPv6 memberships", [is_ipv6, is_icmp, nft.match(nft.field("ip6", "saddr"), "::"),
                              nft.match(kind, {"set": list(_MEMBERSHIPS)}), {"accept": None}]),
    ]  # fmt: skip


def put(netns: int, link: SandboxLink, interface: str, *, has_own_mac: bool) -> None:
    """Create or replace the rules in a namespace; idempotent. Blocks.

    Raises:
        NetworkFailure: ``nft`` is missing or too old, or the kernel cannot filter what leaves a link.
    """
    commands = ruleset(link, interface, has_own_mac=has_own_mac)
    try:
        namespaces.inside(netns, partial(nft.apply, commands))
    except OSError as error:
        raise NetworkFailure(f"the namespace of {link.ipv4} cannot be entered: {error}") from None
    except NetworkFailure as error:
        raise NetworkFailure(
            f"what {link.ipv4} sends cannot be filtered, which needs Linux 5.16 with "
            f"CONFIG_NETFILTER_EGRESS and nftables 1.0.1: {error}"
        ) from error
