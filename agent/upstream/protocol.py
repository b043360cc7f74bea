"""What the daemon hands to a control client and what it can ask of one; no I/O.

A control client is any object that brings orders and carries reports: the long poll, or the client of
Amazon ECS. The rest of the agent knows only these shapes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct, field

from agent.model.resources import HostResources

if TYPE_CHECKING:
    import asyncio

    from agent.model.changes import TaskChange
    from agent.model.liveness import Liveness
    from agent.model.metrics import MetricsBatch
    from agent.model.payload import Credentials
    from agent.model.telemetry import TaskFacts
    from agent.model.wire import Assignments, HeldTask


class RegisterInfo(Struct, frozen=True, kw_only=True):
    """What the host offers at this moment; read anew for every registration."""

    resources: HostResources
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    agent_version: str = ""
    machine_id: str = ""
    machine_key: str = ""
    """What the machine says of itself (``host_identity``), for a control that knows it by that."""
    known_tasks: list[str] = field(default_factory=list)
    """ARNs of the tasks that this agent holds, stopped and unreported ones included."""


DescribeHost = Callable[[], RegisterInfo]
"""Called on the event loop before each registration; must not block."""


class TakeAssignments(Protocol):
    """Takes orders; returns when they are durable.

    Must be safe to repeat: the same orders come again after a failure or a restart.
    """

    def __call__(
        self, assignments: Assignments, control_id: str, instance: str = ""
    ) -> Awaitable[None]:
        """Take orders that a control gave to a container instance.

        Args:
            assignments: the orders.
            control_id: id of the control endpoint.
            instance: ARN of the instance; empty where ``control_id`` names it.
        """


class Holding(Protocol):
    """What this host holds of a control's tasks; ``engine.holdings`` knows. Never blocks."""

    def held(self, control_id: str) -> list[HeldTask]:
        """Return every task that this control ordered, as it stands now."""

    def ended(self, control_id: str) -> list[TaskChange]:
        """Return the last report of every task of this control that ended here and was forgotten.

        For as long as that is remembered, see ``engine.ended_tasks``.
        """

    async def brought(self, control_id: str, instance: str) -> list[HeldTask]:
        """Return what is here and was not ordered of this instance: tasks, and mere containers."""

    def belongs_to(self, task_arn: str, instance: str) -> None:
        """Take note that control wants a task of this instance from now on."""

    def not_wanted(self, task_arn: str, why: str) -> None:
        """Stop a task: control says that nobody wants it."""

    def keep(self, task_arns: frozenset[str]) -> None:
        """Leave the containers of these tasks alone though there is no record of them."""


class TaskHost(Protocol):
    """What Amazon ECS asks about the tasks of this host; ``engine.Engine`` answers. Never blocks."""

    @property
    def engine_up(self) -> bool:
        """Whether the container engine answered when it was last heard of."""

    def wanted(self, control_id: str) -> list[str]:
        """Return the ARNs of the tasks that this control ordered and that are to run."""

    def knows(self, task_arn: str) -> bool:
        """Tell whether the host holds this task, be it stopped."""

    def listed(self) -> None:
        """Take note that control has named everything it wants: leftovers may be removed."""

    def facts(self) -> list[TaskFacts]:
        """Return what telemetry tells of every task that has not stopped."""


class CredentialStore(Protocol):
    """Where role credentials of tasks are kept, in memory alone."""

    def keep(self, task_arn: str, role_type: str, credentials: Credentials) -> None:
        """Keep or replace them; ``role_type`` is ``TaskApplication`` or ``TaskExecution``."""


class Hotplug(Protocol):
    """Things that appear on the host while it runs, each under a key; used by one task."""

    async def present(self) -> frozenset[str]:
        """Return the keys of what is there now.

        Raises:
            AgentError: it cannot be read now.
            OSError: likewise.
        """

    async def changed(self) -> None:
        """Return when something may have come or gone since ``present`` was asked."""

    async def rest(self) -> None:
        """Stop watching: nothing is awaited now. ``present`` begins anew."""


class HostParts(NamedTuple):
    """What of the agent a control works with, beside the store."""

    holding: Holding
    """For our own control; the others are for Amazon ECS."""
    host: TaskHost
    credentials: CredentialStore
    links: Hotplug
    """MAC addresses of the host's links."""
    disks: Hotplug
    """Serial numbers of the host's block devices."""


class ControlStatus(Struct, frozen=True, kw_only=True):
    """How the connection to control stands."""

    connected: bool
    since: float
    """Unix time of the last change of ``connected``."""
    endpoint: str
    error: str
    """Why it does not work now; empty when all is well."""
    unsent: int
    """Reports that control has not acknowledged."""
    instance_arn: str
    """Empty until the first registration."""
    generation: int
    instance_status: str
    """ACTIVE or DRAINING as control said last; empty until it said anything."""
    notice: str = ""
    """What happened lately that an operator should know; mostly empty."""
    next_try: float = 0.0
    """Unix time of the next try to connect, where one is planned."""


class Control(Protocol):
    """A control client. Everything but ``run`` and ``leave`` returns at once."""

    @property
    def begun(self) -> asyncio.Event:
        """Set once ``run`` has begun to call control."""

    @property
    def livenesses(self) -> tuple[Liveness, ...]:
        """By when each of its loops will have moved again."""

    @property
    def status(self) -> ControlStatus:
        """How the connection stands at this moment."""

    async def run(self) -> None:
        """Bring orders and carry reports until cancelled; the registration stays.

        Raises:
            ConfigError: control cannot be called, or not be told of this host, as it is set up.
            StaleGeneration: another agent registered as this instance; this process must stop.
        """

    def offer(self, batch: MetricsBatch) -> None:
        """Send figures if control is there, else drop them; never blocks."""

    async def secrets(self, task_arn: str, names: list[str]) -> Mapping[str, str]:
        """Return the values that control keeps for a task of this host, by their names.

        Raises:
            PayloadError: control does not have one of them, or is of a kind that keeps none.
            ControlFailure: control cannot be asked now.
        """

    async def leave(self) -> None:
        """Take the host out of the cluster for good; only on request, and after ``run`` ended."""
