"""The host's ends of sandboxes' links, as ``/sys`` shows them, and the host's neighbours. Blocks.

A look at 150 of them costs 3 ms; the same list by netlink would cost the process 60.

Tests: ``tests/integration/network/test_repairs.py``,
``tests/integration/network/test_host_objects.py``.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.port_rules import Port

_LINKS = Path("/sys/class/net")
_NEIGHBOURS = Path("/proc/net/arp")
_UP = 1
_FIXED = "0x6"
"""``ATF_COM | ATF_PERM``"""
_OFF = ("learning", "unicast_flood", "multicast_flood")
_ENTRY_BYTES, _MAC_BYTES = 16, 6
"""Of ``struct __fdb_entry`` in ``linux/if_bridge.h``, which begins with the MAC."""


class Place(enum.Enum):
    """Where a link is; the value says what is wrong with it."""

    GOOD = ""
    GONE = "gone"
    OFF_BRIDGE = "off the bridge"
    DOWN = "down"
    ALTERED = "open to frames for others, or unknown to the bridge"


def on_bridge(bridge: str) -> frozenset[str]:
    """Return the names of the links on a bridge; none if it is gone."""
    try:
        return frozenset(entry.name for entry in (_LINKS / bridge / "brif").iterdir())
    except OSError:
        return frozenset()


def places(ports: Iterable[Port], bridge: str) -> dict[str, Place]:
    """Return where the link of each of these ports is, by its name."""
    members, known = on_bridge(bridge), _forwarded(bridge)
    return {
        port.link: _place(port.link, port.link in members, _mac(port.mac) in known)
        for port in ports
    }


def unknown_neighbours(ports: Iterable[Port], bridge: str) -> list[Port]:
    """Return the ports whose address is not a fixed neighbour of the host on this bridge."""
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
    return [port for port in ports if (port.ipv4, port.mac) not in fixed]


def _place(name: str, is_member: bool, is_known: bool) -> Place:
    try:
        flags = int((_LINKS / name / "flags").read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return Place.GONE
    if not is_member:
        return Place.OFF_BRIDGE
    if not flags & _UP:
        return Place.DOWN
    return Place.GOOD if is_known and _is_closed(_LINKS / name / "brport") else Place.ALTERED


def _is_closed(port: Path) -> bool:
    try:
        return all((port / flag).read_text(encoding="ascii").strip() == "0" for flag in _OFF)
    except OSError:
        return False


def _forwarded(bridge: str) -> frozenset[bytes]:
    """Return the MACs for which a bridge has an entry."""
    try:
        table = (_LINKS / bridge / "brforward").read_bytes()
    except OSError:
        return frozenset()
    starts = range(0, len(table), _ENTRY_BYTES)
    return frozenset(table[start : start + _MAC_BYTES] for start in starts)


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
