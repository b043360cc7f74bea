"""What the agent knows about a task: the record that the planner reads and ``state`` stores.

The runner of the task owns the record, and nothing else writes to it. Other parts see what
``state`` saved or get a copy.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from agent.model.eni import TaskEni
from agent.model.payload import TaskPayload
from agent.model.status import ContainerStatus, DesiredStatus, Health, TaskStatus


class NetworkBinding(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One published port of a running container, as DescribeTasks shows it."""

    bind_ip: str = field(default="0.0.0.0", name="bindIP")  # noqa: S104 - what the engine binds
    container_port: int | None = None
    host_port: int | None = None
    container_port_range: str | None = None
    host_port_range: str | None = None
    protocol: str = "tcp"


class TaskNetwork(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The address of an awsvpc task and the sandbox that holds its namespace."""

    attachment_id: str
    """Name of the interface as operators see it (an ``eni-...`` style id on Amazon ECS)."""
    mac: str
    ipv4: str
    prefix_len: int
    gateway: str
    hostname: str
    interface: str = "eth0"
    host_interface: str = ""
    sandbox_id: str = ""
    """Engine id of the pause container whose namespace the task's containers join."""
    sandbox_pid: int = 0
    eni: TaskEni | None = None
    """The interface of Amazon ECS that the task has; None with an address of the host's pool."""
    agent_side_ipv4: str = ""
    """The address from which the task reaches the agent, if that is not one of its own: with an ENI, or
    with IPv6 alone."""
    ipv6: str = ""
    ipv6_prefix_len: int = 0
    ipv6_gateway: str = ""

    @property
    def asks_from(self) -> str:
        """The source address of what the task sends to the agent."""
        return self.agent_side_ipv4 or self.ipv4

    @property
    def any_address(self) -> str:
        """The address to show where there is room for one: IPv4 if it has any."""
        return self.ipv4 or self.ipv6


class AgentContainer(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """How far one container has come."""

    name: str
    known: ContainerStatus = ContainerStatus.NONE
    desired: ContainerStatus = ContainerStatus.RUNNING
    runtime_id: str = ""
    engine_name: str = ""
    image_digest: str = ""
    image_name: str = ""
    """By which the engine knows the image, if that is not the ordered name."""
    exit_code: int | None = None
    reason: str = ""
    """The first error of this container, ``Name: text``; empty if there was none."""
    health: Health = Health.UNKNOWN
    health_since: float = 0.0
    created_at: float = 0.0
    oom_killed: bool = False
    started_at: float = 0.0
    """First start; restarts by policy do not change it."""
    finished_at: float = 0.0
    stopped_again_at: float = 0.0
    """When the agent stopped it again, after someone else had restarted it; done only once."""
    restart_count: int = 0
    last_restart_at: float = 0.0
    restarted_exit_at: float = 0.0
    """The engine's time of the exit that caused the last restart. It is saved with the decision, so
    that after a crash the same exit is not counted again."""
    bindings: list[NetworkBinding] = field(default_factory=list)


class AgentTask(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One task: its order, how far it has come, and what it holds on the host.

    Times are Unix seconds; 0 means "not yet".
    """

    payload: TaskPayload
    """Without credentials."""
    origin: str = ""
    """Id of the control endpoint that ordered the task."""
    instance: str = ""
    """ARN of the container instance that it was ordered for; empty where ``origin`` says it all."""
    desired: DesiredStatus = DesiredStatus.RUNNING
    known: TaskStatus = TaskStatus.NONE
    containers: dict[str, AgentContainer] = field(default_factory=dict)
    network: TaskNetwork | None = None
    """The task's address; kept for reports after the sandbox was released."""
    network_held: bool = False
    """True from the claim of the sandbox until its release."""
    reason: str = ""
    stop_code: str = ""
    stop_ordered: bool = False
    """Control ordered the stop, so it need not be told that the task will stop."""
    accepted_at: float = 0.0
    admitted_at: float = 0.0
    pull_started_at: float = 0.0
    pull_stopped_at: float = 0.0
    started_at: float = 0.0
    stopping_at: float = 0.0
    execution_stopped_at: float = 0.0
    stopped_at: float = 0.0
    cleaned_at: float = 0.0
    host_ports: dict[str, list[int]] = field(default_factory=dict)
    """Ports that the agent picked, by ``container/port/protocol``. They are kept so that a retry
    after a crash publishes the same ports."""

    @property
    def arn(self) -> str:
        """The task's ARN."""
        return self.payload.arn

    @property
    def is_done(self) -> bool:
        """True once every container is stopped and the task status is STOPPED."""
        return self.known is TaskStatus.STOPPED


def new_record(payload: TaskPayload, *, origin: str, now: float, instance: str = "") -> AgentTask:
    """Return the record of a newly ordered task."""
    return AgentTask(
        payload=payload.without_secrets(),
        origin=origin,
        instance=instance,
        desired=payload.desired_status,
        containers={c.name: AgentContainer(name=c.name) for c in payload.containers},
        accepted_at=now,
    )


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(AgentTask).decode
"""Raises ``msgspec.ValidationError`` or ``msgspec.DecodeError`` for a row that cannot be read."""
