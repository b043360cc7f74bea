"""What the agent itself adds to a create request, and what the host is like. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHost:
    """What of this host the rules need to know."""

    protected: tuple[str, ...] = ()
    """Paths by which a task would rule the host: sockets of engines, state of the agent."""
    limits_tasks: bool = False
    """Whether limits of a task as a whole are enforced."""
    task_pids_limit: int = 0
    """``ECS_TASK_PIDS_LIMIT``; 0 for none."""
    gpu_runtime: str = ""
    """``ECS_NVIDIA_RUNTIME``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnParts:
    """What of a request the agent has added, for one container."""

    containers: Collection[str] = ()
    """Engine names of the containers of the task."""
    namespaces: Collection[str] = ()
    """Engine ids of the containers that hold namespaces of the task."""
    binds: Collection[str] = ()
    """Mounts of the agent's own, as the engine writes them."""
    bind_sources: Collection[str] = ()
    """Files of the agent's own that this container mounts."""
    volumes: Collection[str] = ()
    """Engine names of the task's volumes, which are decided by themselves."""
    cgroup_parent: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: bool = False
    """Whether control assigned GPUs to it."""
    mps_pipes: str = ""
    """Where it finds the daemon by which it shares a GPU; empty if it shares none."""
    routes_logs: bool = False
    """Whether the agent has written its log options, so that its logs go to a router of the task."""
    image: str = ""
    """The name by which the engine knows the ordered image; empty for the ordered name."""
    ordered_image: str = ""
