"""Compiles security groups and tasks into a table of chains, sets and maps. Pure.

::

    forward, input, output ──► packets ──► map: source is a task's ──► out_<groups> ──► out_<group>...
                                  │                                                        │ allowed
                                  └──► ingress ◄───────────────────────────────────────────┘
                                          └──► map: destination is a task's ──► in_<groups> ──► in_<group>...

A packet between two tasks passes the rules of both. A chain per distinct combination of groups jumps to a
chain per group, and what none of them allows is dropped. So a task costs one element in each of two maps,
and a changed rule is one changed chain, however many tasks have it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, Final

from agent.config.addresses import TASK_ADDRESS
from agent.model.security_groups import ANY, EVERY_TYPE, ICMP_PROTOCOLS, PORT_PROTOCOLS
from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from agent.model.security_groups import GroupRule, SecurityGroup

FAMILY: Final = "inet"
PRIORITY: Final = -20
"""Before the rules of ``host.firewall`` and those of Docker: what is dropped here stays dropped."""
HOOKS: Final = ("forward", "input", "output")
EGRESS4, EGRESS6 = "egress4", "egress6"
INGRESS4, INGRESS6 = "ingress4", "ingress6"
DROPPED: Final = ("dropped-out", "dropped-in")
"""Counters of what no rule allowed."""
_DNS_PORT: Final = 53
_NEIGHBOUR_TYPES: Final = (133, 134, 135, 136, 137)
"""ICMPv6 messages by which neighbours and routers are found (RFC 4861): without them there is no IPv6."""
_ICMP_NUMBERS: Final = {"icmp": 1, "icmpv6": 58}

Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """What holds for all tasks of a host."""

    own_addresses: frozenset[str] = frozenset()
    """Of the host itself, towards its tasks: members of the default group."""
    resolvers: frozenset[str] = frozenset()
    """Name servers of tasks, which are reached whatever the egress rules are, as on AWS."""


@dataclass(frozen=True, slots=True)
class Table:
    """The wanted content of the table."""

    counters: frozenset[str] = frozenset()
    sets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Addresses by the name of their set; a name ends with the IP version."""
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Chains by address, by the name of the map."""
    chains: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """Expressions and comment of each rule, by chain, in an order in which targets come first."""

    def __bool__(self) -> bool:
        """Whether there is anything to enforce."""
        return bool(self.maps)


def compiled(
    groups: Mapping[str, SecurityGroup], tasks: Mapping[str, tuple[str, ...]], place: Place
) -> Table:
    """Return the table for a host; empty if no task is in a group.

    Args:
        groups: what is known of groups, by id; an unknown group allows nothing.
        tasks: the group ids of this host's tasks, by address; a task may have several addresses.
        place: what holds for all tasks.
    """
    if not tasks:
        return Table()
    used = sorted({group for ids in tasks.values() for group in ids})
    known = [groups[group] for group in used if group in groups]
    rules = [rule for group in known for rule in group.rules]
    peers = sorted({rule.group for rule in rules if rule.group})
    chains: dict[str, tuple[Rule, ...]] = {"ingress": _ingress()}
    for group in used:
        own = groups[group].rules if group in groups else ()
        chains[f"in_{group}"] = _group_chain(own, is_egress=False)
        chains[f"out_{group}"] = _group_chain(own, is_egress=True)
    for ids in sorted(set(tasks.values())):
        chains[chain_of(ids, is_egress=False)] = _combination(ids, is_egress=False)
        chains[chain_of(ids, is_egress=True)] = _combination(ids, is_egress=True)
    chains["packets"] = _packets(place)
    return Table(
        counters=frozenset({*DROPPED, *(counter_of(rule) for rule in rules)}),
        sets={
            set_of(peer, version): members_of(groups.get(peer), tasks, place, peer, version)
            for peer in peers
            for version in (4, 6)
        },
        maps=_maps(tasks),
        chains=chains,
    )


def members_of(
    group: SecurityGroup | None,
    tasks: Mapping[str, tuple[str, ...]],
    place: Place,
    group_id: str,
    version: int,
) -> frozenset[str]:
    """Return a group's addresses of one IP version. Of this host's tasks, the host knows best."""
    told = group.members if group is not None else frozenset()
    members = {address for address in told if address not in tasks}
    members.update(address for address, ids in tasks.items() if group_id in ids)
    if group is not None and group.is_default:
        members |= place.own_addresses
    return frozenset(address for address in members if version_of(address) == version)


def version_of(address: str) -> int:
    """Return the IP version of an address, which is valid."""
    return 6 if ":" in address else 4


def chain_of(ids: Collection[str], *, is_egress: bool) -> str:
    """Return the name of the chain of a combination of groups, in any order."""
    digest = hashlib.sha256(",".join(sorted(ids)).encode()).hexdigest()[:16]
    return f"{'out' if is_egress else 'in'}_groups_{digest}"


def set_of(group: str, version: int) -> str:
    """Return the name of the set of a group's members."""
    return f"{group}_{version}"


def group_of(set_name: str) -> str:
    """Return the group whose members are in a set."""
    return set_name.rpartition("_")[0]


def counter_of(rule: GroupRule) -> str:
    """Return the name of a rule's counter, which keeps its count when other rules change."""
    return rule.id


def comments(table: Table) -> list[tuple[str, str]]:
    """Return chain and comment of every rule, by which the kernel's table is recognized."""
    return [
        (name, rule["comment"])
        for name, rules in [*table.chains.items(), *hooked().items()]
        for rule in rules
    ]


def hooked() -> dict[str, tuple[Rule, ...]]:
    """Return the rules of the chains that packets enter, by hook."""
    return {hook: _numbered([("packets", [{"jump": {"target": "packets"}}])]) for hook in HOOKS}


