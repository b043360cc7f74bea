"""Firewall rules for task networks: a table for packets, one for frames, and Docker's chain.

Each table is replaced as a whole in one transaction, so that it is never incomplete. The table for
packets masquerades what tasks send to the outside. It drops packets of tasks with foreign sources
or blocked destinations, and packets of others with a task's source, and keeps tasks out of other
networks inside this host. It leads to the agent's server, and decides who may reach the agent's ports
(``agent_address``).
The table for frames is in ``bridge_port_rules``. Everything here except ``ruleset`` blocks and runs in a
thread lane of the caller; nothing is retried.

Tests: ``tests/unit/network/host/test_shared.py``,
``tests/integration/network/test_host_objects.py``.
"""

from __future__ import annotations

import json
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from agent.network.addresses import link_prefixes
from agent.network.bridge.bridge_port_rules import NO_HOSTS, Layout
from agent.network.groups.group_rules import GroupRules
from agent.network.host import agent_address, fleet_rules, ipv6_ruleset, link_ruleset
from agent.network.host.docker_chain import CHAIN, DockerChain
from agent.network.host.fleet_rules import NO_FLEET, OF_CONTAINERS
from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.network.bridge.bridge_port_rules import BridgePort
    from agent.network.drivers.contract import PortRules
    from agent.network.host.agent_address import Doors
    from agent.network.host.fleet_rules import FleetNetworks

T = TypeVar("T")

FAMILY: Final = "inet"
POOLS_SET: Final = "task_pools"
OUTSIDE_SET: Final = "outside"
TASK_LINKS: Final = "ecs+"
"""In the words of iptables: the links of tasks without a bridge."""
_NETLINK_NETFILTER: Final = 12
_GET_GENERATION: Final = (10 << 8) | 16
_REQUEST: Final = 1


def groups_table(table: str) -> str:
    """Return the name of the table of security groups beside ours."""
    return f"{table}_groups"


def names_table(table: str) -> str:
    """Return the name of the table that leads questions for names to the agent (``agent.dns``)."""
    return f"{table}_names"


class Wanted(NamedTuple):
    """The input for the rules, besides the tasks."""

    layout: Layout
    outside: frozenset[str]
    """Names of the links that lead out of the host."""


