"""Other agents on this host: each would use the whole host."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from agent.doctor import reading, sockets
from agent.doctor.checks.service import UNIT
from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from agent.doctor.host import HostFacts
    from agent.doctor.sockets import Process

_AMAZON_IMAGE = "amazon/amazon-ecs-agent"
_AMAZON_INIT = "usr/libexec/amazon-ecs-init"
_AMAZON_PROCESSES = frozenset({"amazon-ecs-init", "amazon-ecs-volum"})
_KUBELET = "kubelet"
_STOP_AMAZON = "systemctl disable --now ecs"


class Others(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about other agents."""

    amazon_installed: bool = False
    amazon_runs: str = ""
    """The evidence that it runs; empty if it does not."""
    ours: tuple[int, ...] = ()
    """Processes of ``ecs-agent run`` other than the one that answers."""
    kubelet: int = 0
    containers_unknown: str = ""
    """Why the engine's containers could not be listed; empty if they were."""
    processes_unknown: bool = False
    """No process was visible."""


async def check(host: HostFacts) -> list[Finding]:
    """Look for other agents among units, processes and containers."""
    found = await reading.blocking(lambda: sockets.processes(host.root / "proc"))
    init = host.root / _AMAZON_INIT
    amazon = [p for p in found if p.name in _AMAZON_PROCESSES and not p.in_container]
    containers = await _containers(host)
    return judge(
        Others(
            amazon_installed=await reading.blocking(init.exists),
            amazon_runs=(f"its process {amazon[0].pid}" if amazon else "")
            or amazon_container(containers if isinstance(containers, list) else []),
            containers_unknown="" if isinstance(containers, list) else containers,
            processes_unknown=not found,
            ours=others_of(found, {(await host.agent()).pid, await _main_pid()}),
            kubelet=next((p.pid for p in found if p.name == _KUBELET), 0),
        )
    )


async def _main_pid() -> int:
    """Return the process of the service, which may not listen yet; 0 if there is none."""
    answer = await reading.program("systemctl", "show", "--property=MainPID", "--value", UNIT)
    return int(answer.out) if answer.out.strip().isdigit() else 0


async def _containers(host: HostFacts) -> list[dict[str, Any]] | str:
    """Return the engine's running containers, or why they are unknown."""
    engine = await host.engine()
    if engine.trouble:
        # Without an engine, no container runs.
        return [] if engine.refused in {"missing", "stopped"} else engine.trouble
    try:
        rows = msgspec.json.decode(await reading.get(host.engine_socket, "/containers/json"))
    except (OSError, TimeoutError, ValueError) as error:
        return str(error) or "the engine does not answer"
    return rows if isinstance(rows, list) else "the engine's answer is not a list"


def amazon_container(rows: Sequence[dict[str, Any]]) -> str:
    """Return the evidence that Amazon's agent runs in a container; empty if it does not. Pure."""
    for row in rows:
        image = str(row.get("Image", ""))
        if _AMAZON_IMAGE in image:
            names = row.get("Names") or [str(row.get("Id", ""))[:12]]
            return f"its container {str(names[0]).lstrip('/')}"
    return ""


def others_of(processes: Sequence[Process], known: Container[int]) -> tuple[int, ...]:
    """Return the processes of this agent, except the known ones. Pure."""
    return tuple(
        process.pid
        for process in processes
        if process.pid not in known and not process.in_container and _is_agent(process.words)
    )


def _is_agent(words: Sequence[str]) -> bool:
    """Tell whether a command line is that of ``ecs-agent run``."""
    for at, word in enumerate(words[:6]):
        rest = words[at + 1 :]
        if PurePath(word).name == "ecs-agent" and rest[:1] == ("run",):
            return True
        if word == "agent" and words[at - 1] == "-m" and rest[:1] == ("run",):
            return True
        if word == "agent.cli.child" and rest[1:2] == ("run",):
            return True
    return False


def judge(found: Others) -> list[Finding]:
    """Return the verdict on other agents. Pure."""
    verdict = FindingList("rivals")
    if found.amazon_runs:
        verdict.error(
            f"Amazon's ECS agent runs here ({found.amazon_runs}): both agents offer the whole host",
            "stop it, or do not start this agent",
            _STOP_AMAZON,
        )
    elif found.amazon_installed:
        verdict.warn(
            "Amazon's ECS agent is installed: if started, it would offer the whole host too",
            "remove the package amazon-ecs-init, or keep its unit disabled",
            _STOP_AMAZON,
        )
    if found.ours:
        which = ", ".join(map(str, found.ours))
        verdict.warn(
            f"ecs-agent also runs as process {which}, with settings other than the checked ones: "
            "each agent offers the whole host",
            "stop one of them, unless each reserves the other's share",
            f"ps -fp {','.join(map(str, found.ours))}",
        )
    if found.kubelet:
        verdict.warn(
            f"Kubernetes runs here (kubelet, process {found.kubelet}): it offers the whole host "
            "too",
            "reserve memory for Kubernetes with ECS_RESERVED_MEMORY, or remove the host from it",
        )
    if found.processes_unknown:
        verdict.unknown(
            "which other agents run here",
            "no process is visible",
            "mount /proc",
            "ls /proc",
        )
    elif found.containers_unknown and not found.amazon_runs:
        verdict.unknown(
            "whether another agent runs in a container",
            found.containers_unknown,
            "fix the findings about docker first",
        )
    elif not verdict.findings:
        verdict.ok("no other agent")
    return verdict.findings
