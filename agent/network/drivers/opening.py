"""Makes the driver that the settings name; the modules of the others are not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.errors import ConfigError
from agent.network.settings import DRIVER_SETTING

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from agent.network.addresses import AddressPool
    from agent.network.bridge.links import HostLinks
    from agent.network.drivers.contract import TaskDriver
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.settings import NetworkSettings


class DriverParts(NamedTuple):
    """What every driver is made of."""

    settings: NetworkSettings
    lane: NetlinkLane
    links: HostLinks
    pool: AddressPool
    files: Executor
    """Threads for blocking work."""


async def open_driver(parts: DriverParts) -> TaskDriver:
    """Return the driver of ``ECS_TASK_NETWORK_DRIVER``; nothing is changed before its ``ensure``.

    Raises:
        ConfigError: there is no such driver.
        NetworkFailure: the kernel lacks it, its parent is missing or does not fit the pool, or the
            pool overlaps another network of the host.
    """
    name = parts.settings.driver
    if name == "bridge":
        from agent.network.bridge import driver as bridge  # noqa: PLC0415 - only what is used

        return await bridge.open_bridge(parts)
    raise ConfigError(f"{DRIVER_SETTING}={name!r} is not one of bridge")
