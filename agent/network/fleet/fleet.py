"""The way to tasks on other hosts: what control says of peers, put into the kernel and kept there.

Belongs to one event loop. Nothing waits for peers: a task starts before its host knows any.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from agent.errors import NetworkFailure
from agent.model.fleet import WIREGUARD
from agent.model.network_views import FleetPeerView
from agent.network.fleet import routes
from agent.network.fleet.known import KnownFleet
from agent.network.fleet.peer_state import PeerState
from agent.network.fleet.routes import Sources
from agent.network.fleet.wanted import changes, damage, wanted

if TYPE_CHECKING:
    from agent.model.fleet import FleetHost, FleetUpdate
    from agent.network.fleet.device import FleetDevice
    from agent.network.fleet.wanted import Wanted
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
        self._sources = Sources(settings.gateway, settings.ipv6_gateway)
        self._known = KnownFleet(
            range=settings.range,
            fleet_range=settings.fleet_range,
            ipv6_range=settings.ipv6_range,
            ipv6_fleet_range=settings.ipv6_fleet_range,
        )
        self._wanted = self._ways()
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
            self._wanted = self._ways()
            await self._write(self._written)
        if not told:
            _log.info("hosts of the fleet known", count=len(known.peers), own=known.range)

    def _ways(self) -> Wanted:
        """Return the ways to what is known, by the versions of IP of which tasks here have what control says."""
        own, known = self._settings, self._known
        if own.range != known.range or own.fleet_range != known.fleet_range:
            known = replace(known, range="", fleet_range="")
        if own.ipv6_range != known.ipv6_range or own.ipv6_fleet_range != known.ipv6_fleet_range:
            known = replace(known, ipv6_range="", ipv6_fleet_range="")
        return wanted(known, own.driver, own.public_key)

    async def repair(self) -> list[str]:
        """Restore what others changed; return it in words. What failed before is tried again.

        Raises:
            NetworkFailure: the kernel refused; the next call tries again.
        """
        async with self._lock:
            found = await self._device.repair() if self._device is not None else []
            present = await routes.listed(self._lane, self._sources)
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
            return found + damage(await routes.listed(self._lane, self._sources), self._written)

    async def _write(self, present: dict[str, str] | None) -> None:
        """Bring the kernel from the routes that it has to those that are wanted."""
        self._written = None
        if present is None:
            present = await routes.listed(self._lane, self._sources)
        needed = self._wanted.routes
        failing: dict[str, str] = {}
        if not self._known.is_told:
            # An earlier process left ways to peers, which may be right: control will say.
            needed = present | needed
        elif self._device is not None:
            failing = await self._device.write(self._wanted.tunnels)
        change = changes(present, needed)
        refused = await routes.apply(self._lane, change, self._sources) if change else {}
        self._written = {net: via for net, via in needed.items() if net not in refused}
        failing |= refused
        if failing and failing != self._failing:
            which, why = next(iter(failing.items()))
            _log.warning("hosts of the fleet not reached", count=len(failing), first=which, why=why)
        self._failing = failing

    @property
    def problems(self) -> list[str]:
        """One sentence per host that cannot be reached, or what keeps tasks here from it; empty if all is well."""
        return self._own_problems() + [
            f"tasks on host {peer_id} ({host.range}) are not reached: {problem}"
            for peer_id, host in sorted(self._known.peers.items())
            if (problem := self._problem(peer_id, host))
        ]

    def _own_problems(self) -> list[str]:
        own, known = self._settings, self._known
        found = []
        for what, has, given in (
            ("", own.range, "" if own.ipv6_only else known.range),
            ("IPv6 ", own.ipv6_range, known.ipv6_range),
        ):
            if known.is_told and has != given and given:
                found.append(
                    f"control gave this host the {what}range {given}, which its tasks cannot have while tasks "
                    "with other IPv6 addresses run: drain the host, and restart the agent when they have stopped"
                )
        if known.ipv6_fleet_range and own.ipv6_problem:
            found.append(
                f"tasks here have no IPv6 addresses of {known.ipv6_fleet_range}: {own.ipv6_problem}"
            )
        return found

    def _problem(self, peer_id: str, host: FleetHost) -> str:
        return (
            self._wanted.left_out.get(peer_id)
            or self._failing.get(host.range)
            or self._failing.get(host.ipv6_range)
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
                    range="" if host.ipv6_only else host.range,
                    ipv6_range=host.ipv6_range,
                    address=host.address,
                    driver=host.driver,
                    problem=self._problem(peer_id, host),
                    last_handshake=through.last_handshake,
                    rx_bytes=through.rx_bytes,
                    tx_bytes=through.tx_bytes,
                )
            )
        return sorted(views, key=_place)

    async def remove(self) -> None:
        """Remove all that leads to other hosts. Idempotent.

        Raises:
            NetworkFailure: the kernel refused.
        """
        async with self._lock:
            self._written = None
            await clear(self._lane)


def _place(view: FleetPeerView) -> tuple[int, int]:
    network = ip_network(view.range or view.ipv6_range)
    return network.version, int(network.network_address)


async def clear(lane: NetlinkLane) -> None:
    """Remove what any agent of this host has left in the kernel of the fleet. Idempotent.

    Raises:
        NetworkFailure: the kernel refused.
    """
    present = await routes.listed(lane, Sources())
    await routes.apply(lane, changes(present, {}), Sources())
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
