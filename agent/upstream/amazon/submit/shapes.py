"""Converts one report into one request to Amazon ECS. Pure.

::

    TaskChange with a status               ─► SubmitTaskStateChange
    TaskChange of attachments of a task    ─► SubmitTaskStateChange, the attach form
    TaskChange of attachments of the host  ─► SubmitAttachmentStateChanges

Absent values are left out, never sent as null. Source: Amazon ECS agent 1.105.1,
``ecs-agent/api/ecs/client`` and ``agent/api/statechange.go``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.model.status import ContainerStatus, TaskStatus

if TYPE_CHECKING:
    from agent.model.changes import (
        AttachmentChange,
        ContainerChange,
        ManagedAgentChange,
        NetworkInterface,
        TaskChange,
    )
    from agent.model.task import NetworkBinding

Request = dict[str, Any]

SUBMIT_TASK: Final = "SubmitTaskStateChange"
SUBMIT_ATTACHMENTS: Final = "SubmitAttachmentStateChanges"

REASON_BYTES: Final = 1024
ID_BYTES: Final = 255
"""Maximum length of a runtime id or image digest."""
RANGE_BINDINGS: Final = 100
"""Maximum bindings of a container with a port range; Amazon ECS accepts no more."""

_PENDING: Final = TaskStatus.CREATED.wire()
_CONTAINER_PENDING: Final = ContainerStatus.CREATED.wire()
_ATTACHED: Final = "ATTACHED"
_ANY_IPV6: Final = "::"


class EcsCall(NamedTuple):
    """One call of the ECS API."""

    operation: str
    request: Request


class ReportFormat(NamedTuple):
    """The form of a report, which depends on the receiver."""

    cluster: str
    """As configured: a name or an ARN."""
    exclude_ipv6: bool = True
    """Leave out bindings on ``::``, which repeat those on ``0.0.0.0``."""
    ours: bool = False
    """The receiver is our own control endpoint. It also gets addresses, which Amazon ECS knows
    because it attached the interfaces, and every container that has not started yet, with the
    reason."""


def call_of(change: TaskChange, wire: ReportFormat) -> EcsCall | None:
    """Return the call that sends a report, or None if it contains nothing of interest.

    A PENDING task is reported only with a container beyond PENDING, an image digest or a managed
    agent: Amazon ECS already treats every task that it ordered as pending.
    """
    if change.status:
        return _task_call(change, wire)
    attached = [_attached(a) for a in change.attachments if a.status == _ATTACHED]
    if not attached:
        return None
    if change.task_arn:
        request = {"cluster": wire.cluster, "task": change.task_arn, "attachments": attached}
        return EcsCall(SUBMIT_TASK, request)
    return EcsCall(SUBMIT_ATTACHMENTS, {"cluster": wire.cluster, "attachments": attached})


def cut(text: str, limit_bytes: int) -> str:
    """Return the start of a text that fits into that many bytes of UTF-8, whole characters only."""
    raw = text.encode("utf-8", "replace")
    return raw[:limit_bytes].decode("utf-8", "ignore")


def _task_call(change: TaskChange, wire: ReportFormat) -> EcsCall | None:
    containers = [_container(c, wire) for c in change.containers if _is_told(c, wire)]
    agents = [_agent(c.container_name, a) for c in change.containers for a in c.managed_agents]
    told_of_network = change.attachments if wire.ours else []
    if change.status == _PENDING and not (containers or agents or told_of_network):
        return None
    request: Request = {
        "cluster": wire.cluster,
        "task": change.task_arn,
        "status": change.status,
        "reason": cut(change.reason, REASON_BYTES),
    }
    times = {
        "pullStartedAt": change.pull_started_at,
        "pullStoppedAt": change.pull_stopped_at,
        "executionStoppedAt": change.execution_stopped_at,
    }
    request.update({name: round(at, 3) for name, at in times.items() if _is_time(at)})
    if containers:
        request["containers"] = containers
    if agents:
        request["managedAgents"] = agents
    if told_of_network:
        request["attachments"] = [_with_details(a) for a in told_of_network]
    return EcsCall(SUBMIT_TASK, request)


def _is_told(container: ContainerChange, wire: ReportFormat) -> bool:
    return wire.ours or container.status != _CONTAINER_PENDING or bool(container.image_digest)


def _is_time(at: float) -> bool:
    return math.isfinite(at) and at > 0


def _container(container: ContainerChange, wire: ReportFormat) -> Request:
    told: Request = {"containerName": container.container_name, "status": container.status}
    explained = wire.ours or container.status != _CONTAINER_PENDING
    texts = {
        "runtimeId": cut(container.runtime_id, ID_BYTES),
        "imageDigest": cut(container.image_digest, ID_BYTES),
        "reason": cut(container.reason, REASON_BYTES) if explained else "",
    }
    told.update({name: text for name, text in texts.items() if text})
    if container.exit_code is not None:
        told["exitCode"] = container.exit_code
    bindings = _bindings(container.network_bindings, wire)
    if bindings:
        told["networkBindings"] = bindings
    if wire.ours and container.network_interfaces:
        told["networkInterfaces"] = [
            {name: value for name, value in _interface(one).items() if value}
            for one in container.network_interfaces
        ]
    return told


def _interface(one: NetworkInterface) -> dict[str, str]:
    return {
        "attachmentId": one.attachment_id,
        "privateIpv4Address": one.private_ipv4_address,
        "ipv6Address": one.ipv6_address,
    }


def _bindings(bindings: list[NetworkBinding], wire: ReportFormat) -> list[Request]:
    """Return the bindings; extra ones are cut, because Amazon ECS would refuse the whole report."""
    kept = [b for b in bindings if not (wire.exclude_ipv6 and b.bind_ip == _ANY_IPV6)]
    if any(b.container_port_range for b in kept):
        kept = kept[:RANGE_BINDINGS]
    return [_binding(b) for b in kept]


def _binding(binding: NetworkBinding) -> Request:
    told: Request = {"bindIP": binding.bind_ip, "protocol": binding.protocol}
    if binding.container_port_range:
        told["containerPortRange"] = binding.container_port_range
        if binding.host_port_range:
            told["hostPortRange"] = binding.host_port_range
        return told
    if binding.container_port is not None:
        told["containerPort"] = binding.container_port
    if binding.host_port is not None:
        told["hostPort"] = binding.host_port
    return told


def _agent(container_name: str, agent: ManagedAgentChange) -> Request:
    return {
        "containerName": container_name,
        "managedAgentName": agent.name,
        "status": agent.status,
        "reason": cut(agent.reason, REASON_BYTES),
    }


def _attached(attachment: AttachmentChange) -> Request:
    return {"attachmentArn": attachment.id, "status": _ATTACHED}


def _with_details(attachment: AttachmentChange) -> Request:
    details = [{"name": name, "value": value} for name, value in attachment.details.items()]
    return {
        "attachmentArn": attachment.id,
        "status": attachment.status,
        "type": attachment.type,
        "details": details,
    }
