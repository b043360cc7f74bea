"""The table for packets where tasks have links of their own instead of a bridge. Pure.

It does what ``firewall.ruleset`` does for the bridge: keeps tasks out of other networks inside this host,
drops a task's address that comes from elsewhere, and leads to the agent's server. Nothing is masqueraded:
the addresses are known outside. If the host does not forward for tasks, their links lead to the agent's
server only, and to answers of what the host itself began.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.network.host import agent_address, fleet_rules, ipv6_ruleset
from agent.network.host.fleet_rules import NO_FLEET, OF_CONTAINERS
from agent.network.kernel import nft

if TYPE_CHECKING:
    from agent.network.bridge.bridge_port_rules import Layout
    from agent.network.host.agent_address import Doors
    from agent.network.host.firewall import Wanted
    from agent.network.host.fleet_rules import FleetNetworks

_FAMILY: Final = "inet"
_POOLS: Final = "task_pools"
_OUTSIDE: Final = "outside"


def ruleset(
    table: str, wanted: Wanted, *, doors: Doors, fleet: FleetNetworks = NO_FLEET
) -> list[dict[str, Any]]:
    """Return the commands that replace the table for packets, in the JSON schema of nftables."""
    place, layout = {"family": _FAMILY, "table": table}, wanted.layout
    rule, rules = partial(nft.rule, place), partial(nft.rules, place)
    hooked, accept = partial(nft.hooked, place), {"accept": None}
    source = nft.field("ip", "saddr")

    def of_tasks(chain: str, comment: str, *expressions: dict[str, Any]) -> list[dict[str, Any]]:
        sides = [nft.match(nft.meta("iifname"), name) for name in layout.task_links]
        return [rule(chain, comment, side, *expressions) for side in sides]

    def to(name: str) -> dict[str, Any]:
        return {"goto": {"target": name}}

    answers = nft.match({"ct": {"key": "state"}}, {"set": ["established", "related"]})
    between: list[dict[str, Any]] = []
    if layout.is_routed:
        between = [
            *(rule("from_task", "task to task", nft.match(nft.meta("oifname"), name), accept)
              for name in layout.task_links),
            rule("from_task", "task to outside", nft.match(nft.meta("oifname"), f"@{_OUTSIDE}"),
                 accept),
            rule("from_task", "answers", answers, accept),
            rule("from_task", "to what is published",
                 nft.match({"ct": {"key": "status"}}, "dnat", "in"), accept),
        ]  # fmt: skip
    server = nft.match(nft.field("tcp", "dport"), doors.server_port)
    to_agent = nft.match(nft.field("ip", "daddr"), agent_address.ADDRESS)
    of_containers = fleet_rules.of_containers(fleet, doors.engine_bridge)
    this_host, *others = agent_address.guard(doors)
    body: list[dict[str, Any]] = [
        {"set": {**place, "name": _POOLS, "type": "ipv4_addr", "flags": ["interval"],
                 "elem": [nft.prefix(pool) for pool in sorted(layout.pools)]}},
        *ipv6_ruleset.sets(place, layout),
        {"set": {**place, "name": _OUTSIDE, "type": "ifname", "elem": sorted(wanted.outside)}},
        {"chain": {**place, "name": "from_task"}},
        {"chain": {**place, "name": "of_task"}},
        hooked("sources", "filter", "prerouting", -300),
        hooked("between", "filter", "forward", -10),
        # Before the engine masquerades.
        *([hooked(OF_CONTAINERS, "nat", "postrouting", 99)] if of_containers else []),
        *rules(OF_CONTAINERS, of_containers),
        hooked("own", "nat", "output", -100),
        hooked("containers", "nat", "prerouting", -100),
        hooked("agent", "filter", "input", -5),
        # Whether it is the task's own address is decided in the table of links.
        *of_tasks("sources", "of tasks", to("of_task")),
        rule("sources", "a task's address from elsewhere",
             nft.match(nft.meta("iifname"), "lo", "!="), nft.match(source, f"@{_POOLS}"),
             *nft.COUNTED_DROP),
        *rules("sources", fleet_rules.sources(fleet, "lo")),
        *rules("of_task", ipv6_ruleset.agent_side(layout)),
        *rules("sources", _by_ipv6(layout)),
        *of_tasks("between", "of tasks", to("from_task")),
        *between,
        rule("from_task", "into other networks of this host", *nft.COUNTED_DROP),
        rule("own", "to the agent's server", *agent_address.to_server(doors)),
        rule("containers", "to the agent's server", *agent_address.to_server(doors)),
        rule("agent", this_host[0], *this_host[1]),
        *of_tasks("agent", "tasks to the agent's server", to_agent, server, accept),
    ]  # fmt: skip
    if not layout.is_routed:
        body += of_tasks("agent", "answers to this host", answers, accept)
        body += of_tasks("agent", "tasks to this host", *nft.COUNTED_DROP)
    elif doors.closed_ports:
        body += of_tasks("agent", agent_address.CLOSED, *agent_address.to_closed_ports(doors))
    body += rules("agent", others)
    return nft.replacement(_FAMILY, table, body)


def _by_ipv6(layout: Layout) -> list[nft.Rule]:
    return [ipv6_ruleset.from_elsewhere("lo")] if layout.ipv6_pools else []
