"""Under which address other machines reach this host, and the metrics of its agent.

Asks the kernel's routing table; sends nothing, and does not block.

Tests: ``tests/unit/resources/test_host_address.py``.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from agent.config.addresses import HostPort

HOST_ADDRESS: Final = "ecs-host-agent.address"
"""Ours, an attribute: the address under which other machines reach this host."""
METRICS_ADDRESS: Final = "ecs-host-agent.metrics"
"""Ours, an attribute: where the agent serves its metrics to others."""

_OUTSIDE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of nobody (RFC 5737, RFC 3849), which are reached by the default route."""
_PORT: Final = 9
_ADDRESS_PREFERENCES: Final = 72
_NOT_TEMPORARY: Final = 2
"""``IPV6_ADDR_PREFERENCES`` and ``IPV6_PREFER_SRC_PUBLIC`` (RFC 5014, ``linux/in6.h``)."""


def find() -> str:
    """Return the address that this host has towards others; empty without a route to them."""
    for family, outside in _OUTSIDE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect((outside, _PORT))  # chooses a route; a datagram socket sends nothing
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return ""


def find_ipv6() -> str:
    """Return the IPv6 address that this host has towards others, and keeps; empty without a route to them."""
    family, outside = _OUTSIDE[1]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            probe.setsockopt(socket.IPPROTO_IPV6, _ADDRESS_PREFERENCES, _NOT_TEMPORARY)
            probe.connect((outside, _PORT))
            found = ipaddress.IPv6Address(probe.getsockname()[0])
    except OSError:
        return ""
    return "" if found.is_link_local or found.is_loopback else str(found)


def ipv4(configured: str) -> str:
    """Return the host's IPv4 address towards others; empty if it has another kind, or none.

    Args:
        configured: ``ECS_HOST_ADDRESS``; empty to ask the kernel.
    """
    address = configured or find()
    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError:
        return ""


def is_own(host: str) -> bool:
    """Return whether a host in a URL is this one, by its name or by an address of it.

    Looks no name up: any name but ``localhost`` and this host's own is taken for another host.
    """
    name = host.rstrip(".").lower()
    own = socket.gethostname().lower()
    if name in {"localhost", own, own.partition(".")[0]} or name.startswith(f"{own}."):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))  # only an address of this host can be bound
        except OSError:
            return False
    return True


def attributes(host: str, metrics: HostPort | None) -> dict[str, str]:
    """Return the attributes that say where a host is reached. Pure.

    Args:
        host: its address; empty if unknown.
        metrics: where its agent listens for those who read metrics; None if it does not.
    """
    if not host:
        return {}
    found = {HOST_ADDRESS: host}
    if metrics is None:
        return found
    listens = ipaddress.ip_address(metrics.host)
    if listens.is_loopback and not ipaddress.ip_address(host).is_loopback:
        return found  # nobody else can reach it
    place = HostPort(host if listens.is_unspecified else metrics.host, metrics.port)
    return found | {METRICS_ADDRESS: place.text()}