def ruleset(
    table: str,
    wanted: Wanted,
    blocked: Iterable[str] = (),
    *,
    doors: Doors,
    fleet: FleetNetworks = NO_FLEET,
) -> list[dict[str, Any]]:
    """Return the commands that replace the table for packets, in the JSON schema of nftables. Pure.

    What is between tasks of two hosts (both addresses in ``fleet``) is not masqueraded.
    Every rule's comment ends with a digest of all rules, by which ``differences`` recognizes it.
    """
    place, bridge = {"family": FAMILY, "table": table}, doors.task_bridge
    pools = sorted(wanted.layout.pools)
    from_bridge = nft.match(nft.meta("iifname"), bridge)
    source, target = nft.field("ip", "saddr"), nft.field("ip", "daddr")
    pool_set = f"@{POOLS_SET}"
    never = nft.prefixes({*blocked, *NO_HOSTS})
    of_containers = fleet_rules.of_containers(fleet, doors.engine_bridge)

    rule, rules = partial(nft.rule, place), partial(nft.rules, place)
    hooked = partial(nft.hooked, place)
    drop, accept = {"drop": None}, {"accept": None}
    body: list[dict[str, Any]] = [
        {"set": {**place, "name": POOLS_SET, "type": "ipv4_addr", "flags": ["interval"],
                 "elem": [nft.prefix(pool) for pool in pools]}},
        *ipv6_ruleset.sets(place, wanted.layout),
        {"set": {**place, "name": OUTSIDE_SET, "type": "ifname", "elem": sorted(wanted.outside)}},
        hooked("sources", "filter", "prerouting", -300),
        hooked("between", "filter", "forward", -10),
        hooked("outside", "nat", "postrouting", 100),
        # Before the engine masquerades.
        *([hooked(OF_CONTAINERS, "nat", "postrouting", 99)] if of_containers else []),
        hooked("own", "nat", "output", -100),
        hooked("containers", "nat", "prerouting", -100),
        hooked("agent", "filter", "input", -5),
        *(rule("sources", "past the bridge", nft.match(nft.meta("iifname"), f"{prefix}*"), drop)
          for pool in pools for prefix in link_prefixes(pool)),
        rule("sources", "no foreign sources", from_bridge, nft.match(source, pool_set, "!="), drop),
        *rules("sources", ipv6_ruleset.sources(wanted.layout, bridge, blocked)),
        rule("sources", "blocked address", from_bridge, nft.match(target, {"set": never}),
             *nft.COUNTED_DROP),
        rule("sources", "a task's address from elsewhere",
             nft.match(nft.meta("iifname"), {"set": [bridge, "lo"]}, "!="), nft.match(source, pool_set),
             *nft.COUNTED_DROP),
        *rules("sources", fleet_rules.sources(fleet, bridge)),
        rule("between", "not of tasks", nft.match(nft.meta("iifname"), bridge, "!="), accept),
        rule("between", "task to task", nft.match(nft.meta("oifname"), bridge), accept),
        rule("between", "task to outside", nft.match(nft.meta("oifname"), f"@{OUTSIDE_SET}"), accept),
        rule("between", "answers", nft.match({"ct": {"key": "state"}},
                                             {"set": ["established", "related"]}), accept),
        rule("between", "to what is published", nft.match({"ct": {"key": "status"}}, "dnat", "in"),
             accept),
        rule("between", "into other networks of this host", *nft.COUNTED_DROP),
        *rules(OF_CONTAINERS, of_containers),
        *rules("outside", fleet_rules.not_masqueraded(fleet)),
        rule("outside", "tasks to outside", nft.match(source, pool_set),
             nft.match(target, pool_set, "!="), nft.match(nft.meta("oifname"), bridge, "!="),
             {"masquerade": None}),
        *rules("outside", ipv6_ruleset.outside(wanted.layout, bridge)),
        rule("own", "to the agent's server", *agent_address.to_server(doors)),
        rule("containers", "to the agent's server", *agent_address.to_server(doors)),
        *rules("agent", agent_address.guard(doors)),
    ]  # fmt: skip
    return nft.replacement(FAMILY, table, body)


