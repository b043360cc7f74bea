"""The messages of the telemetry session, ready to be signed and sent. Pure.

::

    PublishMetricsRequest         at most 10 tasks and 1 MiB; the parts of a round share an id
    PublishHealthRequest          at most 10 tasks; only containers with a health check
    PublishInstanceStatusRequest  whether the container engine answers

Source: Amazon ECS agent 1.105.1, ``ecs-agent/tcs/client`` and ``ecs-agent/tcs/model``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.model.telemetry import ContainerFacts, TaskFacts
    from agent.upstream.amazon.tcs.sets import TaskMetric

TASKS_PER_MESSAGE: Final = 10
MESSAGE_BYTES: Final = 1024 * 1024
"""Maximum bytes of a request without its envelope."""

CONTAINER_RUNTIME: Final = "ContainerRuntime"

_encode = msgspec.json.Encoder().encode


class Round(NamedTuple):
    """What all messages of one round have in common."""

    cluster: str
    instance_arn: str
    id: str
    at: float
    """Unix seconds."""

    def metadata(self, id_name: str = "messageId", **more: Any) -> dict[str, Any]:
        """Return the metadata of a message."""
        return {
            "cluster": self.cluster,
            "containerInstance": self.instance_arn,
            id_name: self.id,
            **more,
        }


class Status(NamedTuple):
    """Status of one part of the host."""

    value: str
    """INITIALIZING, OK, IMPAIRED or INSUFFICIENT_DATA."""
    updated_at: float
    changed_at: float


def metrics(about: Round, tasks: Sequence[TaskMetric]) -> list[bytes]:
    """Return the messages of one round of metrics."""
    head = about.metadata(idle=False, fin=False)
    # Both forms of `fin` fit; the rest is for the tasks and the commas between them.
    frame_bytes = len(_encode({"metadata": head, "taskMetrics": [], "timestamp": _ms(about.at)}))
    encoded = [part for task in tasks for part in _parts(task, MESSAGE_BYTES - frame_bytes)]
    return [
        _message(
            "PublishMetricsRequest",
            {
                "metadata": about.metadata(idle=False, fin=is_last),
                "taskMetrics": chunk,
                "timestamp": _ms(about.at),
            },
        )
        for chunk, is_last in _chunks(encoded, MESSAGE_BYTES - frame_bytes)
    ]


def idle(about: Round) -> bytes:
    """Return the message that says that nothing is running."""
    request = {"metadata": about.metadata(idle=True, fin=True), "timestamp": _ms(about.at)}
    return _message("PublishMetricsRequest", request)


def health(about: Round, tasks: Iterable[TaskFacts]) -> list[bytes]:
    """Return the messages of one round of health; none if no container has a health check."""
    frame_bytes = len(
        _encode({"metadata": about.metadata(fin=False), "tasks": [], "timestamp": _ms(about.at)})
    )
    encoded = [msgspec.Raw(_encode(told)) for task in tasks if (told := _health_of(task, about.at))]
    return [
        _message(
            "PublishHealthRequest",
            {
                "metadata": about.metadata(fin=is_last),
                "tasks": chunk,
                "timestamp": _ms(about.at),
            },
        )
        for chunk, is_last in _chunks(encoded, MESSAGE_BYTES - frame_bytes)
    ]


def instance_status(about: Round, status: Status) -> bytes:
    """Return the message with the status of the container engine."""
    told = {
        "type": CONTAINER_RUNTIME,
        "status": status.value,
        "lastUpdated": _ms(status.updated_at),
        "lastStatusChange": _ms(status.changed_at),
    }
    request = {
        "metadata": about.metadata("requestId"),
        "statuses": [told],
        "timestamp": _ms(about.at),
    }
    return _message("PublishInstanceStatusRequest", request)


def _message(kind: str, request: dict[str, Any]) -> bytes:
    return _encode({"type": kind, "message": request})


def _ms(at: float) -> float:
    return round(at, 3)


def _health_of(task: TaskFacts, now: float) -> dict[str, Any] | None:
    containers = [_verdict(c, now) for c in task.containers if c.reports_health and c.running]
    if not containers:
        return None
    return {
        "taskArn": task.arn,
        "taskDefinitionFamily": task.family,
        "taskDefinitionVersion": task.revision,
        "containers": containers,
    }


def _verdict(container: ContainerFacts, now: float) -> dict[str, Any]:
    return {
        "containerName": container.name,
        "healthStatus": container.health.value,
        "statusSince": _ms(container.health_since or now),
    }


def _parts(task: TaskMetric, limit: int) -> Iterator[msgspec.Raw]:
    """Yield a task as JSON, in several parts with the same metadata if it is too large for one.

    A single container that is too large by itself is left out.
    """
    raw = _encode(task)
    if len(raw) <= limit:
        yield msgspec.Raw(raw)
        return
    half = len(task.container_metrics) // 2
    if half:
        for containers in (task.container_metrics[:half], task.container_metrics[half:]):
            yield from _parts(msgspec.structs.replace(task, container_metrics=containers), limit)


def _chunks(tasks: Sequence[msgspec.Raw], limit: int) -> Iterator[tuple[list[msgspec.Raw], bool]]:
    """Yield tasks in messages of limited size, each with whether it is the last one."""
    chunk: list[msgspec.Raw] = []
    size = 0
    for task in tasks:
        added = len(bytes(task)) + 1
        if chunk and (len(chunk) == TASKS_PER_MESSAGE or size + added - 1 > limit):
            yield chunk, False
            chunk, size = [], 0
        chunk.append(task)
        size += added
    if chunk:
        yield chunk, True
