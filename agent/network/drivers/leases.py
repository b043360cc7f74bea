"""What drivers without a parent give tasks of IPv6, and whether the host can have it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.errors import NetworkFailure
from agent.network.address_pool import Ipv6Lease

if TYPE_CHECKING:
    from agent.network.address_pool import AddressPool
    from agent.network.drivers.opening import DriverParts

SMALLEST_MTU: Final = 1280
"""Of a link with IPv6, in bytes (RFC 8200)."""
SWITCHES: Final = Path("/proc/sys/net/ipv6/conf")


def lease_behind(pool: AddressPool, ipv4: str) -> Ipv6Lease | None:
    """Return an address whose every neighbour is behind the gateway, which is the host. Pure."""
    address = pool.ipv6_of(ipv4)
    return Ipv6Lease(address, 128, pool.ipv6_gateway) if address else None


async def refuse_without_ipv6(parts: DriverParts) -> None:
    """Refuse a pool of IPv6 on a host whose kernel has none, or whose links are not for it.

    Raises:
        NetworkFailure: it is so; the text says how to turn it on.
    """
    about = f"{parts.pool.ipv6_named}={parts.pool.ipv6_network}"
    mtu = parts.settings.mtu
    if 0 < mtu < SMALLEST_MTU:
        raise NetworkFailure(f"{about} needs an MTU of {SMALLEST_MTU}; raise ECS_TASK_MTU={mtu}")
    loop = asyncio.get_running_loop()
    problem = await loop.run_in_executor(parts.files, why_without_ipv6, SWITCHES)
    if problem:
        raise NetworkFailure(f"{about}: {problem}")


def why_without_ipv6(switches: Path) -> str:
    """Return why links of this host cannot have IPv6 addresses; empty if they can. Blocks."""
    for name in ("all", "default"):
        try:
            is_off = (switches / name / "disable_ipv6").read_text(encoding="ascii").strip() != "0"
        except OSError:
            return "this kernel has no IPv6; start it without ipv6.disable=1"
        if is_off:
            return f"IPv6 is off on this host; set net.ipv6.conf.{name}.disable_ipv6=0"
    return ""
