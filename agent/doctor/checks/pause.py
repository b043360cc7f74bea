"""The pause image, which holds a task's network: available for this machine, and loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList
from agent.errors import ConfigError
from agent.resources.inventory import architecture_name
from agent.runtime.pause import pause_reference

if TYPE_CHECKING:
    from agent.doctor.host import HostFacts


async def check(host: HostFacts) -> list[Finding]:
    """Ask the engine for the image that this version of the agent uses."""
    machine = architecture_name(os.uname().machine)
    try:
        reference = await reading.blocking(lambda: pause_reference(machine))
    except ConfigError as error:
        return judge(machine, "", loaded=None, unsupported=str(error))
    engine = await host.engine()
    loaded = None if engine.trouble else await _loaded(host.engine_socket, reference)
    return judge(machine, reference, loaded=loaded)


async def _loaded(socket_path: str, reference: str) -> bool | None:
    """Tell whether the engine has the image; None if it does not say."""
    try:
        await reading.get(socket_path, f"/images/{reference}/json")
    except ValueError as error:
        return False if "answered 404" in str(error) else None
    except (OSError, TimeoutError):
        return None
    return True


def judge(
    machine: str, reference: str, *, loaded: bool | None, unsupported: str = ""
) -> list[Finding]:
    """Return the verdict on the image. Pure."""
    verdict = FindingList("pause")
    if unsupported:
        verdict.error(f"{unsupported}; this host is {machine}", "use a host with x86_64 or arm64")
    elif loaded:
        verdict.ok(f"{reference} is loaded")
    elif loaded is None:
        verdict.warn(
            f"whether {reference} is loaded is not known, because the engine does not say",
            "fix the findings about docker first",
        )
    else:
        verdict.ok(f"{reference} is included for {machine}; the agent loads it when it starts")
    return verdict.findings
