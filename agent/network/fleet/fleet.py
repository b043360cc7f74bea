"""The way to tasks on other hosts: what control says of peers, put into the kernel and kept there.

Belongs to one event loop. Nothing waits for peers: a task starts before its host knows any.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.errors import NetworkFailure
from agent.model.fleet import WIREGUARD
from agent.model.network_views import FleetPeerView
from agent.network.fleet import routes
from agent.network.fleet.known import KnownFleet
from agent.network.fleet.peer_state import PeerState
from agent.network.fleet.wanted import changes, damage, wanted

if TYPE_CHECKING:
    from agent.model.fleet import FleetHost, FleetUpdate
    from agent.network.fleet.device import FleetDevice
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.settings import FleetSettings

_log = structlog.get_logger(__name__)


class FleetNetwork:
    """The part of one host in the network between hosts."""

    def __init__(
        self, settings: FleetSettings, lane: NetlinkLane, device: FleetDevice | None
    ) -> None:
        """Take the parts; nothing is changed before ``take`` or ``repair``.

        Args:
            settings: the part of this host.
            lane: for netlink.
            device: the WireGuard device; None with plain routes.
        """
        self._settings = settings
        self._lane = lane
        self._device = device
        self._known = KnownFleet(range=settings.range, fleet_range=settings.fleet_range)
        self._wanted = wanted(self._known, settings.driver, settings.public_key)
        self._written: dict[str, str] | None = None
        """The routes that the kernel has as far as we know; None if unknown."""
        self._failing: dict[str, str] = {}
        """Why there is no route or no tunnel, by network or public key."""
        self._lock = asyncio.Lock()

    async def take(self, update: FleetUpdate) -> None:
        """Take what control says; it counts when this returns. The same again changes nothing.

        Raises:
            NetworkFailure: the kernel refused; ``repair`` tries again.
        """
        async with self._lock:
            known = self._known.after(update)
            if known == self._known:
                return
            told = self._known.is_told
            self._known = known
            self._wanted = wanted(known, self._settings.driver, self._settings.public_key)
            await self._write(self._written)
        if not told:
            _log.info("hosts of the fleet known", count=len(known.peers), own=known.range)

    async def repair(self) -> list[str]:
        """Restore what others changed; return it in words. What failed before is tried again.

        Raises:
            NetworkFailure: the kernel refused; the next call tries again.
        """
        async with self._lock:
            found = await self._device.repair() if self._device is not None else []
            present = await routes.listed(self._lane, self._settings.gateway)
            found += damage(present, self._written) if self._written is not None else []
            await self._write(present)
        return found

    async def differences(self) -> list[str]:
        """Return in words what ``repair`` would restore; changes nothing.

        Raises:
            NetworkFailure: the kernel did not answer.
        """
        async with self._lock:
            found = await self._device.differences() if self._device is not None else []
            if self._written is None:
                return found
            return found + damage(
                await routes.listed(self._lane, self._settings.gateway), self._written
            )

    async def _write(self, present: dict[str, str] | None) -> None:
        """Bring the kernel from the routes that it has to those that are wanted."""
        self._written = None
        if present is None:
            present = await routes.listed(self._lane, self._settings.gateway)
        needed = self._wanted.routes
        failing: dict[str, str] = {}
        if not self._known.is_told:
            # An earlier process left ways to peers, which may be right: control will say.
            needed = present | needed
        elif self._device is not None:
            failing = await self._device.write(self._wanted.tunnels)
        change = changes(present, needed)
        refused = await routes.apply(self._lane, change, self._settings.gateway) if change else {}
        self._written = {net: via for net, via in needed.items() if net not in refused}
        failing |= refused
        if failing and failing != self._failing:
            which, why = next(iter(failing.items()))
            _log.warning("hosts of the fleet not reached", count=len(failing), first=which, why=why)
        self._failing = failing

    @property
    def problems(self) -> list[str]:
        """One sentence per host that cannot be reached; empty if all can."""
        return [
            f"tasks on host {peer_id} ({host.range}) are not reached: {problem}"
            for peer_id, host in sorted(self._known.peers.items())
            if (problem := self._problem(peer_id, host))
        ]

    def _problem(self, peer_id: str, host: FleetHost) -> str:
        return (
            self._wanted.left_out.get(peer_id)
            or self._failing.get(host.range)
            or self._failing.get(host.public_key)
            or ""
        )

    async def peers(self) -> list[FleetPeerView]:
        """Return the other hosts, by range.

        Raises:
            NetworkFailure: the kernel did not answer.
        """
        states = await self._device.peers() if self._device is not None else {}
        views = []
        for peer_id, host in self._known.peers.items():
            through = states.get(host.public_key, PeerState())
            views.append(
                FleetPeerView(
                    id=peer_id,
                    range=host.range,
                    address=host.address,
                    driver=host.driver,
                    problem=self._problem(peer_id, host),
                    last_handshake=through.last_handshake,
                    rx_bytes=through.rx_bytes,
                    tx_bytes=through.tx_bytes,
                )
            )
        return sorted(views, key=lambda view: [part.zfill(3) for part in view.range.split(".")])

    async def remove(self) -> None:
        """Remove all that leads to other hosts. Idempotent.

        Raises:
            NetworkFailure: the kernel refused.
        """
        async with self._lock:
            self._written = None
            await clear(self._lane)


async def clear(lane: NetlinkLane) -> None:
    """Remove what any agent of this host has left in the kernel of the fleet. Idempotent.

    Raises:
        NetworkFailure: the kernel refused.
    """
    present = await routes.listed(lane, "")
    await routes.apply(lane, changes(present, {}), "")
    await routes.remove_device(lane)


def refuse_mtu(of_tasks: int, mtu: int) -> None:
    """Raise ``NetworkFailure`` if ``ECS_TASK_MTU`` is more than the tunnels leave; 0 is not set. Pure."""
    if of_tasks > mtu:
        raise NetworkFailure(
            f"ECS_TASK_MTU={of_tasks} is more than WireGuard leaves of a packet between hosts, {mtu} bytes; "
            "set it to that at most, or remove it"
        )


async def open_fleet(settings: FleetSettings, lane: NetlinkLane, mtu: int) -> FleetNetwork:
    """Return the part of this host, with its WireGuard device if it has one.

    Args:
        settings: the part of this host.
        lane: for netlink.
        mtu: of the device.

    Raises:
        NetworkFailure: the kernel lacks WireGuard, or another link has the name of the device.
    """
    if settings.driver != WIREGUARD:
        await routes.remove_device(lane)  # of an earlier setting
        return FleetNetwork(settings, lane, None)
    from agent.network.fleet.device import FleetDevice  # noqa: PLC0415 - only what is used

    device = FleetDevice(settings, lane, mtu)
    await device.ensure()
    return FleetNetwork(settings, lane, device)
