"""What a task takes of its host, counted from its definition as its agent counts it. Pure.

The agent counts from the payload (``model.resources.needs_of``); a test holds the two together, so
that a host that was chosen by this count has room by that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.definition.payload import network_mode, port_mappings
from agent.model.resources import Needs

if TYPE_CHECKING:
    from collections.abc import Mapping


def needs_of(body: Mapping[str, Any]) -> Needs:
    """Return CPU, memory and fixed host ports of one copy of a task; GPUs are chosen later.

    Args:
        body: the definition with the overrides applied (``overrides.effective``).
    """
    containers = body["containerDefinitions"]
    ports = _fixed_ports(containers, network_mode(body))
    return Needs(
        cpu_units=int(body["cpu"] or 0) or sum(c.get("cpu") or 0 for c in containers),
        memory_mib=int(body["memory"] or 0) or sum(_memory_mib(c) for c in containers),
        tcp_ports=frozenset(port for port, protocol in ports if protocol == "tcp"),
        udp_ports=frozenset(port for port, protocol in ports if protocol == "udp"),
    )


def _fixed_ports(containers: list[Mapping[str, Any]], mode: str) -> list[tuple[int, str]]:
    if mode == "awsvpc":
        return []  # the task has an address of its own
    return [
        (mapping.host_port, mapping.protocol or "tcp")
        for container in containers
        for mapping in port_mappings(container, mode)
        if mapping.host_port
    ]


def _memory_mib(container: Mapping[str, Any]) -> int:
    return container.get("memoryReservation") or container.get("memory") or 0
