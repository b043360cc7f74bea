"""The way to tasks on other hosts: what control says of peers, put into the kernel and kept there.

Belongs to one event loop. Nothing waits for peers: a task starts before its host knows any.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.model.network_views import FleetPeerView
from agent.network.fleet import routes
from agent.network.fleet.known import KnownFleet
from agent.network.fleet.wanted import Wanted, changes, damage, wanted

if TYPE_CHECKING:
    from agent.model.fleet import FleetUpdate
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.settings import FleetSettings

_log = structlog.get_logger(__name__)


class FleetNetwork:
    """The part of one host in the network between hosts."""

    def __init__(self, settings: FleetSettings, lane: NetlinkLane) -> None:
        """Take the parts; nothing is changed before ``take`` or ``repair``."""
        self._settings = settings
        self._lane = lane
        self._known = KnownFleet(range=settings.range, fleet_range=settings.fleet_range)
        self._written: dict[str, str] | None = None
        """The routes that the kernel has as far as we know; None if unknown."""
        self._failing: dict[str, str] = {}
        """By network: why there is no route."""
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
            await self._write(self._written)
        if not told:
            _log.info("hosts of the fleet known", count=len(known.peers), own=known.range)

    async def repair(self) -> list[str]:
        """Restore what others changed; return it in words. What failed before is tried again.

        Raises:
            NetworkFailure: the kernel refused; the next call tries again.
        """
        async with self._lock:
            present = await routes.listed(self._lane)
            found = damage(present, self._written) if self._written is not None else []
            await self._write(present)
        return found

    async def differences(self) -> list[str]:
        """Return in words what ``repair`` would restore; changes nothing.

        Raises:
            NetworkFailure: the kernel did not answer.
        """
        async with self._lock:
            if self._written is None:
                return []
            return damage(await routes.listed(self._lane), self._written)

    async def _write(self, present: dict[str, str] | None) -> None:
        """Bring the kernel from the routes that it has to those that are wanted."""
        self._written = None
        if present is None:
            present = await routes.listed(self._lane)
        needed = self._wanted().routes
        if not self._known.is_told:
            # An earlier process left ways to peers, which may be right: control will say.
            needed = present | needed
        change = changes(present, needed)
        failing = await routes.apply(self._lane, change) if change else {}
        if failing and failing != self._failing:
            network, why = next(iter(failing.items()))
            _log.warning(
                "hosts of the fleet not reached", count=len(failing), range=network, why=why
            )
        self._failing = failing
        self._written = {net: via for net, via in needed.items() if net not in failing}

    def _wanted(self) -> Wanted:
        return wanted(self._known, self._settings.driver)

    @property
    def problems(self) -> list[str]:
        """One sentence per host that cannot be reached; empty if all can."""
        return [
            f"tasks on host {view.id} ({view.range}) are not reached: {view.problem}"
            for view in self.peers()
            if view.problem
        ]

    def peers(self) -> list[FleetPeerView]:
        """Return the other hosts, by range."""
        left_out = self._wanted().left_out
        views = [
            FleetPeerView(
                id=peer_id,
                range=host.range,
                address=host.address,
                driver=host.driver,
                problem=left_out.get(peer_id, "") or self._failing.get(host.range, ""),
            )
            for peer_id, host in self._known.peers.items()
        ]
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
    present = await routes.listed(lane)
    await routes.apply(lane, changes(present, {}))
