"""What telemetry reports about a task besides its metrics: names, health, restarts. Pure data."""

from __future__ import annotations

from msgspec import Struct

from agent.model.status import Health


class ContainerFacts(Struct, frozen=True, kw_only=True):
    """One container of a task that has not stopped."""

    name: str
    runtime_id: str = ""
    running: bool = False
    reports_health: bool = False
    """Control asked for its health (``healthCheckType`` is ``docker``)."""
    health: Health = Health.UNKNOWN
    health_since: float = 0.0
    """Unix seconds; 0 until the engine reports health."""
    restart_count: int | None = None
    """None without an enabled restart policy."""


class TaskFacts(Struct, frozen=True, kw_only=True):
    """One task that has not stopped."""

    arn: str
    origin: str = ""
    """Id of the control endpoint that ordered it."""
    family: str = ""
    revision: str = ""
    network_mode: str = "bridge"
    containers: tuple[ContainerFacts, ...] = ()
