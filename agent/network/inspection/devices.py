"""Reads state and counters of the links of task networks from ``/sys``. Blocks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.model.network_views import DeviceView

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINKS: Final = Path("/sys/class/net")
_UP: Final = 1
_KINDS: Final = {"bridge": "bridge", "routed": "gateway"}
"""What the shared link is, by driver; for all others, the parent."""


def devices(
    shared: str, driver: str, ports: Iterable[tuple[str, str]], links: Path = _LINKS
) -> list[DeviceView]:
    """Return the link that all tasks depend on, and the host's ends of task links.

    Args:
        shared: name of the link.
        driver: name of the driver, which says what kind of link that is.
        ports: name of a link, and address of the task at its other end.
        links: a directory like ``/sys/class/net``.
    """
    found = [_device(links / shared, _KINDS.get(driver, "parent"), "")]
    return found + [_device(links / name, "task", ipv4) for name, ipv4 in ports]


def _device(link: Path, kind: str, ipv4: str) -> DeviceView:
    try:
        is_up = int((link / "flags").read_text(encoding="ascii"), 16) & _UP
        state = "UP" if is_up else "DOWN"
    except (OSError, ValueError):
        state = "GONE"
    return DeviceView(
        name=link.name,
        kind=kind,
        state=state,
        mtu=_number(link / "mtu"),
        ipv4=ipv4,
        rx_bytes=_number(link / "statistics/rx_bytes"),
        rx_packets=_number(link / "statistics/rx_packets"),
        tx_bytes=_number(link / "statistics/tx_bytes"),
        tx_packets=_number(link / "statistics/tx_packets"),
    )


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0  # the link has just been removed
