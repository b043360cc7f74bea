"""What the tables for packets say of IPv6: of the tasks on a bridge, and of those with links of their own. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.config.addresses import TASK_ADDRESS
from agent.network.bridge.ipv6_port_rules import NO_HOSTS
from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.bridge.bridge_port_rules import Layout

POOLS_SET: Final = "task_pools_ipv6"


def sets(place: dict[str, str], layout: Layout) -> list[dict[str, Any]]:
    """Return the set of the pools; none without IPv6."""
    if not layout.ipv6_pools:
        return []
    pools = {"flags": ["interval"], "elem": nft.prefixes(layout.ipv6_pools, ipv6=True)}
    return [{"set": {**place, "name": POOLS_SET, "type": "ipv6_addr", **pools}}]


def sources(layout: Layout, bridge: str, blocked: Iterable[str]) -> list[nft.Rule]:
    """Return the rules for what enters the host, with tasks on a bridge."""
    from_bridge = nft.match(nft.meta("iifname"), bridge)
    if not layout.ipv6_pools:
        return [
            ("no IPv6", [from_bridge, nft.match(nft.meta("nfproto"), "ipv6"), {"drop": None}]),
        ]
    never = {"set": nft.prefixes({*blocked, *NO_HOSTS}, ipv6=True)}
    foreign = nft.match(nft.field("ip6", "saddr"), f"@{POOLS_SET}", "!=")
    return [
        ("no foreign IPv6 sources", [from_bridge, foreign, {"drop": None}]),
        ("blocked IPv6 address",
         [from_bridge, nft.match(nft.field("ip6", "daddr"), never), *nft.COUNTED_DROP]),
        from_elsewhere({"set": [bridge, "lo"]}),
        *agent_side(layout),
    ]  # fmt: skip


def from_elsewhere(own_links: Any) -> nft.Rule:
    """Return the rule against a task's address that comes from another link than these."""
    return "a task's IPv6 address from elsewhere", [
        nft.match(nft.meta("iifname"), own_links, "!="),
        nft.match(nft.field("ip6", "saddr"), f"@{POOLS_SET}"),
        *nft.COUNTED_DROP,
    ]


def agent_side(layout: Layout) -> list[nft.Rule]:
    """Return the rule that keeps the IPv4 of tasks with IPv6 alone to the agent; none if there are none."""
    if not layout.agent_side_pool:
        return []
    return [
        ("IPv4 to the agent alone",
         [nft.match(nft.field("ip", "saddr"), nft.prefix(layout.agent_side_pool)),
          nft.match(nft.meta("iifname"), "lo", "!="),
          nft.match(nft.field("ip", "daddr"), TASK_ADDRESS, "!="), *nft.COUNTED_DROP]),
    ]  # fmt: skip


def outside(layout: Layout, bridge: str) -> list[nft.Rule]:
    """Return the rule that gives what leaves the host its address; none if it is to keep its own."""
    if not layout.ipv6_masquerade:
        return []
    pools = f"@{POOLS_SET}"
    return [
        ("tasks to outside by IPv6",
         [nft.match(nft.field("ip6", "saddr"), pools),
          nft.match(nft.field("ip6", "daddr"), pools, "!="),
          nft.match(nft.meta("oifname"), bridge, "!="), {"masquerade": None}]),
    ]  # fmt: skip
