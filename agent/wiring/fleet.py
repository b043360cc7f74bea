"""The part of this host in the network between hosts, as the daemon starts it.

Where ``ECS_FLEET_NETWORK`` is not set, ``agent.network.fleet`` is not loaded, except once on a host where
it was set before: to remove what is left of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from agent.errors import NetworkFailure
from agent.model.fleet import WIREGUARD
from agent.network.settings import FleetSettings
from agent.resources import host_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Settings
    from agent.model.fleet import FleetUpdate
    from agent.state import StateStore
    from agent.supervision.lifecycle import ServeSession

_KEY: Final = "fleetRange"
"""``network.fleet.own_range.KEY``, without loading it."""

_ROTATE_AGAIN_S: Final = 60.0

_log = structlog.get_logger(__name__)


async def fleet_settings(settings: Settings, store: StateStore) -> FleetSettings | None:
    """Return the part of this host; None if it takes none.

    Raises:
        NetworkFailure: the key of this host cannot be kept.
        StateFailure: the store cannot be read.
    """
    if settings.fleet_network:
        from agent.network.fleet import own_ipv6, own_range  # noqa: PLC0415 - only what is used

        own = await own_range.read(store)
        address = settings.host_ipv6_address or host_address.find_ipv6()
        problem = await asyncio.to_thread(
            own_ipv6.why_none, settings.fleet_network, settings.task_mtu, address
        )
        ipv6_only = not settings.task_pool_cidr
        made = FleetSettings(
            driver=settings.fleet_network,
            range="" if ipv6_only else own.range,
            fleet_range="" if ipv6_only else own.fleet_range,
            ipv6_range=own.ipv6_range,
            ipv6_fleet_range=own.ipv6_fleet_range,
            ipv6_only=ipv6_only,
            ipv6_address=address,
            ipv6_problem=problem,
        )
        return await _with_key(made, settings) if made.driver == WIREGUARD else made
    if await store.get_meta(_KEY):
        await _clear(store)
    return None


async def _with_key(made: FleetSettings, settings: Settings) -> FleetSettings:
    from agent.network.fleet import keys  # noqa: PLC0415 - only what is used

    key = await asyncio.to_thread(keys.load, settings.data_dir)
    return msgspec.structs.replace(
        made,
        port=settings.fleet_port,
        private_key=key.private,
        public_key=key.public,
    )


async def rotate_key(settings: Settings, serve_session: ServeSession) -> None:
    """Make a new key when the one of this host is too old, and begin a session with it; until cancelled.

    That session registers with the new public key, which control tells the others at once.
    """
    if settings.fleet_network != WIREGUARD or not settings.fleet_key_rotation_s:
        return
    from agent.network.fleet import keys  # noqa: PLC0415 - as above

    while True:
        age_s = await asyncio.to_thread(keys.age_s, settings.data_dir)
        await asyncio.sleep(max(0.0, settings.fleet_key_rotation_s - age_s))
        try:
            await asyncio.to_thread(keys.replace, settings.data_dir)
        except NetworkFailure as error:
            _log.error("the key of this host not replaced", error=str(error))
            await asyncio.sleep(_ROTATE_AGAIN_S)
            continue
        _log.info("the WireGuard key of this host was replaced")
        serve_session.begin_again()
        await asyncio.Event().wait()


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
    has_ipv6_tasks: Callable[[], bool],
    store: StateStore,
    serve_session: ServeSession,
) -> None:
    """Return if the ranges in an update are those in use; else begin a session with them, and never return.

    The caller holds orders, which must not be taken with the addresses of before: they come again. But while
    tasks with IPv6 run, neither range can change, and those in use stay: ``network.fleet`` says what is not
    reached then.

    Raises:
        NetworkFailure: tasks cannot have addresses of that range.
        StateFailure: it could not be kept.
    """
    if used is None:
        return
    from agent.network.fleet import own_range  # noqa: PLC0415 - as above

    given = own_range.of(update, ipv6_only=used.ipv6_only)
    in_use = (used.range, used.fleet_range, used.ipv6_range, used.ipv6_fleet_range)
    if given == in_use or has_ipv6_tasks():
        return
    await own_range.keep(store, given)
    _log.info(
        "control gave this host a range for its tasks",
        range=f"{given.range} {given.ipv6_range}".strip(),
        was=f"{used.range} {used.ipv6_range}".strip(),
    )
    serve_session.begin_again()
    await asyncio.Event().wait()
