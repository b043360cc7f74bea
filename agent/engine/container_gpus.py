"""How a container gets the GPUs that its order names. Pure.

Either as device requests, which the engine hands to NVIDIA's container toolkit, or through a runtime and
``NVIDIA_VISIBLE_DEVICES`` (Amazon ECS agent 1.105.1, ``api/task/task.go``; it uses the runtime unless
``ECS_EXTERNAL`` is set). A GPU that is shared is reached through the MPS control daemon of the host: the
container has its pipes and the host's shared memory, and the variables that limit memory and compute are
those that Amazon ECS sets.

Tests: ``tests/unit/engine/test_container_gpus.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.errors import PayloadError
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from agent.model.payload import Container, GpuShare, TaskPayload

VISIBLE: Final = "NVIDIA_VISIBLE_DEVICES"
MPS_PIPES: Final = "/tmp/nvidia-mps"  # noqa: S108 - where CUDA looks for them
"""Where containers see the pipes of the MPS control daemon."""


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """How this host gives GPUs to containers."""

    runtime: str = ""
    """``ECS_NVIDIA_RUNTIME``; empty for device requests."""
    mps_pipes: str = ""
    """``ECS_NVIDIA_MPS_PIPES``; empty if GPUs are not shared here."""


def give(
    payload: TaskPayload,
    container: Container,
    settings: GpuSettings,
    config: MutableMapping[str, Any],
    host_config: MutableMapping[str, Any],
) -> None:
    """Add a container's GPUs to its create body; one without any gets nothing.

    Raises:
        PayloadError: it shares a GPU, and this host shares none.
    """
    gpus = [
        a.name for a in payload.associations if container.name in a.containers and a.type == "gpu"
    ]
    if not gpus:
        return
    environment: dict[str, str] = {}
    if settings.runtime:
        environment[VISIBLE] = ",".join(gpus)
        host_config["Runtime"] = settings.runtime
    else:
        host_config["DeviceRequests"] = [{"DeviceIDs": gpus, "Capabilities": [["gpu"]]}]
    if container.gpu_share is not None:
        environment |= _shared(container, container.gpu_share, settings, host_config)
    if environment:
        own = config.get("Env") or []
        config["Env"] = [
            *(pair for pair in own if pair.partition("=")[0] not in environment),
            *(f"{name}={value}" for name, value in environment.items()),
        ]


def _shared(
    container: Container,
    share: GpuShare,
    settings: GpuSettings,
    host_config: MutableMapping[str, Any],
) -> dict[str, str]:
    if not settings.mps_pipes:
        text = f"container {container.name} shares a GPU, which this host does not offer"
        raise PayloadError(f"{text} (ECS_NVIDIA_MPS_PIPES)", name=reasons.HOST_CONFIG)
    if host_config.get("IpcMode") == "none":
        text = f"container {container.name} shares a GPU by MPS, which needs the host's IPC"
        raise PayloadError(f"{text}; its task has ipcMode none", name=reasons.HOST_CONFIG)
    # Clients and server of MPS share memory of the host.
    host_config["IpcMode"] = "host"
    host_config["Binds"] = [
        *(host_config.get("Binds") or []),
        f"{settings.mps_pipes}:{MPS_PIPES}",
    ]
    limits = {
        "CUDA_MPS_PIPE_DIRECTORY": MPS_PIPES,
        # The only GPU that the container sees has the number 0.
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={share.memory}M",
    }
    if share.max_compute_percent:
        limits["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(share.max_compute_percent)
    return limits
