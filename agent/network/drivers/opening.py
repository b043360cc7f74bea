"""Makes the driver that the settings name; the modules of the others are not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import ConfigError, NetworkFailure
from agent.network.settings import DRIVER_SETTING

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Executor

    from agent.network.addresses import AddressPool
    from agent.network.bridge.links import HostLinks
    from agent.network.drivers.contract import TaskDriver
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.settings import NetworkSettings


WITH_PARENT: Final = ("macvlan", "ipvlan", "ipvlan-l3")
DRIVERS: Final = ("bridge", "routed", *WITH_PARENT)


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
    if name == "routed":
        from agent.network.drivers import routed  # noqa: PLC0415

        return await routed.open_routed(parts)
    if name in WITH_PARENT:
        from agent.network.drivers import children  # noqa: PLC0415

        return await children.open_children(parts)
    raise ConfigError(f"{DRIVER_SETTING}={name!r} is not one of {', '.join(DRIVERS)}")


def refuse_change(driver: str, claimed: Collection[SandboxRecord]) -> None:
    """Refuse another driver than the one by which living tasks have their addresses. Pure.

    Raises:
        NetworkFailure: one of these tasks has another driver; the text names both.
    """
    others = sorted({record.driver for record in claimed} - {driver})
    if others:
        raise NetworkFailure(
            f"{DRIVER_SETTING}={driver}, but tasks on this host still run with {', '.join(others)}; "
            "set it back, drain the host and wait until its tasks have stopped, and change it then"
        )
