"""What a fault is: plain data, checked by whoever makes it."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal, TypeAlias

from msgspec import Struct

Network: TypeAlias = IPv4Network | IPv6Network
Protocol: TypeAlias = Literal["tcp", "udp"]
Direction: TypeAlias = Literal["ingress", "egress"]

EVERY_FLOW: Final = 100


class Kind(StrEnum):
    """What a fault does, by its name in paths and in the kernel's rules."""

    BLACKHOLE = "network-blackhole-port"
    LATENCY = "network-latency"
    LOSS = "network-packet-loss"


class Blackhole(Struct, frozen=True, kw_only=True):
    """Packets to a port are dropped, in one direction."""

    port: int
    protocol: Protocol
    direction: Direction
    spared: tuple[Network, ...] = ()
    """Destinations whose packets pass, also of the direction ``ingress``."""

    @property
    def name(self) -> str:
        """The name of its chain, which identifies it in its namespace."""
        return f"{self.direction}-{self.protocol}-{self.port}"


class Impairment(Struct, frozen=True, kw_only=True):
    """Packets to certain destinations are delayed or lost. One at a time in a namespace."""

    kind: Kind
    destinations: tuple[Network, ...]
    spared: tuple[Network, ...] = ()
    flows_percent: int = EVERY_FLOW
    """How many of the flows are concerned."""
    delay_ms: int = 0
    jitter_ms: int = 0
    loss_percent: int = 0
