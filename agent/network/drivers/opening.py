"""Makes the driver that the settings name; the modules of the others are not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import ConfigError, NetworkFailure
from agent.network.settings import DRIVER_SETTING, IPV6_POOL_SETTING, POOL_SETTING

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Executor

    from agent.network.address_pool import AddressPool
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


def refuse_change(driver: str, claimed: Collection[SandboxRecord], pool: AddressPool) -> None:
    """Refuse another driver, or other IPv6, than that by which living tasks have their addresses. Pure.

    A pool of IPv4 may change while tasks run, but not that of their IPv6: the place of an address in
    the one is its place in the other.

    Raises:
        NetworkFailure: one of these tasks has something else; the text names both.
    """
    others = sorted({record.driver for record in claimed} - {driver})
    if others:
        raise NetworkFailure(
            f"{DRIVER_SETTING}={driver}, but tasks on this host still run with {', '.join(others)}; "
            "set it back, drain the host and wait until its tasks have stopped, and change it then"
        )
    for record in claimed:
        if record.ipv6 is not None and record.ipv6.address != pool.ipv6_of(record.ipv4):
            raise NetworkFailure(
                f"a task on this host still runs with {record.ipv6.address}, which is not from "
                f"{pool.shown}; set {POOL_SETTING} and {IPV6_POOL_SETTING} back, drain the host and "
                "wait until its tasks have stopped, and change them then"
            )
