"""Reads the host ends of sandbox links from ``/sys``, and the host's neighbour table. Blocks.

Checking 150 links takes 3 ms; listing them by netlink would take 60.

Tests: ``tests/integration/network/test_repairs.py``,
``tests/integration/network/test_host_objects.py``.
"""

from __future__ import annotations

import enum
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from agent.network.kernel import neighbours

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.bridge.bridge_port_rules import BridgePort

_LINKS = Path("/sys/class/net")
_NEIGHBOURS = Path("/proc/net/arp")
_UP = 1
_FIXED = "0x6"
"""``ATF_COM | ATF_PERM``"""
_OFF = ("learning", "unicast_flood", "multicast_flood")
_FLAG_BYTES = 64
_ENTRY_BYTES, _MAC_BYTES = 16, 6
"""Sizes in ``struct __fdb_entry`` of ``linux/if_bridge.h``, which starts with the MAC."""


class Place(enum.Enum):
    """State of a link; the value is the error text."""

    GOOD = ""
    GONE = "gone"
    OFF_BRIDGE = "off the bridge"
    DOWN = "down"
    ALTERED = "open to frames for others, or unknown to the bridge"


def on_bridge(bridge: str) -> frozenset[str]:
    """Return the names of the links on a bridge; none if there is no bridge."""
    try:
        return frozenset(entry.name for entry in (_LINKS / bridge / "brif").iterdir())
    except OSError:
        return frozenset()


def places(ports: Iterable[BridgePort], bridge: str) -> dict[str, Place]:
    """Return the state of each port's link, by name."""
    members, known = on_bridge(bridge), _forwarded(bridge)
    return {
        port.link: _place(port.link, port.link in members, _mac(port.mac) in known)
        for port in ports
    }


def unknown_neighbours(ports: Iterable[BridgePort], bridge: str) -> list[BridgePort]:
    """Return the ports whose address is not a permanent neighbour of the host on this bridge."""
    fixed = set()
    try:
        lines = _NEIGHBOURS.read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        # address, type of hardware, flags, MAC, mask, link
        words = line.split()
        if len(words) == 6 and words[5] == bridge and words[2] == _FIXED:
            fixed.add((words[0], words[3]))
    known = list(ports)
    by_ipv6 = _neighbours_by_ipv6(bridge) if any(port.ipv6 for port in known) else frozenset()
    return [
        port
        for port in known
        if (port.ipv4, port.mac) not in fixed
        or (port.ipv6 and (port.ipv6, port.mac) not in by_ipv6)
    ]


def _neighbours_by_ipv6(bridge: str) -> frozenset[tuple[str, str]]:
    try:
        number = socket.if_nametoindex(bridge)
    except OSError:
        return frozenset()
    return frozenset((n.address, n.mac) for n in neighbours.permanent() if n.link == number)


def _place(name: str, is_member: bool, is_known: bool) -> Place:
    try:
        flags = int(_read(f"{_LINKS}/{name}/flags"), 16)
    except (OSError, ValueError):
        return Place.GONE
    if not is_member:
        return Place.OFF_BRIDGE
    if not flags & _UP:
        return Place.DOWN
    return Place.GOOD if is_known and _is_closed(f"{_LINKS}/{name}/brport") else Place.ALTERED


def _is_closed(port: str) -> bool:
    try:
        return all(_read(f"{port}/{flag}") == b"0\n" for flag in _OFF)
    except OSError:
        return False


def _read(path: str) -> bytes:
    """Return a small file of the kernel's; three system calls, where ``Path`` needs nine."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _FLAG_BYTES)
    finally:
        os.close(descriptor)


def _forwarded(bridge: str) -> frozenset[bytes]:
    """Return the MACs for which a bridge has a forwarding entry."""
    try:
        table = (_LINKS / bridge / "brforward").read_bytes()
    except OSError:
        return frozenset()
    starts = range(0, len(table), _ENTRY_BYTES)
    return frozenset(table[start : start + _MAC_BYTES] for start in starts)


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
