"""What the kernel should have so that tasks reach tasks on other hosts, and what differs. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from agent.model.fleet import ROUTES, WIREGUARD
from agent.network.host.kernel_messages import FLEET_DEVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.fleet import FleetHost
    from agent.network.fleet.known import KnownFleet

V = TypeVar("V")

UNREACHABLE: Final = ""
"""In the place of a gateway: nobody has these addresses, and packets to them must not leave by another route."""
DEVICE: Final = FLEET_DEVICE
"""In the place of a gateway: the WireGuard link of that name. It does not begin as the links of tasks do."""


class Tunnel(NamedTuple):
    """The way to one host by WireGuard."""

    range: str
    """What the host may send with, and what is sent to it."""
    address: str
    port: int


class Wanted(NamedTuple):
    """What the kernel should have."""

    routes: dict[str, str]
    """Gateway by network, or ``UNREACHABLE``, or ``DEVICE``."""
    tunnels: dict[str, Tunnel]
    """By public key."""
    left_out: dict[str, str]
    """By the id of a peer to which there can be no way: why."""


class Changes(NamedTuple, Generic[V]):
    """From one mapping to another."""

    put: dict[str, V]
    """To add, or to replace."""
    remove: list[str]

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.put or self.remove)


def wanted(known: KnownFleet, driver: str, own_key: str = "") -> Wanted:
    """Return the ways for a host with this driver, and this public key of WireGuard.

    A peer is left out if what control says of it cannot be, or would lead away what is for tasks here.
    """
    found = Wanted({}, {}, {})
    if not known.fleet_range:
        return found
    found.routes[known.fleet_range] = UNREACHABLE
    for peer_id, host in sorted(known.peers.items()):
        problem = _problem(known, host, driver) or _taken(found, host, own_key)
        if problem:
            found.left_out[peer_id] = problem
        elif driver == WIREGUARD:
            found.routes[host.range] = DEVICE
            found.tunnels[host.public_key] = Tunnel(host.range, host.address, host.port)
        else:
            found.routes[host.range] = host.address
    return found


def _taken(found: Wanted, host: FleetHost, own_key: str) -> str:
    if host.range in found.routes:
        return f"another host has its range {host.range}, too"
    if own_key and host.public_key == own_key:
        return "it has the key of this host, too"  # the kernel would skip it without an error
    if host.public_key in found.tunnels:
        return "another host has its key, too"
    return ""


def _problem(known: KnownFleet, host: FleetHost, driver: str) -> str:
    if host.driver != driver:
        return f"it has ECS_FLEET_NETWORK={host.driver}, and this host has {driver}"
    try:
        network = IPv4Network(host.range)
        address = IPv4Address(host.address) if driver == ROUTES else ip_address(host.address)
    except ValueError as error:
        return str(error)
    fleet, own = IPv4Network(known.fleet_range), IPv4Network(known.range)
    if not network.subnet_of(fleet) or network == fleet:
        return f"its range {network} is not one of {fleet}"
    if network.overlaps(own):
        return f"its range {network} overlaps that of this host"
    if address in fleet:
        return f"its address {address} is one of tasks"
    if driver == WIREGUARD and not (host.public_key and 0 < host.port < 65536):
        return "its key or its port is missing"
    return ""


def changes(present: Mapping[str, V], needed: Mapping[str, V]) -> Changes[V]:
    """Return what leads from what is present to what is needed."""
    return Changes(
        {name: value for name, value in needed.items() if present.get(name) != value},
        sorted(present.keys() - needed.keys()),
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


def tunnel_damage(present: Mapping[str, str], written: Mapping[str, Tunnel]) -> list[str]:
    """Return the same of peers of WireGuard, whose addresses the kernel may have learned anew.

    Args:
        present: what a peer may send with, by its key.
        written: what was written.
    """
    wrong = sum(present.get(key) != tunnel.range for key, tunnel in written.items())
    wrong += len(present.keys() - written.keys())
    return [f"{wrong} peers of {DEVICE} were gone, changed or foreign"] if wrong else []
