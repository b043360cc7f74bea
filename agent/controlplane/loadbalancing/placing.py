"""Where a target is reached, and how its record changes. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.loadbalancing.balancer_records import TargetRecord
    from agent.controlplane.records import InstanceRecord, TaskRecord
    from agent.model.task import NetworkBinding

HOST_ADDRESS: Final = "ecs-host-agent.address"
"""Attribute of hosts: the address under which other machines reach them."""
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - what a container is bound to


def registered(target: TargetRecord, now: float) -> TargetRecord:
    """Return a target that is registered now, whatever it was."""
    return replace(target, registered_at=now, drains_until=0.0)


def draining(target: TargetRecord, until: float) -> TargetRecord:
    """Return a target that is deregistered, if it is not already; ``until`` are Unix seconds."""
    return target if target.drains_until else replace(target, drains_until=until)


def host_address(instance: InstanceRecord) -> str:
    """Return the address of a host; empty if it has told none."""
    told = instance.attribute_values.get(HOST_ADDRESS) or ""
    return told if _HOST.fullmatch(told) else ""


def task_address(task: TaskRecord) -> str:
    """Return the IPv4 address of a task in ``awsvpc`` mode; empty while it has none."""
    told = [
        interface.private_ipv4_address
        for container in task.containers
        for interface in container.network_interfaces
    ]
    # With Amazon's wire, only the attachment has it.
    told += [each.details.get("privateIPv4Address", "") for each in task.attachments]
    return next((address for address in told if address), "")


def published(
    bindings: Sequence[NetworkBinding], container_port: int, host: str
) -> tuple[str, int] | None:
    """Return the address and port at which a container's TCP port is reached on its host.

    Args:
        bindings: those of the container.
        container_port: which port.
        host: the address of the host.
    """
    for binding in bindings:
        port = _host_port(binding, container_port)
        if port is not None:
            return (host if binding.bind_ip in _ANY_ADDRESS else binding.bind_ip), port
    return None


def _host_port(binding: NetworkBinding, port: int) -> int | None:
    """Return the host's port of a container's port; None if the binding is of another one."""
    if binding.protocol != "tcp":
        return None
    if binding.container_port == port:
        return binding.host_port
    first, _, last = (binding.container_port_range or "").partition("-")
    start, _, _ = (binding.host_port_range or "").partition("-")
    if first.isdigit() and last.isdigit() and start.isdigit() and int(first) <= port <= int(last):
        return int(start) + port - int(first)
    return None
