"""Where a target is reached, and how its record changes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from agent.controlplane.loadbalancing.balancer_records import TargetRecord
    from agent.controlplane.records import TaskRecord


def registered(target: TargetRecord, now: float) -> TargetRecord:
    """Return a target that is registered now, whatever it was."""
    return replace(target, registered_at=now, drains_until=0.0)


def draining(target: TargetRecord, until: float) -> TargetRecord:
    """Return a target that is deregistered, if it is not already; ``until`` are Unix seconds."""
    return target if target.drains_until else replace(target, drains_until=until)


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
