"""The nftables table of faults: which packets they concern. Pure.

A black hole is a chain that drops. For latency and loss, a chain gives packets the priority by which
the queueing discipline ``prio`` passes them to ``netem`` (``queues``). In JSON of nftables,
libnftables-json(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.network.faults.fault import EVERY_FLOW, Blackhole, Impairment, Kind
from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.network.faults.fault import Network

FAMILY: Final = "inet"
IMPAIRED: Final = 0x1_0001
"""Priority of packets for ``netem``: band 1 of the discipline with handle 1."""
_HOOKS: Final = {"ingress": "input", "egress": "output"}
_SEED: Final = 0x6563_7300
"""The same for all faults, so that a flow is concerned by all faults or by none."""
_IPV4, _IPV6 = ("ip", 4), ("ip6", 6)
_WITH_PORTS: Final = {"set": ["tcp", "udp"]}


def blackhole(table: str, fault: Blackhole) -> list[dict[str, Any]]:
    """Return the commands that start a black hole, in one transaction."""
    rules = [[*_to(network), *_to_port(fault), {"accept": None}] for network in fault.spared] + [
        [*_to_port(fault), {"drop": None}]
    ]
    return _chain(table, fault.name, _HOOKS[fault.direction], rules)


def impairment(table: str, fault: Impairment) -> list[dict[str, Any]]:
    """Return the commands that choose the packets of a fault, in one transaction."""
    choice = {"mangle": {"key": nft.meta("priority"), "value": IMPAIRED}}
    rules: list[list[dict[str, Any]]] = [
        [*_to(network), {"accept": None}] for network in fault.spared
    ]
    for network in fault.destinations:
        if fault.flows_percent >= EVERY_FLOW:
            rules.append([*_to(network), choice])
            continue
        rules += [[*_to(network), *flows, choice] for flows in _share(network, fault.flows_percent)]
    return _chain(table, fault.kind.value, "postrouting", rules)


def removal(table: str, name: str, listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the commands that end a fault: its chain, or the table if it is the last one."""
    of_table = {"family": FAMILY, "name": table}
    if chains(listed) <= {name}:
        return [{"delete": {"table": of_table}}]
    chain = {"family": FAMILY, "table": table, "name": name}
    return [{"flush": {"chain": chain}}, {"delete": {"chain": chain}}]


def chains(listed: Iterable[dict[str, Any]] | None) -> set[str]:
    """Return the names of the faults in a listed table; none if there is no table."""
    return {each["chain"]["name"] for each in listed or () if "chain" in each}


def running(listed: Iterable[dict[str, Any]] | None) -> Kind | None:
    """Return which fault with ``netem`` has its chain in a listed table."""
    found = chains(listed)
    return next((kind for kind in (Kind.LATENCY, Kind.LOSS) if kind.value in found), None)


def _chain(
    table: str, name: str, hook: str, rules: Iterable[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    place = {"family": FAMILY, "table": table}
    chain = {
        **place, "name": name, "type": "filter", "hook": hook, "prio": 0, "policy": "accept",
    }  # fmt: skip
    return [
        {"add": {"table": {"family": FAMILY, "name": table}}},
        {"add": {"chain": chain}},
        *({"add": {"rule": {**place, "chain": name, "expr": expr}}} for expr in rules),
    ]


def _version(network: Network) -> tuple[str, int]:
    return _IPV4 if network.version == 4 else _IPV6


def _to(network: Network) -> list[dict[str, Any]]:
    protocol, _ = _version(network)
    if network.prefixlen == 0:
        family = "ipv4" if network.version == 4 else "ipv6"
        return [nft.match(nft.meta("nfproto"), family)]
    whole = network.prefixlen == network.max_prefixlen
    value = str(network.network_address) if whole else nft.prefix(str(network))
    return [nft.match(nft.field(protocol, "daddr"), value)]


def _to_port(fault: Blackhole) -> list[dict[str, Any]]:
    return [nft.match(nft.field(fault.protocol, "dport"), fault.port)]


def _share(network: Network, percent: int) -> list[list[dict[str, Any]]]:
    """Return expressions that match this share of the flows, with ports and without."""
    protocol, _ = _version(network)
    ends = [nft.field(protocol, "saddr"), nft.field(protocol, "daddr")]
    ports = [nft.field("th", "sport"), nft.field("th", "dport")]
    return [
        [nft.match(nft.meta("l4proto"), _WITH_PORTS, operator), _hashed(parts, percent)]
        for operator, parts in (("==", [*ends, *ports]), ("!=", ends))
    ]


def _hashed(parts: list[dict[str, Any]], percent: int) -> dict[str, Any]:
    hashed = {"mod": EVERY_FLOW, "seed": _SEED, "expr": {"concat": parts}}
    return nft.match({"jhash": hashed}, percent, "<")
