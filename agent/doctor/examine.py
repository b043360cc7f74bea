"""Runs all checks of a host concurrently and combines their findings.

Each check has its own deadline. A check that exceeds it, or fails in an unexpected way, gives a
warning that it could not be made; the others are not affected.
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
    firewalls,
    forwarding,
    gpu,
    host_policy,
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

    from agent.doctor.host import HostFacts


class Check(NamedTuple):
    """One check and how to run it."""

    name: str
    run: Callable[[HostFacts], Awaitable[list[Finding]]]
    limit_s: float = 25.0
    """Slightly more than the sum of the deadlines inside, for a slow host."""
    slow: bool = False
    """Takes more than a moment or uses the network; ``--quick`` skips it."""


CHECKS: tuple[Check, ...] = (
    Check("settings", settings.check),
    Check("credentials", credentials.check),
    Check("policy", host_policy.check),
    Check("kernel", kernel.check, limit_s=45.0, slow=True),
    Check("cgroups", cgroups.check),
    Check("docker", docker.check),
    Check("pause", pause.check),
    Check("disk", disk.check),
    Check("clock", clock.check),
    Check("ports", ports.check),
    Check("forwarding", forwarding.check),
    Check("firewalls", firewalls.check),
    Check("dns", resolvers.check, slow=True),
    Check("managers", managers.check),
    Check("gpu", gpu.check, limit_s=30.0, slow=True),
    Check("rivals", rivals.check),
    Check("control", control.check, limit_s=45.0, slow=True),
    Check("service", service.check),
)
"""In the order of the report: what the agent depends on comes first."""


async def examine(
    host: HostFacts, *, quick: bool = False, checks: Sequence[Check] = CHECKS
) -> Report:
    """Run the checks and return their findings, in the order of the table.

    Args:
        host: the host to check.
        quick: skip checks that take more than a moment.
        checks: the checks to run.
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


async def _patiently(check: Check, host: HostFacts) -> list[Finding]:
    try:
        async with asyncio.timeout(check.limit_s):
            with reading.noting_refusals() as refused:
                findings = await check.run(host)
            return [*findings, *_unread(check, refused, host)]
    except TimeoutError:
        seen = f"could not be checked within {check.limit_s:g} s: something on this host hangs"
        mend = "look at the kernel messages, and try again"
        return [_unmade(check, seen, mend, "dmesg | tail -n 50")]
    except Exception as error:  # noqa: BLE001 - one check must not affect the others
        seen = f"could not be checked: {type(error).__name__}: {error}"
        mend = "report it together with the archive that this command writes"
        return [_unmade(check, seen, mend, "ecs-agent doctor --bundle")]


def _unread(check: Check, refused: Sequence[str], host: HostFacts) -> list[Finding]:
    """Report what the check could not read; its verdicts treated that as empty."""
    if not refused:
        return []
    seen = f"could not be read: {', '.join(refused)}; the content was not checked"
    if host.is_root:
        mend, command = "find out why root cannot read it, and try again", "dmesg | tail -n 50"
    else:
        mend, command = "run it as root", "sudo ecs-agent doctor"
    return [Finding(check=check.name, level=Level.WARNING, seen=seen, mend=mend, command=command)]


def _unmade(check: Check, seen: str, mend: str, command: str) -> Finding:
    return Finding(check=check.name, level=Level.WARNING, seen=seen, mend=mend, command=command)