class Firewall:
    """Our rules on this host. One caller at a time, except for ``ports`` and ``groups``; all block."""

    def __init__(
        self,
        table: str,
        blocked: Iterable[str] = (),
        *,
        doors: Doors,
        ports: PortRules,
        resolvers: Iterable[str] = (),
        fleet: FleetNetworks = NO_FLEET,
    ) -> None:
        """Take the parts; nothing is changed before ``ensure``.

        Args:
            table: name of our tables.
            blocked: prefixes that tasks must not reach.
            doors: the bridges, and who may reach the agent's ports.
            ports: what each task may send, from the driver.
            resolvers: name servers of tasks.
            fleet: networks of tasks on all hosts; empty if they do not reach each other.
        """
        self._fleet = fleet
        self.ports = ports
        self.groups = GroupRules(groups_table(table), doors.task_bridge, resolvers)
        self._table = table
        self._bridge = doors.task_bridge or TASK_LINKS
        self._blocked = tuple(blocked)
        self._doors = doors
        owner = doors.task_bridge or table
        self._docker = DockerChain(self._bridge, owner, fleet=fleet.ipv4)
        self._docker_ipv6 = DockerChain(self._bridge, owner, program="ip6tables", fleet=fleet.ipv6)

    def ensure(self, wanted: Wanted, ports: Iterable[BridgePort] | None = None) -> None:
        """Create or correct the tables and our rules in Docker's chain; idempotent.

        Args:
            wanted: the input for the rules.
            ports: all ports to admit; None for those already admitted.

        Raises:
            NetworkFailure: ``nft`` is missing or failed. What did not fail is done nevertheless.
        """
        _side_by_side(
            partial(self._ensure_table, wanted),
            partial(self.ports.ensure, wanted.layout, ports),
            partial(self._ensure_groups, wanted),
            partial(self._ensure_docker_chains, wanted),
        )

    def _ensure_table(self, wanted: Wanted) -> None:
        commands = self._commands(wanted)
        if not self._has(commands):
            nft.apply(commands)

    def _ensure_groups(self, wanted: Wanted) -> None:
        self.groups.set_place(wanted.layout.gateways | wanted.layout.ipv6_gateways)
        self.groups.ensure()

    def _ensure_docker_chains(self, wanted: Wanted) -> None:
        for chain in self._docker_chains(wanted):
            chain.ensure(wanted.outside)

    def _docker_chains(self, wanted: Wanted) -> list[DockerChain]:
        if not wanted.layout.is_routed:
            return []
        return [self._docker, *([self._docker_ipv6] if wanted.layout.ipv6_pools else [])]

    def differences(self, wanted: Wanted) -> list[str]:
        """Return in words what differs from the state after ``ensure``; empty if nothing does."""
        of_table, of_ports, of_groups, of_chains = _side_by_side(
            partial(self._table_differences, wanted),
            partial(self.ports.differences, wanted.layout),
            self.groups.differences,
            partial(self._chain_differences, wanted),
        )
        return [*of_table, *of_ports, *of_groups, *of_chains]

    def _table_differences(self, wanted: Wanted) -> list[str]:
        if self._has(self._commands(wanted)):
            return []
        return [f"the firewall table {self._table} was changed or removed"]

    def _chain_differences(self, wanted: Wanted) -> list[str]:
        if all(chain.is_intact(wanted.outside) for chain in self._docker_chains(wanted)):
            return []
        return [f"rules for {self._bridge} were missing from {CHAIN}, or were changed"]

    def remove(self) -> None:
        """Remove all our rules; forwarding stays on, because others may need it."""
        nft.remove(FAMILY, self._table)
        self.ports.remove()
        self.groups.remove()
        self._docker.remove()
        self._docker_ipv6.remove()

    def _commands(self, wanted: Wanted) -> list[dict[str, Any]]:
        if not self._doors.task_bridge:
            return link_ruleset.ruleset(self._table, wanted, doors=self._doors, fleet=self._fleet)
        return ruleset(self._table, wanted, self._blocked, doors=self._doors, fleet=self._fleet)

    def _has(self, commands: list[dict[str, Any]]) -> bool:
        listed = nft.listed(FAMILY, self._table)
        if listed is None or not nft.has_rules_of(commands, listed):
            return False
        sets = [c["add"]["set"] for c in commands if "set" in c.get("add", {})]
        return all(
            _comparable(nft.elements(listed, wanted["name"])) == _comparable(wanted.get("elem", []))
            for wanted in sets
        )


def _comparable(elements: Iterable[Any]) -> list[str]:
    return sorted(json.dumps(element, sort_keys=True) for element in elements)


def _side_by_side(*steps: Callable[[], T]) -> list[T]:
    """Run steps that wait for programs of their own; in a row they were a quarter of the agent's start.

    Raises:
        NetworkFailure: that of the first step that failed, after all have ended.
    """
    with ThreadPoolExecutor(len(steps), thread_name_prefix="firewall") as pool:
        running = [pool.submit(step) for step in steps]
    return [step.result() for step in running]


def generation() -> int | None:
    """Return the kernel's count of changes to any nftables rule; None if unknown.

    This is one request to the kernel, so that noticing "nothing has changed" needs no process.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as nfnetlink:
            nfnetlink.settimeout(1.0)
            nfnetlink.send(struct.pack("=IHHII4s", 20, _GET_GENERATION, _REQUEST, 1, 0, bytes(4)))
            answer = nfnetlink.recv(4096)
    except OSError:
        return None
    # After the netlink and family headers, the first attribute is the number in network byte order.
    if len(answer) < 28 or struct.unpack_from("=H", answer, 4)[0] != 10 << 8 | 15:
        return None
    return int(struct.unpack_from("!I", answer, 24)[0])
