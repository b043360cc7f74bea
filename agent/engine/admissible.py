"""Decides whether this agent can run a payload at all, as far as known before any step.

Pure. The text of the error becomes the task's reason; the task goes straight to STOPPED, and
nothing on the host is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine import graph, ports, static_address
from agent.engine.preparations import table as preparations
from agent.errors import PayloadError
from agent.images import logins
from agent.model import reasons, task
from agent.model.resources import needs_of
from agent.model.status import DesiredStatus, NetworkMode

if TYPE_CHECKING:
    from agent.engine.graph import Graph
    from agent.model.payload import Container, TaskPayload
    from agent.model.task import AgentTask
    from agent.resources.ledger import Ledger


def check(payload: TaskPayload) -> Graph:
    """Return the task's dependency graph.

    Raises:
        PayloadError: the dependencies have no valid order, a device is for an unknown container,
            a volume or feature is not supported, or the address asked for is invalid.
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
    static_address.asked_for(payload)
    if payload.memory:
        _check_memory(payload)
    return dependencies


def accept(
    payload: TaskPayload,
    ledger: Ledger,
    *,
    control_id: str,
    instance: str,
    now: float,
    refused: str = "",
) -> tuple[AgentTask, Graph]:
    """Return the record and the dependencies of a new task; stopped, with its reason, if it can never run.

    Args:
        payload: what control ordered.
        ledger: knows what the host has.
        control_id: id of the control.
        instance: ARN of this host's container instance there.
        now: wall time.
        refused: why the host's own policy refuses it; empty if it does not.
    """
    record = task.new_record(payload, origin=control_id, now=now, instance=instance)
    dependencies: Graph = dict.fromkeys(record.containers, ())
    try:
        dependencies = check(record.payload)
        impossible = refused or ledger.impossible(needs_of(record.payload))
    except PayloadError as error:
        impossible = str(error)
    if impossible:
        record.desired = DesiredStatus.STOPPED
        record.reason = reasons.clip(impossible)
        record.stop_code = "TaskFailedToStart"
    return record, dependencies


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
