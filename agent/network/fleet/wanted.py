"""What the kernel should have so that tasks reach tasks on other hosts, and what differs. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from agent.model.fleet import ROUTES, WIREGUARD
from agent.network.host.kernel_messages import FLEET_DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.model.fleet import FleetHost
    from agent.network.fleet.known import KnownFleet

N = TypeVar("N", IPv4Network, IPv6Network)
V = TypeVar("V")

_ADDRESSES: Final[dict[int, Callable[[str], IPv4Address | IPv6Address]]] = {
    4: IPv4Address, 6: IPv6Address,
}  # fmt: skip

UNREACHABLE: Final = ""
"""In the place of a gateway: nobody has these addresses, and packets to them must not leave by another route."""
DEVICE: Final = FLEET_DEVICE
"""In the place of a gateway: the WireGuard link of that name. It does not begin as the links of tasks do."""


class Tunnel(NamedTuple):
    """The way to one host by WireGuard."""

    range: str
    """What the host may send with, and what is sent to it; of two, with a blank between them."""
    address: str
    port: int


class Wanted(NamedTuple):
    """What the kernel should have."""

    routes: dict[str, str]
    """Gateway by network, or ``UNREACHABLE``, or ``DEVICE``."""
    tunnels: dict[str, Tunnel]
    """By public key."""
    left_out: dict[str, str]
    """By the id of a peer to which there can be no way, or none by IPv6: why."""


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
    By IPv6 there are ways only if this host has a range of it.
    """
    found = Wanted({}, {}, {})
    if known.range:
        found.routes[known.fleet_range] = UNREACHABLE
    if known.ipv6_range:
        found.routes[known.ipv6_fleet_range] = UNREACHABLE
    for peer_id, host in sorted(known.peers.items()):
        problem = _problem(host, driver, own_key)
        if problem:
            found.left_out[peer_id] = problem
            continue
        ranges = []
        for way in _ways(known, host):
            problem = way.problem or _taken(found, way, host)
            if problem:
                found.left_out[peer_id] = problem
            else:
                ranges.append(way.range)
                found.routes[way.range] = DEVICE if driver == WIREGUARD else way.gateway
        if ranges and driver == WIREGUARD:
            tunnel = Tunnel(" ".join(sorted(ranges)), host.address, host.port)
            found.tunnels[host.public_key] = tunnel
    return found


class _Way(NamedTuple):
    """How a host is reached by one version of IP."""

    range: str
    gateway: str
    problem: str = ""


def _ways(known: KnownFleet, host: FleetHost) -> Iterator[_Way]:
    """Yield the ways to a host by the versions of IP of which tasks on both hosts have addresses."""
    if known.range and not host.ipv6_only:
        fleet, own = IPv4Network(known.fleet_range), IPv4Network(known.range)
        yield _way(host, host.range, host.address, fleet, own)
    if known.ipv6_range and host.ipv6_range:
        by_ipv6, own6 = IPv6Network(known.ipv6_fleet_range), IPv6Network(known.ipv6_range)
        address = host.ipv6_address if host.driver == ROUTES else host.address
        yield _way(host, host.ipv6_range, address, by_ipv6, own6)


def _way(host: FleetHost, cidr: str, told: str, fleet: N, own: N) -> _Way:
    parse = _ADDRESSES[fleet.version] if host.driver == ROUTES else ip_address
    try:
        network, address = type(fleet)(cidr), parse(told)
    except ValueError as error:
        return _Way(cidr, told, str(error))
    problem = ""
    if not network.subnet_of(fleet) or network == fleet:
        problem = f"its range {network} is not one of {fleet}"
    elif network.overlaps(own):
        problem = f"its range {network} overlaps that of this host"
    elif address in fleet:
        problem = f"its address {address} is one of tasks"
    elif address.is_link_local and address.version == 6:
        problem = f"its address {address} is for one link alone"
    return _Way(str(network), str(address), problem)


def _taken(found: Wanted, way: _Way, host: FleetHost) -> str:
    if way.range in found.routes:
        return f"another host has its range {way.range}, too"
    if host.driver == WIREGUARD and host.public_key in found.tunnels:
        return "another host has its key, too"
    return ""


def _problem(host: FleetHost, driver: str, own_key: str) -> str:
    """Return why there can be no way at all to a host; empty if there can."""
    if host.driver != driver:
        return f"it has ECS_FLEET_NETWORK={host.driver}, and this host has {driver}"
    if driver != WIREGUARD:
        return ""
    if not (host.public_key and 0 < host.port < 65536):
        return "its key or its port is missing"
    if own_key and host.public_key == own_key:
        return "it has the key of this host, too"  # the kernel would skip it without an error
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
