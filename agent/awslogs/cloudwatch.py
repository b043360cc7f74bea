"""Where the engine's log driver finds CloudWatch Logs, in places that its SDK does not know by itself.

Source: Amazon ECS agent 1.105.1, ``engine/docker_task_engine.go``: isolated regions, and the addresses for
IPv4 and IPv6 on hosts that have no way out by IPv4.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

_UNKNOWN_TO_DRIVERS: Final = ("us-iso", "eu-isoe-", "eusc-")
_PROC: Final = Path("/proc/net")
_UP: Final = 0x1
_GATEWAY: Final = 0x2


async def endpoint(region: str, proc: Path = _PROC) -> str:
    """Return the URL for the driver; empty where its SDK finds it by the region.

    Args:
        region: of the log group.
        proc: directory of the kernel's routes.
    """
    from agent.aws.places import service_url  # noqa: PLC0415 - only where logs go to AWS

    if region.startswith(_UNKNOWN_TO_DRIVERS):
        return str(service_url("logs", region))
    if await asyncio.to_thread(_is_ipv6_only, proc):
        return str(service_url("logs", region, dual_stack=True))
    return ""


def _is_ipv6_only(proc: Path) -> bool:
    """Tell whether a host has a default route by IPv6 and none by IPv4. Blocks."""
    try:
        ipv4 = (proc / "route").read_text(encoding="ascii").splitlines()[1:]
        ipv6 = (proc / "ipv6_route").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return False
    return any(map(_is_default_ipv6, ipv6)) and not any(map(_is_default_ipv4, ipv4))


def _is_default_ipv4(line: str) -> bool:
    fields = line.split()
    return len(fields) > 7 and fields[1] == fields[7] == "0" * 8 and bool(int(fields[3], 16) & _UP)


def _is_default_ipv6(line: str) -> bool:
    fields = line.split()
    if len(fields) < 10 or fields[0] != "0" * 32 or fields[1] != "00":
        return False
    flags = int(fields[8], 16)
    return bool(flags & _UP and flags & _GATEWAY)
