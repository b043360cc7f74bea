"""A container instance as the scheduler sees it, and what a task needs on one.

Plain data; the numbers are what is free, not what the host has in total.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One container instance, in its state before a placement."""

    arn: str
    cpu_units: int
    """Free CPU units, 1024 to a core."""
    memory_mib: int
    """Free MiB."""
    tcp_ports: frozenset[int] = frozenset()
    """Used ports."""
    udp_ports: frozenset[int] = frozenset()
    gpus: tuple[str, ...] = ()
    """Ids of the GPUs that nobody uses."""
    gpus_total: int = 0
    """How many GPUs the host has."""
    gpu_rooms: Mapping[str, int] = field(default_factory=dict)
    """Free MiB of the GPUs that may be shared, by id: those that nobody uses, and shared ones."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Name to value; the value of a name-only attribute is empty."""
    task_groups: Mapping[str, int] = field(default_factory=dict)
    """Tasks per group whose desired status is not STOPPED."""
    present_groups: Mapping[str, int] = field(default_factory=dict)
    """Tasks per group that are not STOPPED yet."""
    running_tasks: int = 0
    agent_connected: bool = True
    agent_version: str = ""
    ec2_instance_id: str = ""
    hostname: str = ""
    registered_at: float = 0.0
    """Unix seconds."""
    active: bool = True
    """False if DRAINING or INACTIVE: nothing is placed there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNeeds:
    """What each copy of a task uses, and which attributes its instance must have."""

    cpu_units: int = 0
    memory_mib: int = 0
    tcp_ports: frozenset[int] = frozenset()
    udp_ports: frozenset[int] = frozenset()
    gpus: Mapping[str, int] = field(default_factory=dict)
    """Container name to the number of GPUs that it needs for itself."""
    all_gpus: str = ""
    """The container that needs every GPU of its instance."""
    gpu_shares: Mapping[str, int] = field(default_factory=dict)
    """Container name to the MiB of one GPU, the same for all of them, that it shares."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Attributes that the instance must have; an empty value only requires the name."""
    group: str = ""

    @property
    def gpu_count(self) -> int:
        """How many GPUs one copy uses."""
        return sum(self.gpus.values())
