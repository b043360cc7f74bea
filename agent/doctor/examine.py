"""Runs all checks of a host side by side and puts their findings together.

Each check has a deadline of its own. One that passes it, or fails in a way nobody thought of, is
told as a warning that it could not be made; the others are not touched by it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from agent import __version__
from agent.doctor import reading
from agent.doctor.checks import (
    cgroups,
    clock,
    control,
    credentials,
    disk,
    docker,
    forwarding,
    gpu,
    kernel,
    managers,
    pause,
    ports,
    resolvers,
    rivals,
    service,
    settings,
)
from agent.doctor.findings import Finding, Level, Report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.doctor.host import Host


class Check(NamedTuple):
    """One check as it is run."""

    name: str
    run: Callable[[Host], Awaitable[list[Finding]]]
    limit_s: float = 25.0
    """Somewhat above the deadlines of what it asks one after the other, on a slow host."""
    slow: bool = False
    """Takes longer than a moment or asks others over the network; ``--quick`` leaves it out."""


CHECKS: tuple[Check, ...] = (
    Check("settings", settings.check),
    Check("credentials", credentials.check),
    Check("kernel", kernel.check, limit_s=45.0, slow=True),
    Check("cgroups", cgroups.check),
    Check("docker", docker.check),
    Check("pause", pause.check),
    Check("disk", disk.check),
    Check("clock", clock.check),
    Check("ports", ports.check),
    Check("forwarding", forwarding.check),
    Check("dns", resolvers.check, slow=True),
    Check("managers", managers.check),
    Check("gpu", gpu.check, limit_s=30.0, slow=True),
    Check("rivals", rivals.check),
    Check("control", control.check, limit_s=45.0, slow=True),
    Check("service", service.check),
)
"""In the order in which they are told: what the agent stands on first."""


async def examine(host: Host, *, quick: bool = False, checks: Sequence[Check] = CHECKS) -> Report:
    """Run the checks and return what they found, in the order of the table.

    Args:
        host: what is looked at.
        quick: leave out what takes longer than a moment.
        checks: which to run.
    """
    at = time.time()
    chosen = [check for check in checks if not (quick and check.slow)]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_patiently(check, host)) for check in chosen]
    findings = [finding for task in running for finding in task.result()]
    levels = [finding.level for finding in findings]
    return Report(
        hostname=socket.gethostname(),
        version=__version__,
        at=at,
        errors=levels.count(Level.ERROR),
        warnings=levels.count(Level.WARNING),
        findings=findings,
        left_out=[check.name for check in checks if check not in chosen],
    )


async def _patiently(check: Check, host: Host) -> list[Finding]:
    try:
        async with asyncio.timeout(check.limit_s):
            with reading.noting_refusals() as refused:
                findings = await check.run(host)
            return [*findings, *_unread(check, refused, host)]
    except TimeoutError:
        seen = f"could not be checked within {check.limit_s:g} s: something on this host hangs"
        mend = "look at the kernel's messages, and try again"
        return [_unmade(check, seen, mend, "dmesg | tail -n 50")]
    except Exception as error:  # noqa: BLE001 - one check must not take the others down
        seen = f"could not be checked: {type(error).__name__}: {error}"
        mend = "report it together with the archive that this command writes"
        return [_unmade(check, seen, mend, "ecs-agent doctor --bundle")]


def _unread(check: Check, refused: Sequence[str], host: Host) -> list[Finding]:
    """Tell what the check could not read; the verdicts above took it for empty."""
    if not refused:
        return []
    seen = f"could not be read: {', '.join(refused)}; what is in there was not looked at"
    if host.is_root:
        mend, command = "see why not even root may read it, and try again", "dmesg | tail -n 50"
    else:
        mend, command = "run it as root", "sudo ecs-agent doctor"
    return [Finding(check=check.name, level=Level.WARNING, seen=seen, mend=mend, command=command)]


def _unmade(check: Check, seen: str, mend: str, command: str) -> Finding:
    return Finding(check=check.name, level=Level.WARNING, seen=seen, mend=mend, command=command)