def _maps(tasks: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, str]]:
    maps: dict[str, dict[str, str]] = {EGRESS4: {}, EGRESS6: {}, INGRESS4: {}, INGRESS6: {}}
    for address, ids in tasks.items():
        version = version_of(address)
        maps[f"egress{version}"][address] = chain_of(ids, is_egress=True)
        maps[f"ingress{version}"][address] = chain_of(ids, is_egress=False)
    return maps


def _packets(place: Place) -> tuple[Rule, ...]:
    tracked = nft.match({"ct": {"key": "state"}}, {"set": ["established", "related"]})
    neighbours = nft.match(nft.field("icmpv6", "type"), {"set": list(_NEIGHBOUR_TYPES)})
    to_agent = nft.match(nft.field("ip", "daddr"), TASK_ADDRESS)
    rules: list[tuple[str, list[dict[str, Any]]]] = [
        ("connections that were allowed", [tracked, {"accept": None}]),
        ("neighbours", [neighbours, {"accept": None}]),
        ("the agent's server", [to_agent, {"accept": None}]),
    ]
    for resolver in sorted(place.resolvers):
        target = nft.match(nft.field(_ip(version_of(resolver)), "daddr"), resolver)
        for protocol in PORT_PROTOCOLS:
            port = nft.match(nft.field(protocol, "dport"), _DNS_PORT)
            rules.append((f"names by {protocol}", [target, port, {"goto": {"target": "ingress"}}]))
    rules += [
        ("from tasks", [_lookup("ip", "saddr", EGRESS4)]),
        ("from tasks", [_lookup("ip6", "saddr", EGRESS6)]),
        ("to tasks", [{"goto": {"target": "ingress"}}]),
    ]
    return _numbered(rules)


def _ingress() -> tuple[Rule, ...]:
    return _numbered(
        [
            ("to tasks", [_lookup("ip", "daddr", INGRESS4)]),
            ("to tasks", [_lookup("ip6", "daddr", INGRESS6)]),
            ("to others", [{"accept": None}]),
        ]
    )


def _lookup(protocol: str, name: str, in_map: str) -> dict[str, Any]:
    return {"vmap": {"key": nft.field(protocol, name), "data": f"@{in_map}"}}


def _combination(ids: Iterable[str], *, is_egress: bool) -> tuple[Rule, ...]:
    prefix, dropped = ("out", DROPPED[0]) if is_egress else ("in", DROPPED[1])
    return _numbered(
        [
            *((group, [{"jump": {"target": f"{prefix}_{group}"}}]) for group in sorted(set(ids))),
            ("nothing else", [{"counter": dropped}, {"drop": None}]),
        ]
    )


def _group_chain(rules: Iterable[GroupRule], *, is_egress: bool) -> tuple[Rule, ...]:
    allowed = {"goto": {"target": "ingress"}} if is_egress else {"accept": None}
    return _numbered(
        [
            (rule.id, [*peer, *_protocol(rule), {"counter": counter_of(rule)}, allowed])
            for rule in sorted(rules, key=lambda rule: rule.id)
            if rule.is_egress is is_egress
            for peer in _peers(rule)
        ]
    )


def _peers(rule: GroupRule) -> list[list[dict[str, Any]]]:
    """Return the ways to match the other end of a rule, each of which is enough."""
    name = "daddr" if rule.is_egress else "saddr"
    if rule.group:
        versions = [v for v in (4, 6) if _may_be_of(rule, v)]
        return [[nft.match(nft.field(_ip(v), name), f"@{set_of(rule.group, v)}")] for v in versions]
    cidr = IPv4Network(rule.cidr_ipv4) if rule.cidr_ipv4 else IPv6Network(rule.cidr_ipv6)
    if not _may_be_of(rule, cidr.version):
        return []
    if cidr.prefixlen == 0:
        return [[nft.match(nft.meta("nfproto"), "ipv4" if cidr.version == 4 else "ipv6")]]
    return [[nft.match(nft.field(_ip(cidr.version), name), nft.prefix(str(cidr)))]]


def _may_be_of(rule: GroupRule, version: int) -> bool:
    """Return whether packets of this IP version can match: each has an ICMP of its own."""
    number = _ICMP_NUMBERS.get(rule.protocol, rule.protocol)
    return str(number) != ("58" if version == 4 else "1")


def _protocol(rule: GroupRule) -> list[dict[str, Any]]:
    if rule.protocol == ANY:
        return []
    if rule.protocol in PORT_PROTOCOLS:
        first, last = rule.from_port, rule.to_port
        ports: Any = first if first == last else {"range": [first, last]}
        if (first, last) == (0, 65535):
            return [nft.match(nft.meta("l4proto"), rule.protocol)]
        return [nft.match(nft.field(rule.protocol, "dport"), ports)]
    number = _ICMP_NUMBERS.get(rule.protocol)
    if rule.protocol not in ICMP_PROTOCOLS or number is None:
        return [nft.match(nft.meta("l4proto"), int(rule.protocol))]
    matches = [nft.match(nft.meta("l4proto"), number)]
    if rule.from_port != EVERY_TYPE:
        matches.append(nft.match(nft.field(rule.protocol, "type"), rule.from_port))
        if rule.to_port != EVERY_TYPE:
            matches.append(nft.match(nft.field(rule.protocol, "code"), rule.to_port))
    return matches


def _ip(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def _numbered(rules: Iterable[tuple[str, list[dict[str, Any]]]]) -> tuple[Rule, ...]:
    """Return rules whose comments end with a digest of the chain: a changed one is recognized."""
    listed = list(rules)
    digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()[:12]
    return tuple({"comment": f"{comment} {digest}", "expr": expr} for comment, expr in listed)
