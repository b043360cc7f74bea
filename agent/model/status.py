"""Task, container, attachment and health statuses, with their order and their names on the wire.

Source of the rules: Amazon ECS agent 1.105.1, behaviour of ``api/task/status`` and
``api/container/status``. Comparisons use the order; a status only moves forward, but for
a container that is made again before it ran (``engine.settle.forget_creation``).

::

    container  NONE ─► MANIFEST_PULLED ─► PULLED ─► CREATED ─► RUNNING ─► [RESOURCES_PROVISIONED] ─► STOPPED
    task       NONE ─► MANIFEST_PULLED ──────────► CREATED ─► RUNNING ──────────────────────────────► STOPPED
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ContainerStatus(IntEnum):
    """How far one container has come; also used as its desired status."""

    NONE = 0
    MANIFEST_PULLED = 1
    PULLED = 2
    CREATED = 3
    RUNNING = 4
    RESOURCES_PROVISIONED = 5
    STOPPED = 6

    def wire(self) -> str:
        """Return PENDING, RUNNING or STOPPED, the names that operators see."""
        if self is ContainerStatus.STOPPED:
            return "STOPPED"
        return "RUNNING" if self >= ContainerStatus.RUNNING else "PENDING"


class TaskStatus(IntEnum):
    """How far a task has come: the status of its least advanced container."""

    NONE = 0
    MANIFEST_PULLED = 1
    PULLED = 2
    CREATED = 3
    RUNNING = 4
    STOPPED = 5

    def wire(self) -> str:
        """Return PENDING, RUNNING or STOPPED, the names that operators see."""
        if self is TaskStatus.STOPPED:
            return "STOPPED"
        return "RUNNING" if self is TaskStatus.RUNNING else "PENDING"


class DesiredStatus(StrEnum):
    """Where control wants a task to go."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


class Health(StrEnum):
    """What the engine's health check says about a container."""

    UNKNOWN = "UNKNOWN"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"


class Condition(StrEnum):
    """What a container waits for in another one (``dependsOn``)."""

    START = "START"
    COMPLETE = "COMPLETE"
    SUCCESS = "SUCCESS"
    HEALTHY = "HEALTHY"
    CREATE = "CREATE"
    """Made by the agent for ``volumesFrom``; never sent by control."""


class NetworkMode(StrEnum):
    """The network modes of a task definition."""

    BRIDGE = "bridge"
    HOST = "host"
    NONE = "none"
    AWSVPC = "awsvpc"
