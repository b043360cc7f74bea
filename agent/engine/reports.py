"""The parts of a record that are worth reporting, and the report itself. Pure."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from agent.engine import shared_network
from agent.model import ids
from agent.model import payload as payloads
from agent.model.changes import AttachmentChange, ContainerChange, NetworkInterface, TaskChange
from agent.model.status import ContainerStatus, TaskStatus
from agent.model.wire import HeldTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.engine.live import LiveState
    from agent.model.task import AgentContainer, AgentTask


class ReportContent(NamedTuple):
    """Everything whose change is reported to control; equal signatures need no report."""

    urgent: tuple[object, ...]
    """Changes that control must learn of at once."""
    other: tuple[object, ...]
    """Changes that may be sent with the next report, if that comes soon."""


def signature(record: AgentTask, live: LiveState) -> ReportContent:
    """Return the signature of a task in its current state."""
    containers = record.containers.values()
    return ReportContent(
        urgent=(
            record.known.wire(),
            bool(record.stopping_at) and not record.stop_ordered,
            *((c.known.wire(), c.exit_code, c.health, c.restart_count) for c in containers),
            *(_trouble(c, live) for c in containers),
        ),
        other=tuple(c.image_digest for c in containers),
    )


def _trouble(container: AgentContainer, live: LiveState) -> str:
    """Return the retried failure for which a container has not started yet.

    Not part of the record, because it may pass; it does not become the container's reason.
    """
    pending = container.known < ContainerStatus.RUNNING
    return live.trouble(container.name) if pending else ""


def change_of(
    record: AgentTask,
    live: LiveState,
    now: float,
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
) -> TaskChange:
    """Return the report of a task in its current state."""
    return TaskChange(
        id=new_id(),
        task_arn=record.arn,
        status=record.known.wire(),
        at=now,
        reason=record.reason,
        stop_code=record.stop_code,
        pull_started_at=record.pull_started_at,
        pull_stopped_at=record.pull_stopped_at,
        started_at=record.started_at,
        stopping_at=record.stopping_at,
        execution_stopped_at=record.execution_stopped_at,
        stopped_at=record.stopped_at,
        containers=[_container(record, c, live) for c in record.containers.values()],
        attachments=_attachments(record),
    )


def held(record: AgentTask, live: LiveState, now: float) -> HeldTask:
    """Return a task, with order and state, for a control that may have forgotten it."""
    payload = replace(record.payload, desired_status=record.desired)
    return HeldTask(
        payload=msgspec.Raw(payloads.encode(payload)), change=change_of(record, live, now)
    )


def rejected(task_arn: str, reason: str, now: float, stop_code: str) -> TaskChange:
    """Return the report of a task that has no record."""
    return TaskChange(
        id=uuid.uuid4().hex,
        task_arn=task_arn,
        status=TaskStatus.STOPPED.wire(),
        at=now,
        reason=reason,
        stop_code=stop_code,
        stopped_at=now,
    )


def _container(record: AgentTask, container: AgentContainer, live: LiveState) -> ContainerChange:
    definition = record.payload.container(container.name)
    running = container.known is ContainerStatus.RUNNING
    interfaces = []
    if record.network is not None and not (
        definition and shared_network.has_no_network(definition)
    ):
        interfaces = [
            NetworkInterface(
                attachment_id=record.network.attachment_id,
                private_ipv4_address=record.network.ipv4,
                ipv6_address=record.network.ipv6,
            )
        ]
    return ContainerChange(
        container_name=container.name,
        container_arn=definition.container_arn if definition else "",
        status=container.known.wire(),
        runtime_id=container.runtime_id[:255],
        image_digest=container.image_digest[:255],
        exit_code=container.exit_code,
        reason=container.reason or _trouble(container, live),
        health_status=container.health,
        restart_count=container.restart_count,
        network_bindings=container.bindings if running else [],
        network_interfaces=interfaces,
    )


def _attachments(record: AgentTask) -> list[AttachmentChange]:
    network = record.network
    if network is None:
        return []
    return [
        AttachmentChange(
            id=network.attachment_id,
            status="ATTACHED" if record.network_held else "DELETED",
            details={
                name: value
                for name, value in {
                    "networkInterfaceId": network.eni.eni_id
                    if network.eni is not None
                    else ids.interface_id(network.attachment_id),
                    "macAddress": network.mac,
                    "privateDnsName": network.hostname,
                    "privateIPv4Address": network.ipv4,
                    "privateIPv6Address": network.ipv6,
                }.items()
                if value
            },
        )
    ]
