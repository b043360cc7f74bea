"""The interface between daemon and control clients; no I/O.

A control client is any object that fetches orders and sends reports: the long-poll client, or the
client of Amazon ECS. The rest of the agent knows only these types.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct, field

from agent.model.fleet import FleetHost
from agent.model.resources import HostResources

if TYPE_CHECKING:
    import asyncio

    from aiohttp import ClientWebSocketResponse

    from agent.model.changes import TaskChange
    from agent.model.liveness import Liveness
    from agent.model.logs import SpooledBatch
    from agent.model.metrics import MetricsBatch
    from agent.model.payload import Credentials
    from agent.model.protection import ProtectionCall, ProtectionOutcome
    from agent.model.telemetry import TaskFacts
    from agent.model.wire import Assignments, HeldTask
    from agent.upstream.draining import Drain


class RegisterInfo(Struct, frozen=True, kw_only=True):
    """What the host offers at this moment; collected again for every registration."""

    resources: HostResources
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    agent_version: str = ""
    machine_id: str = ""
    machine_key: str = ""
    """Computed by the machine (``host_identity``); lets control recognize the host."""
    known_tasks: list[str] = field(default_factory=list)
    """ARNs of the tasks that this agent holds, including stopped and unreported ones."""
    fleet: FleetHost | None = None
    """Its part in the network between hosts; None if it takes none."""


DescribeHost = Callable[[], RegisterInfo]
"""Called on the event loop before each registration; must not block."""


class TakeAssignments(Protocol):
    """Takes orders; returns once they are durable.

    Must be idempotent: the same orders come again after a failure or a restart.
    """

    def __call__(
        self, assignments: Assignments, control_id: str, instance: str = ""
    ) -> Awaitable[None]:
        """Take the orders of a control for a container instance.

        Args:
            assignments: the orders.
            control_id: id of the control endpoint.
            instance: ARN of the instance; empty if ``control_id`` identifies it.
        """


class Holding(Protocol):
    """What this host holds of a control's tasks; see ``engine.holdings``. Never blocks."""

    def held(self, control_id: str) -> list[HeldTask]:
        """Return every task that this control ordered, in its current state."""

    def ended(self, control_id: str) -> list[TaskChange]:
        """Return the last report of each of this control's tasks that ended and was forgotten here.

        Only for as long as ``engine.ended_tasks`` keeps it.
        """

    async def brought(self, control_id: str, instance: str) -> list[HeldTask]:
        """Return tasks and containers on this host that were not ordered for this instance."""

    def belongs_to(self, task_arn: str, instance: str) -> None:
        """Record that control wants a task of this instance from now on."""

    def not_wanted(self, task_arn: str, why: str) -> None:
        """Stop a task because control says that it is not wanted."""

    def keep(self, task_arns: frozenset[str]) -> None:
        """Leave the containers of these tasks alone, although there is no record of the tasks."""


class TaskHost(Protocol):
    """What Amazon ECS asks about this host's tasks; ``engine.Engine`` has it. Never blocks."""

    @property
    def engine_up(self) -> bool:
        """Whether the last call to the container engine was answered."""

    def wanted(self, control_id: str) -> list[str]:
        """Return the ARNs of this control's tasks that should run."""

    def knows(self, task_arn: str) -> bool:
        """Return whether the host holds this task, running or stopped."""

    def is_over(self, task_arn: str) -> bool:
        """Return whether a task has ended here and was forgotten, or was refused: nothing more comes of it."""

    def listed(self) -> None:
        """Record that control has listed everything it wants: leftovers may be removed."""

    def facts(self) -> list[TaskFacts]:
        """Return the facts for telemetry of every task that has not stopped."""


class CredentialStore(Protocol):
    """Keeps role credentials of tasks, in memory only."""

    def keep(self, task_arn: str, role_type: str, credentials: Credentials) -> None:
        """Store or replace them; ``role_type`` is ``TaskApplication`` or ``TaskExecution``."""

    def newest(self, task_arn: str, role_type: str) -> Credentials | None:
        """Return the newest credentials of a task's role; None while there are none."""


class Hotplug(Protocol):
    """Devices that appear while the host runs, each with a key; used by one task."""

    async def present(self) -> frozenset[str]:
        """Return the keys of the devices that are present now.

        Raises:
            AgentError: the devices cannot be listed now.
            OSError: likewise.
        """

    async def changed(self) -> None:
        """Return when devices may have changed since the last ``present``."""

    async def rest(self) -> None:
        """Stop watching while nothing is expected; the next ``present`` starts it again."""


