"""Checks whether this agent can run a payload at all, as far as known before any step.

Pure. The text of the error becomes the task's reason; the task goes straight to STOPPED, and
nothing on the host is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine import graph, ports
from agent.engine.preparations import table as preparations
from agent.errors import PayloadError
from agent.images import logins
from agent.model import reasons
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from agent.engine.graph import Graph
    from agent.model.payload import Container, TaskPayload


def check(payload: TaskPayload) -> Graph:
    """Return the task's dependency graph.

    Raises:
        PayloadError: the dependencies have no valid order, a device is for an unknown container, or
            a volume or feature is not supported.
    """
    dependencies = graph.graph_of(payload)
    graph.check(payload, dependencies)
    for preparation in preparations.wanted(payload).values():
        preparation.check(payload)
    for association in payload.associations:
        _check_device(payload, association.name, association.containers)
    for container in payload.containers:
        ports.port_pairs(container)
        logins.check(container)
        _check_supported(payload, container)
    if payload.memory:
        _check_memory(payload)
    return dependencies


def _check_device(payload: TaskPayload, device: str, containers: list[str]) -> None:
    if len(containers) != 1:
        cause = f"device {device} must be given to exactly one container, not {len(containers)}"
        raise PayloadError(reasons.resource_unusable(payload.arn, cause))
    if payload.container(containers[0]) is None:
        cause = f"device {device} is given to unknown container {containers[0]}"
        raise PayloadError(reasons.resource_unusable(payload.arn, cause))


def _check_supported(payload: TaskPayload, container: Container) -> None:
    """Refuse settings that would otherwise be silently missing in the container."""
    if container.links and payload.mode is not NetworkMode.BRIDGE:
        cause = f"links of container {container.name}: the network mode is {payload.mode}"
        raise PayloadError(reasons.resource_unusable(payload.arn, cause))


def _check_memory(payload: TaskPayload) -> None:
    for container in payload.containers:
        if container.memory > payload.memory:
            cause = (
                f"container memory limit({container.memory}) greater than "
                f"task memory limit({payload.memory})"
            )
            raise PayloadError(reasons.resource_unusable(payload.arn, cause))
