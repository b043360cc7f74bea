"""Ports: those that the agent or Amazon's agent would use, and those that tasks may be given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor import reading, sockets
from agent.doctor.findings import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config import Settings
    from agent.doctor.host import Host
    from agent.doctor.sockets import Listener

AMAZON_PORTS = {51678: "introspection", 51679: "credentials"}
"""What Amazon's agent listens on; a task may rely on nobody else doing so."""
_FEW = 200


async def check(host: Host) -> list[Finding]:
    """Look up who listens on the ports that matter."""
    settings = host.settings
    wanted = frozenset({*AMAZON_PORTS, settings.prometheus_port})
    found = await reading.blocking(lambda: sockets.listeners(host.root / "proc", wanted))
    text = await host.text("proc/sys/net/ipv4/ip_local_port_range")
    agent = await host.agent()
    return judge(settings, found, kernel_range=range_of(text), agent_pid=agent.pid)


def range_of(text: str) -> tuple[int, int] | None:
    """Return first and last port of a file of two numbers; None where it is not such a one."""
    numbers = [int(word) for word in text.split() if word.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def judge(
    settings: Settings,
    found: Sequence[Listener] | None,
    *,
    kernel_range: tuple[int, int] | None,
    agent_pid: int,
) -> list[Finding]:
    """Return the verdict on ports. Pure.

    Args:
        settings: the settings of this host.
        found: who listens on the ports that matter; None where the kernel does not tell.
        kernel_range: ports that the kernel gives to connections to the outside; None likewise.
        agent_pid: process of the agent that runs here; 0 where none does.
    """
    verdict = Verdict("ports")
    if found is None:
        verdict.unknown(
            "who listens on which port",
            "the kernel's tables cannot be read",
            "mount /proc",
            "ls /proc/net/tcp",
        )
    for one in found or ():
        who = f"{one.name} (process {one.pid})" if one.pid else "another process"
        if one.port == settings.prometheus_port:
            _judge_prometheus(verdict, settings, one, who, agent_pid)
        else:
            verdict.warn(
                f"{who} listens on port {one.port}, which is for {AMAZON_PORTS[one.port]} of "
                "Amazon's agent: that agent, or something in its place",
                "see what is told of other agents",
            )
    _judge_range(verdict, settings, kernel_range)
    return verdict.findings


def _judge_prometheus(
    verdict: Verdict, settings: Settings, one: Listener, who: str, agent_pid: int
) -> None:
    if not settings.prometheus:
        return
    if agent_pid and one.pid == agent_pid:
        verdict.ok(f"the agent serves Prometheus on port {one.port}")
        return
    verdict.error(
        f"{who} listens on port {one.port}, where the agent is to serve Prometheus",
        "set ECS_PROMETHEUS_PORT to a free port, or stop what listens there",
        f"ss -ltnp 'sport = :{one.port}'",
    )


def _judge_range(
    verdict: Verdict, settings: Settings, kernel_range: tuple[int, int] | None
) -> None:
    chosen = settings.dynamic_host_port_range or kernel_range
    if chosen is None:
        verdict.unknown(
            "which host ports are for mappings without a port of their own",
            "the kernel's range cannot be read",
            "set ECS_DYNAMIC_HOST_PORT_RANGE, for example to 32768-60999",
        )
        return
    first, last = chosen
    count = last - first + 1
    reserved = sorted(port for port in settings.reserved_ports if first <= port <= last)
    what = f"host ports {first}-{last} for mappings without a port of their own"
    setting = "ECS_DYNAMIC_HOST_PORT_RANGE"
    if count < _FEW:
        verdict.warn(
            f"only {count} {what}: tasks beyond that are refused",
            f"set {setting} to a wider range, for example 32768-60999",
        )
    elif settings.dynamic_host_port_range and first < 1024:
        verdict.warn(
            f"{what} include those of services such as SSH",
            f"let {setting} begin at 1024 or higher",
        )
    else:
        held = f"; {', '.join(map(str, reserved))} held back" if reserved else ""
        verdict.ok(f"{what}{held}")