class LogSource(Protocol):
    """Where logs of containers wait for control; ``awslogs.spool.Spool``. One consumer."""

    async def wait(self) -> None:
        """Return when something waits."""

    async def peek(self, *, limit_bytes: int, limit: int) -> Sequence[SpooledBatch]:
        """Return the oldest batches that were not settled; raises ``StateFailure``."""

    def settle(
        self, delivered: Sequence[SpooledBatch], refused: Sequence[SpooledBatch] = ()
    ) -> None:
        """Have batches removed: all from the oldest to the last of them. Returns at once."""


class CommandHost(Protocol):
    """Runs commands in containers of this host; ``endpoints.exec_sessions.ExecSessions``."""

    async def carry(self, socket: ClientWebSocketResponse, task_arn: str) -> None:
        """Run the command that control asks for on a WebSocket, until either ends it."""


class HostParts(NamedTuple):
    """The parts of the agent that a control client uses besides the store."""

    holding: Holding
    """Used for our own control; ``host``, ``links`` and ``disks`` are for Amazon ECS."""
    host: TaskHost
    credentials: CredentialStore
    links: Hotplug
    """MAC addresses of the host's links."""
    disks: Hotplug
    """Serial numbers of the host's block devices."""
    logs: LogSource | None = None
    """Logs of containers, for our own control."""
    drain: Drain | None = None
    """Whether an operator wants this host to take no new tasks."""
    commands: CommandHost | None = None
    """Runs commands that clients of our own control ask for."""


class ControlStatus(Struct, frozen=True, kw_only=True):
    """State of the connection to control."""

    connected: bool
    since: float
    """Unix time of the last change of ``connected``."""
    endpoint: str
    error: str
    """Why it does not work now; empty if it does."""
    unsent: int
    """Number of reports that control has not acknowledged."""
    instance_arn: str
    """Empty until the first registration."""
    generation: int
    instance_status: str
    """Last status from control, ACTIVE or DRAINING; empty until it has sent one."""
    notice: str = ""
    """A recent event that an operator should know about; mostly empty."""
    next_try: float = 0.0
    """Unix time of the next try to connect, if one is planned."""
    connects: int = 0
    """How often the connection was made."""


class Control(Protocol):
    """A control client. All methods but ``run`` and ``leave`` return at once."""

    @property
    def begun(self) -> asyncio.Event:
        """Set once ``run`` has begun to call control."""

    @property
    def livenesses(self) -> tuple[Liveness, ...]:
        """The liveness of each of its loops."""

    @property
    def status(self) -> ControlStatus:
        """The current state of the connection."""

    async def run(self) -> None:
        """Fetch orders and send reports until cancelled; the host stays registered.

        Raises:
            ConfigError: the agent's settings or its description of the host are not valid.
            StaleGeneration: another agent registered as this instance; this process must stop.
        """

    def offer(self, batch: MetricsBatch) -> None:
        """Send metrics if control is connected, else drop them; never blocks."""

    async def secrets(self, task_arn: str, names: list[str]) -> Mapping[str, str]:
        """Return the values that control keeps for a task of this host, by their names.

        Raises:
            PayloadError: control does not have one of them, or is of a kind that keeps none.
            ControlFailure: control cannot be asked now.
        """

    async def tags(self, resource_arn: str) -> Mapping[str, str]:
        """Return the tags that a task of this host, or its container instance, has now.

        Callers bound it.

        Raises:
            ControlFailure: control cannot be asked now, or does not tell.
            AwsFailure: likewise, where control is Amazon ECS.
        """

    async def task_protection(self, asked: ProtectionCall) -> ProtectionOutcome:
        """Return the scale-in protection of a task of this host, changed first if the call says so.

        Callers bound it; the same call again is safe.

        Raises:
            EcsRefused: the ECS API answered with an error, which is for the task.
            ControlFailure: control cannot be asked now.
        """

    async def make_log_stream(self, group: str, stream: str, *, create_group: bool) -> bool:
        """Have control make a log stream that a container is about to write to.

        Returns False where the log group does not exist and is not to be made; True at once where
        control does not answer now, or keeps no logs. Callers bound it.
        """

    async def leave(self) -> None:
        """Remove the host from the cluster for good; only on request, after ``run`` has ended."""

    async def close(self) -> None:
        """Close its connections; only after ``run`` has ended. Idempotent."""
