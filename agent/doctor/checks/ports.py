"""Ports: those that the agent or Amazon's agent would use, and those for tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor import reading, sockets
from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config import Settings
    from agent.doctor.host import HostFacts
    from agent.doctor.sockets import Listener

AMAZON_PORTS = {51678: "introspection", 51679: "credentials"}
"""Ports of Amazon's agent, where this agent listens, too."""
_FEW = 200


async def check(host: HostFacts) -> list[Finding]:
    """Find the listeners on the relevant ports."""
    settings = host.settings
    wanted = frozenset({*AMAZON_PORTS, settings.prometheus_port, settings.introspection_port})
    found = await reading.blocking(lambda: sockets.listeners(host.root / "proc", wanted))
    text = await host.text("proc/sys/net/ipv4/ip_local_port_range")
    agent = await host.agent()
    return judge(settings, found, kernel_range=range_of(text), agent_pid=agent.pid)


def range_of(text: str) -> tuple[int, int] | None:
    """Return the first and last port from a text of two numbers; None if it is something else."""
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
        found: the listeners on the relevant ports; None if the kernel does not say.
        kernel_range: the kernel's ports for outgoing connections; None if it does not say.
        agent_pid: process of the running agent; 0 if there is none.
    """
    verdict = FindingList("ports")
    if found is None:
        verdict.unknown(
            "which process listens on which port",
            "the kernel's tables cannot be read",
            "mount /proc",
            "ls /proc/net/tcp",
        )
    # IPv4 and IPv6 of one server are two listeners.
    for one in {(each.port, each.pid): each for each in found or ()}.values():
        who = f"{one.name} (process {one.pid})" if one.pid else "another process"
        if one.port == settings.prometheus_port:
            _judge_prometheus(verdict, settings, one, who, agent_pid)
        elif agent_pid and one.pid == agent_pid:
            verdict.ok(f"the agent listens on port {one.port}")
        elif one.port not in AMAZON_PORTS:
            _judge_introspection(verdict, settings, one, who)
        else:
            verdict.warn(
                f"{who} listens on port {one.port}, the {AMAZON_PORTS[one.port]} port of Amazon's "
                "agent: it may be that agent or a substitute",
                "see the findings about other agents",
            )
    _judge_range(verdict, settings, kernel_range)
    return verdict.findings


def _judge_prometheus(
    verdict: FindingList, settings: Settings, one: Listener, who: str, agent_pid: int
) -> None:
    if not settings.prometheus:
        return
    if agent_pid and one.pid == agent_pid:
        verdict.ok(f"the agent serves Prometheus on port {one.port}")
        return
    verdict.error(
        f"{who} listens on port {one.port}, which the agent needs for Prometheus",
        "set ECS_PROMETHEUS_PORT to a free port, or stop the other process",
        f"ss -ltnp 'sport = :{one.port}'",
    )


def _judge_introspection(verdict: FindingList, settings: Settings, one: Listener, who: str) -> None:
    verdict.error(
        f"{who} listens on port {one.port}, which the agent needs for introspection",
        "set ECS_INTROSPECTION_PORT to a free port, or stop the other process",
        f"ss -ltnp 'sport = :{one.port}'",
    )


def _judge_range(
    verdict: FindingList, settings: Settings, kernel_range: tuple[int, int] | None
) -> None:
    chosen = settings.dynamic_host_port_range or kernel_range
    if chosen is None:
        verdict.unknown(
            "which host ports are used for dynamic port mappings",
            "the kernel's range cannot be read",
            "set ECS_DYNAMIC_HOST_PORT_RANGE, for example to 32768-60999",
        )
        return
    first, last = chosen
    count = last - first + 1
    reserved = sorted(port for port in settings.reserved_ports if first <= port <= last)
    what = f"host ports {first}-{last} for dynamic port mappings"
    setting = "ECS_DYNAMIC_HOST_PORT_RANGE"
    if count < _FEW:
        verdict.warn(
            f"only {count} {what}: tasks that need more are refused",
            f"set {setting} to a wider range, for example 32768-60999",
        )
    elif settings.dynamic_host_port_range and first < 1024:
        verdict.warn(
            f"{what} include ports of services such as SSH",
            f"start {setting} at 1024 or higher",
        )
    else:
        held = f"; {', '.join(map(str, reserved))} reserved" if reserved else ""
        verdict.ok(f"{what}{held}")
