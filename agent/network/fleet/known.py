"""What control has said of the fleet. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from agent.model.fleet import FleetHost

if TYPE_CHECKING:
    from agent.model.fleet import FleetUpdate


class KnownFleet(Struct, frozen=True):
    """The fleet as one of its hosts knows it."""

    range: str = ""
    """Of this host; empty before control has said it, or without IPv4. Likewise the other three."""
    fleet_range: str = ""
    ipv6_range: str = ""
    ipv6_fleet_range: str = ""
    peers: dict[str, FleetHost] = field(default_factory=dict)
    """By id; those that control has said."""
    is_told: bool = False
    """Whether control has said who the peers are, since the agent started."""

    def after(self, update: FleetUpdate) -> KnownFleet:
        """Return what is known after an update; the same result if it comes twice."""
        peers = {} if update.full else dict(self.peers)
        for each in update.gone:
            peers.pop(each, None)
        peers.update((peer.id, peer.host) for peer in update.peers)
        return KnownFleet(
            range=update.range,
            fleet_range=update.fleet_range,
            ipv6_range=update.ipv6_range,
            ipv6_fleet_range=update.ipv6_fleet_range,
            peers=peers,
            is_told=self.is_told or update.full,
        )
