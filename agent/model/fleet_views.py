"""What operators see of a whole cluster: its hosts and tasks with the newest figures of their agents.

The answer of control's call ``POST /control/usage``, which ``ecs-agent top --fleet`` shows.
"""

from __future__ import annotations

from msgspec import Struct, field


class _View(Struct, frozen=True, kw_only=True, rename="camel"):
    """Every field is always written; a figure that is not known of late is None."""


class FleetHostView(_View, frozen=True):
    """One container instance."""

    id: str
    ec2_instance_id: str = ""
    hostname: str = ""
    status: str = ""
    connected: bool = False
    tasks_running: int = 0
    tasks_pending: int = 0
    cpu_reserved_units: int = 0
    """1024 are a core."""
    cpu_total_units: int = 0
    memory_reserved_mib: int = 0
    memory_offered_mib: int = 0
    at: float | None = None
    """When the figures came, Unix time of control."""
    cpu_units: float | None = None
    """In use by the whole host, mean of its last message."""
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    disk_used_bytes: float | None = None
    disk_total_bytes: float | None = None


class FleetTaskView(_View, frozen=True):
    """One task that has not stopped."""

    id: str
    family: str
    revision: int = 0
    group: str = ""
    instance_id: str = ""
    status: str = ""
    started_at: float = 0.0
    at: float | None = None
    cpu_units: float | None = None
    memory_bytes: float | None = None
    receive_bytes_per_s: float | None = None
    transmit_bytes_per_s: float | None = None


class FleetView(_View, frozen=True):
    """A cluster."""

    cluster: str
    at: float
    """Unix time of control."""
    hosts: list[FleetHostView] = field(default_factory=list)
    tasks: list[FleetTaskView] = field(default_factory=list)
