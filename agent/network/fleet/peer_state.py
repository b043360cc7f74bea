"""One peer of WireGuard as the kernel has it. Pure."""

from __future__ import annotations

from typing import NamedTuple


class PeerState(NamedTuple):
    """What it may do, and what it did."""

    range: str = ""
    """What it may send with; several are separated by blanks."""
    last_handshake: float = 0.0
    """Unix time; 0 if there was none."""
    rx_bytes: int = 0
    tx_bytes: int = 0
