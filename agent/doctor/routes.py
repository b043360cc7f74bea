"""Routes and links of the host, read from ``/proc`` and ``/sys``, and free address ranges."""

from __future__ import annotations

import contextlib
import sys
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from agent.network.host_routes import Route

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_GATEWAY = 0x2
_UP = 0x1
_NO_LINK = "*"
"""Of a route that leads nowhere."""
_PRIVATE = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))


def parse(table: str) -> list[Route]:
    """Read a ``/proc/net/route``. Pure."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not int(fields[3], 16) & _UP:
            continue
        address, mask = (_address(fields[at]) for at in (1, 7))
        with contextlib.suppress(ValueError):
            found.append(
                Route(
                    network=IPv4Network(f"{address}/{mask}", strict=False),
                    interface="" if fields[0] == _NO_LINK else fields[0],
                    via_gateway=bool(int(fields[3], 16) & _GATEWAY),
                )
            )
    return found


def _address(hexadecimal: str) -> IPv4Address:
    """Return an address from the kernel's notation, which uses this machine's byte order."""
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, sys.byteorder))


def free_pool(routes: Iterable[Route], prefix: int) -> str:
    """Return a private network of that size that no route overlaps; empty if there is none."""
    taken = [route.network for route in routes if route.network.prefixlen]
    for block in _PRIVATE:
        if prefix < block.prefixlen:
            continue
        step = 1 << (32 - prefix)
        start, size = int(block.network_address), block.num_addresses
        # Start in the middle: most people use the ends of private blocks first.
        middle = size // 2 if step < size else 0
        for offset in range(0, size - middle, max(step, size // 256)):
            network = IPv4Network((start + middle + offset, prefix))
            if not any(network.overlaps(other) for other in taken):
                return str(network)
    return ""


def mtu_of(net: Path, interface: str) -> int:
    """Return the MTU of a link below a ``/sys/class/net``; 0 if there is none. Blocks."""
    with contextlib.suppress(OSError, ValueError):
        return int((net / interface / "mtu").read_text(encoding="ascii"))
    return 0
