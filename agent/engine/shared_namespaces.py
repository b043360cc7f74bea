"""Which process and IPC namespaces the containers of a task share, and who holds them. Pure.

Source: Amazon ECS agent 1.105.1, ``api/task`` (``pidMode``, ``ipcMode``, the namespace pause container).
Ours has no such container of its own in ``awsvpc`` mode: the sandbox holds these namespaces, too.

Tests: ``tests/unit/engine/test_shared_namespaces.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import PayloadError
from agent.model import reasons
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from agent.model.payload import Container, TaskPayload

SHARED = "task"
"""The mode in which the containers of a task share a namespace with each other alone."""

_PID_MODES = ("host",)
_IPC_MODES = ("host", "none")


def are_shared(payload: TaskPayload) -> bool:
    """Return whether the containers of a task share a namespace beside the network's."""
    return SHARED in (payload.pid_mode, payload.ipc_mode)


def needs_holder(payload: TaskPayload) -> bool:
    """Return whether a task needs a container of its own that holds the namespaces.

    In ``awsvpc`` mode the sandbox holds them, unless a size of the shared memory is asked for:
    sandboxes are made before anybody knows the task.
    """
    if not are_shared(payload):
        return False
    return payload.mode is not NetworkMode.AWSVPC or shared_memory_bytes(payload) > 0


def shared_memory_bytes(payload: TaskPayload) -> int:
    """Return the size of the shared memory that all containers of a task have together.

    It is the largest that one of them asks for (``sharedMemorySize``); 0 where none does, and where
    they share none.
    """
    if payload.ipc_mode != SHARED:
        return 0
    return max((_asked_bytes(container) for container in payload.containers), default=0)


def _asked_bytes(container: Container) -> int:
    given = container.docker_config.host_config
    if not isinstance(given, dict):
        return 0  # refused when the container is made
    sizes = [value for key, value in given.items() if key.casefold() == "shmsize"]
    return max((size for size in sizes if isinstance(size, int)), default=0)


def join(
    payload: TaskPayload, container: Container, host_config: dict[str, Any], *, holder_id: str
) -> None:
    """Put a container into the namespaces that its task asks for; changes its body in place.

    Args:
        payload: the task.
        container: the container.
        host_config: the engine's half of its body.
        holder_id: engine id of the container that holds the task's namespaces; empty where none does.

    Raises:
        PayloadError: a mode is unknown.
    """
    for member, what, mode, others in (
        ("PidMode", "pidMode", payload.pid_mode, _PID_MODES),
        ("IpcMode", "ipcMode", payload.ipc_mode, _IPC_MODES),
    ):
        if mode == SHARED and holder_id:
            host_config[member] = f"container:{holder_id}"
        elif mode in others:
            host_config[member] = mode
        elif mode:
            text = f"{what} {mode!r} of container {container.name} is not supported by this agent"
            raise PayloadError(text, name=reasons.HOST_CONFIG)


def holder_body(payload: TaskPayload, *, image: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return the create body of the container that holds a task's namespaces."""
    host_config: dict[str, Any] = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {"Type": "none"},
    }
    if payload.ipc_mode == SHARED:
        host_config["IpcMode"] = "shareable"
    if size := shared_memory_bytes(payload):
        host_config["ShmSize"] = size
    return {
        "Image": image,
        "Labels": labels,
        "NetworkDisabled": True,  # starts sooner, see ``loopback_only``
        "HostConfig": host_config,
    }
