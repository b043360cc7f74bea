"""What a task needs on its host, computed from its definition as its agent computes it. Pure.

The agent computes it from the payload (``model.resources.needs_of``). A test checks that both give
the same result, so that a host that is chosen here also has room according to its agent.
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
        body: the definition with overrides applied (``overrides.effective``).
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
        return []  # the task has its own address
    return [
        (mapping.host_port, mapping.protocol or "tcp")
        for container in containers
        for mapping in port_mappings(container, mode)
        if mapping.host_port
    ]


def _memory_mib(container: Mapping[str, Any]) -> int:
    return container.get("memoryReservation") or container.get("memory") or 0
