"""The WireGuard device of one host, kept as wanted. Belongs to one event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.network.fleet import tunnels
from agent.network.fleet.wanted import DEVICE, Tunnel, changes, tunnel_damage

if TYPE_CHECKING:
    from agent.network.fleet.peer_state import PeerState
    from agent.network.fleet.tunnels import DeviceState
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.settings import FleetSettings


class FleetDevice:
    """Device, key and peers; one caller at a time, except for ``peers``."""

    def __init__(self, settings: FleetSettings, lane: NetlinkLane, mtu: int) -> None:
        """Take the parts; nothing is changed before ``ensure``."""
        self._private_key = settings.private_key
        self._public_key = settings.public_key
        self._port = settings.port
        self._lane = lane
        self._mtu = mtu
        self._written: dict[str, Tunnel] | None = None
        """The peers that the device has as far as we know; None before control has said them."""

    async def ensure(self) -> None:
        """Create the link, or correct it. Idempotent.

        A device that an earlier process left keeps its key until control has told the peers: they take the
        new one at the same time.

        Raises:
            NetworkFailure: the kernel lacks WireGuard, or another link has the name.
        """
        await tunnels.ensure_link(self._lane, self._mtu)

    async def write(self, needed: dict[str, Tunnel]) -> dict[str, str]:
        """Have the key of this host and these peers; return why one could not be put, by its key.

        Raises:
            NetworkFailure: the kernel refused; call again.
        """
        present = self._written
        if present is None:
            await self.ensure()
            state = await self._state()
            if (state.public_key, state.port) != (self._public_key, self._port):
                await tunnels.configure(self._lane, self._private_key.reveal(), self._port)
            # Their addresses are not compared: the kernel learns them.
            present = {key: Tunnel(peer.range, "", 0) for key, peer in state.peers.items()}
        self._written = None
        change = changes(present, needed)
        failing = await tunnels.apply(self._lane, change.put, change.remove) if change else {}
        self._written = {key: tunnel for key, tunnel in needed.items() if key not in failing}
        return failing

    async def repair(self) -> list[str]:
        """Return in words what others changed; the next ``write`` restores it.

        Raises:
            NetworkFailure: the kernel did not answer.
        """
        found = await self.differences()
        if found or self._written is None:
            await self.ensure()
            self._written = None
        return found

    async def differences(self) -> list[str]:
        """Return in words what differs from what was written; changes nothing.

        Raises:
            NetworkFailure: the kernel did not answer.
        """
        if self._written is None:
            return []
        state = await tunnels.listed(self._lane)
        if state is None:
            return [f"the link {DEVICE} was removed"]
        found = (
            [] if await tunnels.is_up(self._lane, self._mtu) else [f"the link {DEVICE} was changed"]
        )
        if (state.public_key, state.port) != (self._public_key, self._port):
            found.append(f"the key or the port of {DEVICE} was changed")
        ranges = {key: peer.range for key, peer in state.peers.items()}
        return found + tunnel_damage(ranges, self._written)

    async def peers(self) -> dict[str, PeerState]:
        """Return what went to each peer and came from it, by public key.

        Raises:
            NetworkFailure: the kernel did not answer.
        """
        return (await self._state()).peers

    async def _state(self) -> DeviceState:
        return await tunnels.listed(self._lane) or tunnels.DeviceState("", 0, {})
