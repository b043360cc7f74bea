"""What the kernel should have so that tasks reach tasks on other hosts, and what differs. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.fleet import FleetHost
    from agent.network.fleet.known import KnownFleet

UNREACHABLE = ""
"""In the place of a gateway: nobody has these addresses, and packets to them must not leave by another route."""


class Wanted(NamedTuple):
    """What the kernel should have."""

    routes: dict[str, str]
    """Gateway by network, or ``UNREACHABLE``."""
    left_out: dict[str, str]
    """By the id of a peer to which there can be no way: why."""


class Changes(NamedTuple):
    """From one set of routes to another."""

    put: dict[str, str]
    """To add, or to replace; gateway by network."""
    remove: list[str]
    """Networks."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.put or self.remove)


def wanted(known: KnownFleet, driver: str) -> Wanted:
    """Return the routes for a host with this driver.

    A peer is left out if what control says of it cannot be, or would lead away what is for tasks here.
    """
    found = Wanted({}, {})
    if not known.fleet_range:
        return found
    found.routes[known.fleet_range] = UNREACHABLE
    for peer_id, host in sorted(known.peers.items()):
        problem = _problem(known, host, driver) or (
            f"another host has its range {host.range}, too" if host.range in found.routes else ""
        )
        if problem:
            found.left_out[peer_id] = problem
        else:
            found.routes[host.range] = host.address
    return found


def _problem(known: KnownFleet, host: FleetHost, driver: str) -> str:
    if host.driver != driver:
        return f"it has ECS_FLEET_NETWORK={host.driver}, and this host has {driver}"
    try:
        network, address = IPv4Network(host.range), IPv4Address(host.address)
    except ValueError as error:
        return str(error)
    fleet, own = IPv4Network(known.fleet_range), IPv4Network(known.range)
    if not network.subnet_of(fleet) or network == fleet:
        return f"its range {network} is not one of {fleet}"
    if network.overlaps(own):
        return f"its range {network} overlaps that of this host"
    if address in fleet:
        return f"its address {address} is one of tasks"
    return ""


def changes(present: Mapping[str, str], routes: Mapping[str, str]) -> Changes:
    """Return what leads from the routes that are present to others."""
    return Changes(
        {network: via for network, via in routes.items() if present.get(network) != via},
        sorted(present.keys() - routes.keys()),
    )


def damage(present: Mapping[str, str], written: Mapping[str, str]) -> list[str]:
    """Return in words what others changed of the routes that were written."""
    gone = sorted(network for network, via in written.items() if present.get(network) != via)
    more = sorted(present.keys() - written.keys())
    found = []
    if len(gone) == 1:
        found.append(f"the route to {gone[0]} of the fleet was gone or changed")
    elif gone:
        found.append(f"{len(gone)} routes of the fleet were gone or changed")
    if more:
        found.append(f"there was a route of the fleet to {', '.join(more[:3])}")
    return found
