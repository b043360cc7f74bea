"""Settings, and whether this is root: each problem in the configuration is a separate finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from agent.config import amazon
from agent.config.loader import IN_VAIN
from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList
from agent.model.resources import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.doctor.host import HostFacts


async def check(host: HostFacts) -> list[Finding]:
    """Check whether the settings are valid and whether this is root."""
    files = [*host.files, *([host.json_file] if host.json_file else [])]
    present = await reading.blocking(lambda: [path for path in files if _is_there(path)])
    return judge(
        problems=host.problems,
        warnings=host.settings.warnings,
        files=present,
        is_root=host.is_root,
        reserved_mib=host.settings.reserved_memory_mib,
        memory_mib=(await reading.blocking(psutil.virtual_memory)).total // MIB,
    )


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        reading.note_refusal(path, error)
        return False
    return True


def judge(
    *,
    problems: Sequence[str],
    warnings: Sequence[str],
    files: Sequence[Path],
    is_root: bool,
    reserved_mib: int = 0,
    memory_mib: int = 1,
) -> list[Finding]:
    """Return the verdict on the configuration. Pure."""
    verdict = FindingList("settings")
    for problem in problems:
        # Each line of the loader says where, what and, after a semicolon, how to fix it.
        seen, _, mend = problem.rpartition("; ")
        verdict.error(seen or mend, mend if seen else "fix the settings")
    if problems:
        verdict.warn(
            "the checks below ignore the invalid settings",
            "fix the settings and check again",
            "ecs-agent doctor",
        )
    for warning in warnings:
        verdict.warn(warning, _reasons(warning) or "fix the line, or leave it if it is intended")
    if reserved_mib >= memory_mib:
        verdict.error(
            f"ECS_RESERVED_MEMORY {reserved_mib} leaves nothing of this host's {memory_mib} MiB: "
            "the agent will not start",
            f"set it below {memory_mib}",
        )
    if not problems:
        where = ", ".join(str(path) for path in files)
        verdict.ok(f"read from {where}" if where else "there is no settings file; defaults apply")
    if not is_root:
        verdict.warn(
            "without root, much of this host cannot be checked, and the agent itself needs root",
            "run it as root",
            "sudo ecs-agent doctor",
        )
    return verdict.findings


def _reasons(warning: str) -> str:
    """Return why each setting of Amazon's agent has no effect here, if that is the warning."""
    if not warning.startswith(IN_VAIN):
        return ""
    table = amazon.rows()
    names = [name for name in warning.removeprefix(IN_VAIN).split(", ") if name in table]
    whys = [f"{name} ({table[name].how.rstrip('.')})" for name in names]
    return f"leave them if they are intended: {', '.join(whys)}" if whys else ""
