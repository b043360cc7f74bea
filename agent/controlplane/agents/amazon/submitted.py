"""Submit* requests of an agent: converts them to a ``TaskChange``. Pure.

A request has only what is new: containers that it does not name stay unchanged, and health only comes by
TCS. The id of the change is a digest of the request, so that a repeated request is a repeated change.
Times that the agent does not send (a task runs, or stopped) are the time of arrival.

Beyond Amazon's model, and only from our own agents: ``networkInterfaces`` of a container, ``type`` and
``details`` of an attachment. They are read from the original request, part by part; a part that cannot
be read is left out.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/api/ecs/client`` and ``ecs-agent/api/ecs/statechange.go``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from agent.controlplane.agents.report_rules import DETAILS_MOST
from agent.controlplane.tasks import changes as task_changes
from agent.controlplane.tasks.changes import ENI
from agent.model.changes import AttachmentChange, ContainerChange, NetworkInterface, TaskChange
from agent.model.status import Health
from agent.model.task import NetworkBinding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.records import ContainerRecord, TaskRecord


def of_task(request: Mapping[str, Any], raw: Mapping[str, Any], now: float) -> TaskChange:
    """Return the change in a SubmitTaskStateChange request.

    Args:
        request: after the check by the ECS model.
        raw: the original request.
        now: Unix seconds of its arrival.
    """
    status = request.get("status", "")
    extras = {item.get("containerName"): item for item in _dicts(raw.get("containers"))}
    return TaskChange(
        id=_id("SubmitTaskStateChange", request),
        task_arn=request.get("task", ""),
        status=status,
        at=now,
        reason=request.get("reason", ""),
        pull_started_at=request.get("pullStartedAt", 0.0),
        pull_stopped_at=request.get("pullStoppedAt", 0.0),
        execution_stopped_at=request.get("executionStoppedAt", 0.0),
        stopped_at=now if status == "STOPPED" else 0.0,
        containers=[
            _container(item, extras.get(item.get("containerName"), {}))
            for item in request.get("containers", ())
        ],
        attachments=_attachments(request.get("attachments", ()), raw.get("attachments")),
    )


def of_container(request: Mapping[str, Any], now: float) -> TaskChange:
    """Return the change in a SubmitContainerStateChange request."""
    return TaskChange(
        id=_id("SubmitContainerStateChange", request),
        task_arn=request.get("task", ""),
        status="",
        at=now,
        containers=[_container(request, {})],
    )


def apply(task: TaskRecord, change: TaskChange) -> TaskRecord:
    """Return the record after a change; the same object if it has nothing new.

    Raises:
        OutOfBounds: no correct agent sends such a change (``report_rules``).
    """
    known = {container.name: container for container in task.containers}
    return task_changes.apply(
        task,
        replace(
            change,
            status=change.status or task.last_status,
            containers=[_filled(c, known.get(c.container_name)) for c in change.containers],
        ),
    )


def _filled(change: ContainerChange, known: ContainerRecord | None) -> ContainerChange:
    """Return a change, completed with known values that this protocol leaves out.

    The reason why a container does not start is sent again each time, for as long as it is true.
    """
    if known is None:
        return change
    same = change.status == known.last_status != "PENDING"
    return replace(
        change,
        health_status=Health(known.health_status),
        exit_code=known.exit_code if change.exit_code is None else change.exit_code,
        reason=change.reason or (known.reason if same else ""),
    )


def _id(operation: str, request: Mapping[str, Any]) -> str:
    words = msgspec.json.encode([operation, request], order="deterministic")
    return hashlib.sha256(words).hexdigest()[:32]


def _container(item: Mapping[str, Any], extra: Mapping[str, Any]) -> ContainerChange:
    return ContainerChange(
        container_name=item.get("containerName", ""),
        status=item.get("status", ""),
        runtime_id=item.get("runtimeId", "")[:255],
        image_digest=item.get("imageDigest", "")[:255],
        exit_code=item.get("exitCode"),
        reason=item.get("reason", ""),
        network_bindings=_bindings(item.get("networkBindings", [])),
        network_interfaces=list(_interfaces(extra.get("networkInterfaces"))),
    )


def _bindings(given: Iterable[Mapping[str, Any]]) -> list[NetworkBinding]:
    """Return the published ports; a port of 0 was not sent, because Go's zero values are omitted."""
    told = [{name: value for name, value in item.items() if value != 0} for item in given]
    return msgspec.convert(told, list[NetworkBinding])


def _interfaces(given: Any) -> Iterable[NetworkInterface]:
    for item in _dicts(given):
        try:
            yield msgspec.convert(item, NetworkInterface)
        except msgspec.ValidationError:
            continue


def _attachments(given: Iterable[Mapping[str, str]], raw: Any) -> list[AttachmentChange]:
    extras = {item.get("attachmentArn"): item for item in _dicts(raw)}
    changes = []
    for item in given:
        extra = extras.get(item["attachmentArn"], {})
        kind = extra.get("type")
        changes.append(
            AttachmentChange(
                id=item["attachmentArn"],
                status=item["status"],
                type=kind if isinstance(kind, str) else ENI,
                details=_details(extra.get("details")),
            )
        )
    return changes


def _details(given: Any) -> dict[str, str]:
    """Return details from a map or, as DescribeTasks shows them, from a list of names and values."""
    pairs = (
        given.items()
        if isinstance(given, dict)
        else [(item.get("name"), item.get("value")) for item in _dicts(given)]
    )
    texts = [(n, v) for n, v in pairs if isinstance(n, str) and isinstance(v, str)]
    return dict(texts[:DETAILS_MOST])


def _dicts(given: Any) -> list[dict[Any, Any]]:
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
