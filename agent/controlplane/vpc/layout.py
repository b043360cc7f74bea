"""Subnets of control's VPC: one for each availability zone. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.names import Names
    from agent.controlplane.vpc.seen import SeenHost

POOL: Final = "10.207.0.0/20"
"""Of a zone whose hosts report none, and of one without hosts: the default of hosts."""
_NOT_GIVEN: Final = 3
"""Addresses of a pool that no task gets: its first two and its last."""
_WIDEST: Final = 8
"""Prefix of the largest block that a subnet is said to have."""
_ID_DIGITS: Final = 17


@dataclass(frozen=True, slots=True)
class Subnet:
    """Where the tasks on the hosts of one zone have their addresses from."""

    id: str
    zone: str
    block: IPv4Network
    """Holds the pools of all hosts of the zone; if they are far apart, the first of them."""
    addresses: int
    """How many tasks can have one, on all hosts together."""


def subnet_id(names: Names, zone: str) -> str:
    """Return the id of a zone's subnet; always the same for an account and region."""
    text = f"{names.partition}/{names.region}/{names.account}/subnet/{zone}"
    return f"subnet-{hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]}"


def zones(hosts: Iterable[SeenHost], own: str) -> list[str]:
    """Return all zones: those of hosts, and control's own."""
    return sorted({own, *(host.zone for host in hosts if host.zone)})


def subnets(names: Names, hosts: Iterable[SeenHost], own: str) -> list[Subnet]:
    """Return the subnets, by zone.

    Args:
        names: name them.
        hosts: all hosts.
        own: control's own zone, which always has a subnet.
    """
    every = list(hosts)
    found = []
    for zone in zones(every, own):
        pools = [host.pool for host in every if host.zone == zone and host.pool is not None]
        addresses = sum(max(0, pool.num_addresses - _NOT_GIVEN) for pool in pools)
        block = covering(pools or [IPv4Network(POOL)])
        found.append(Subnet(subnet_id(names, zone), zone, block, addresses))
    return found


def covering(networks: Iterable[IPv4Network]) -> IPv4Network:
    """Return the smallest network that holds all the given ones, or the first one if it would be too large."""
    ordered = sorted(set(networks))
    block = ordered[0]
    while not all(network.subnet_of(block) for network in ordered):
        if block.prefixlen <= _WIDEST:
            return ordered[0]
        block = block.supernet()
    return block


def subnet_of(names: Names, named: Iterable[str], zone: str) -> str:
    """Return the subnet of a task on a host of a zone: that of the zone if it is named, else the first named.

    Subnets that control does not have may be named, too: they are only names.
    """
    given = list(named)
    own = subnet_id(names, zone)
    return own if own in given or not given else given[0]
