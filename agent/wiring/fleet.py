"""The part of this host in the network between hosts, as the daemon starts it.

Where ``ECS_FLEET_NETWORK`` is not set, ``agent.network.fleet`` is not loaded, except once on a host where
it was set before: to remove what is left of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import NetworkFailure
from agent.network.settings import FleetSettings

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.model.fleet import FleetUpdate
    from agent.state import StateStore
    from agent.supervision.lifecycle import ServeSession

_KEY: Final = "fleetRange"
"""``network.fleet.own_range.KEY``, without loading it."""

_log = structlog.get_logger(__name__)


async def fleet_settings(settings: Settings, store: StateStore) -> FleetSettings | None:
    """Return the part of this host; None if it takes none.

    Raises:
        StateFailure: the store cannot be read.
    """
    if settings.fleet_network:
        from agent.network.fleet import own_range  # noqa: PLC0415 - only what is used

        own = await own_range.read(store)
        return FleetSettings(
            driver=settings.fleet_network, range=own.range, fleet_range=own.fleet_range
        )
    if await store.get_meta(_KEY):
        await _clear(store)
    return None


async def _clear(store: StateStore) -> None:
    """Remove what an agent with another setting left in the kernel; failures are only logged."""
    from agent.network.fleet import fleet, own_range  # noqa: PLC0415 - as above
    from agent.network.kernel.netlink import NetlinkLane  # noqa: PLC0415

    try:
        lane = await NetlinkLane.open()
        try:
            await fleet.clear(lane)
        finally:
            await lane.close()
        await own_range.forget(store)
    except NetworkFailure as error:
        _log.warning("the way to other hosts not removed", error=str(error))


async def settle_range(
    update: FleetUpdate,
    *,
    used: FleetSettings | None,
    store: StateStore,
    serve_session: ServeSession,
) -> None:
    """Return if the range in an update is the one in use; else begin a session with it, and never return.

    The caller holds orders, which must not be taken with the addresses of before: they come again.

    Raises:
        NetworkFailure: tasks cannot have addresses of that range.
        StateFailure: it could not be kept.
    """
    if used is None:
        return
    from agent.network.fleet import own_range  # noqa: PLC0415 - as above

    given = own_range.of(update)
    if given == (used.range, used.fleet_range):
        return
    await own_range.keep(store, given)
    _log.info("control gave this host a range for its tasks", range=given.range, was=used.range)
    serve_session.begin_again()
    await asyncio.Event().wait()
