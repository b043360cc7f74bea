"""The network between hosts, as hosts and control tell each other of it. Pure data.

Control cuts a range for each host from one for the whole fleet, of IPv4, of IPv6, or of each. A host gives its
tasks addresses of its own ranges, and sends what is for another range to the host that has it: its peer.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

ROUTES: Final = "routes"
"""Packets go to a peer as they are, by a route through its address: all hosts are on one layer 2 network."""
WIREGUARD: Final = "wireguard"
"""Packets go to a peer encrypted, in UDP to its address and port."""
DRIVERS: Final = (ROUTES, WIREGUARD)
KEY_BYTES: Final = 32


class FleetHost(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What one host says of itself."""

    driver: str
    """One of ``DRIVERS``; hosts with different ones do not reach each other's tasks."""
    address: str
    """Under which other hosts reach it."""
    range: str = ""
    """IPv4 network of its tasks: the one that it has, empty for none yet."""
    ipv6_range: str = ""
    """The same of IPv6."""
    has_ipv6: bool = False
    """Whether its tasks can have IPv6 addresses that other hosts reach."""
    ipv6_only: bool = False
    """Whether they have no others."""
    ipv6_address: str = ""
    """Under which other hosts reach it by IPv6, with ``ROUTES``."""
    port: int = 0
    """UDP port of WireGuard; 0 with another driver."""
    public_key: str = ""
    """Of WireGuard, in base64."""


class FleetPeer(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Another host."""

    id: str
    """The last element of its instance ARN."""
    host: FleetHost
    """With its range."""


class FleetUpdate(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What changed of the fleet since an earlier update; the same result if it comes twice."""

    range: str = ""
    """IPv4 network of the tasks of the host that is told; empty if control has none to give."""
    fleet_range: str = ""
    """The IPv4 network from which all ranges are."""
    ipv6_range: str = ""
    """IPv6 network of the tasks of the host; empty if control has none, or the host cannot have one."""
    ipv6_fleet_range: str = ""
    """The IPv6 network from which all ranges are."""
    peers: list[FleetPeer] = field(default_factory=list)
    """New and changed ones."""
    gone: list[str] = field(default_factory=list)
    """Ids of those that left."""
    full: bool = False
    """Whether ``peers`` are all."""
