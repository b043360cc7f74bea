"""State changes: what the agent reports about a task, and nothing else.

A change carries the complete state (status, containers, network), so that the newest change of a
task is enough even if control lost an older one.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from agent.model.status import Health
from agent.model.task import NetworkBinding


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class NetworkInterface(_Wire, frozen=True):
    """Address of a container on its task's interface, as DescribeTasks shows it."""

    attachment_id: str
    private_ipv4_address: str = field(default="", name="privateIpv4Address")
    ipv6_address: str = ""


class ManagedAgentChange(_Wire, frozen=True):
    """State of an agent inside a container, for example ``ExecuteCommandAgent``."""

    name: str
    status: str
    """CREATED, RUNNING or STOPPED; sent to Amazon ECS unchanged."""
    reason: str = ""


class ContainerChange(_Wire, frozen=True):
    """State of one container."""

    container_name: str
    status: str
    """PENDING, RUNNING or STOPPED."""
    container_arn: str = ""
    runtime_id: str = ""
    image_digest: str = ""
    exit_code: int | None = None
    reason: str = ""
    health_status: Health = Health.UNKNOWN
    restart_count: int = 0
    network_bindings: list[NetworkBinding] = field(default_factory=list)
    network_interfaces: list[NetworkInterface] = field(default_factory=list)
    managed_agents: list[ManagedAgentChange] = field(default_factory=list)


class AttachmentChange(_Wire, frozen=True):
    """State of something attached to a task or to the host."""

    id: str
    """Id or ARN of the attachment as control named it; otherwise the agent's own id."""
    status: str
    """ATTACHED or DELETED."""
    type: str = "ElasticNetworkInterface"
    details: dict[str, str] = field(default_factory=dict)
    """``networkInterfaceId``, ``macAddress``, ``privateIPv4Address``, ``privateDnsName``..."""


class TaskChange(_Wire, frozen=True):
    """One report about one task. Times are Unix seconds.

    A change without a status reports only ``attachments``: those of the task or, without a task,
    those of the host. Only Amazon ECS makes attachments itself, so only its client gets such
    reports.
    """

    id: str
    """Never reused; control answers a repeated id like the first."""
    task_arn: str
    status: str
    """PENDING, RUNNING or STOPPED; empty if the change reports only ``attachments``."""
    at: float
    reason: str = ""
    stop_code: str = ""
    pull_started_at: float = 0.0
    pull_stopped_at: float = 0.0
    started_at: float = 0.0
    stopping_at: float = 0.0
    execution_stopped_at: float = 0.0
    stopped_at: float = 0.0
    containers: list[ContainerChange] = field(default_factory=list)
    attachments: list[AttachmentChange] = field(default_factory=list)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(TaskChange).decode
