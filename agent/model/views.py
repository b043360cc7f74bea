"""What an operator sees of the agent on its host: answers of the local endpoint and the CLI."""

from __future__ import annotations

from msgspec import Struct, field

from agent.model.metrics import HostSample, TaskSample
from agent.model.resources import Wait
from agent.model.status import Health
from agent.model.task import NetworkBinding


class _View(Struct, frozen=True, kw_only=True, rename="camel"):
    """Every field is always written, so that scripts can rely on it."""


class ContainerView(_View, frozen=True):
    """The current state of one container."""

    name: str
    image: str
    status: str
    """Internal status name, for example PULLED, CREATED, RUNNING, STOPPED."""
    desired: str
    essential: bool = True
    runtime_id: str = ""
    engine_name: str = ""
    exit_code: int | None = None
    reason: str = ""
    health: Health = Health.UNKNOWN
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    restart_count: int = 0
    bindings: list[NetworkBinding] = field(default_factory=list)


class LaunchPhase(_View, frozen=True):
    """One phase of a launch. Times in seconds since the order."""

    phase: str
    """``store``, ``admit``, ``network``, ``prepare``, ``pull``, ``create``, ``start``, ``report`` or
    ``acknowledge``; see ``engine.launch_trace``."""
    subject: str = ""
    """The container or the preparation; empty for a phase of the task."""
    began_s: float | None = None
    """None if it is not known: an earlier process of the agent began it."""
    ended_s: float | None = None
    """None while it lasts, and for one that the end of the task cut short."""
    tries: int = 1


class LaunchView(_View, frozen=True):
    """How a task was launched. Times in seconds since the order, unless they are named otherwise."""

    ordered_at: float
    """Unix time."""
    now_s: float
    """When this was read."""
    running_s: float | None = None
    """When all containers of the task ran for the first time; None if they did not."""
    is_whole: bool = True
    """False for a task that an earlier process of the agent began to launch: its phases are known
    only as far as the record has their times."""
    phases: list[LaunchPhase] = field(default_factory=list)
    """By their beginning."""


class TaskView(_View, frozen=True):
    """The current state of one task, with everything it waits for, in order."""

    arn: str
    id: str
    family: str
    revision: str
    status: str
    """PENDING, RUNNING or STOPPED."""
    desired: str
    network_mode: str
    ipv4: str = ""
    reason: str = ""
    stop_code: str = ""
    accepted_at: float = 0.0
    started_at: float = 0.0
    stopped_at: float = 0.0
    containers: list[ContainerView] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    sample: TaskSample | None = None
    sampled_at: float = 0.0
    """When the round of the sample began, in Unix time; 0 without one."""
    launch: LaunchView | None = None
    """Only in the answer about a single task."""


class ContainerUsage(_View, frozen=True):
    """One container in a list of what uses the host."""

    name: str
    status: str
    health: Health = Health.UNKNOWN
    restart_count: int = 0
    started_at: float = 0.0
    """When it was last started, Unix time; 0 if it was not."""


class TaskUsage(_View, frozen=True):
    """One task in a list of what uses the host."""

    arn: str
    id: str
    family: str
    revision: str
    status: str
    accepted_at: float = 0.0
    containers: list[ContainerUsage] = field(default_factory=list)
    sample: TaskSample | None = None
    """What it used in this round; None if it was not measured."""


class UsageView(_View, frozen=True):
    """One round of samples, with the tasks that have not stopped."""

    host_name: str
    at: float | None = None
    """Unix time of the round, which also names it; None before the first one."""
    host: HostSample | None = None
    tasks: list[TaskUsage] = field(default_factory=list)


class ResourceView(_View, frozen=True):
    """How much of one resource is in use."""

    name: str
    total: int
    used: int


class RepairView(_View, frozen=True):
    """Something of the host that others changed and the agent put right."""

    at: float
    """Unix time."""
    found: str
    """What was found, in words."""


class LostLogsView(_View, frozen=True):
    """Log events that are lost: of one task, or with an empty id of all older losses together."""

    task: str
    why: str
    events: int
    at: float
    """Unix time of the last one."""


class LogsView(_View, frozen=True):
    """Logs of containers on their way to control."""

    waiting_events: int = 0
    waiting_bytes: int = 0
    """On the disk, compressed."""
    oldest_at: float = 0.0
    """When the oldest that waits was written, Unix time; 0 if nothing waits."""
    lost: list[LostLogsView] = field(default_factory=list)
    """The newest last."""


class DrainOrder(Struct, frozen=True, kw_only=True, rename="camel"):
    """An order of an operator about the whole host."""

    wanted: bool
    """Whether it is to take no new tasks."""
    deadline: float = 0.0
    """Unix time from which on the remaining tasks are stopped; 0 for never."""


class DrainView(_View, frozen=True):
    """Whether an operator wants this host to take no new tasks."""

    wanted: bool = False
    since: float = 0.0
    """Unix time of the last order, also of one to take tasks again; 0 if there never was one."""
    deadline: float = 0.0
    """Unix time from which on the remaining tasks are stopped; 0 for never."""
    told: bool = True
    """Whether control knows."""
    trouble: str = ""
    """Why control could not be told yet."""


class AgentView(_View, frozen=True):
    """The current state of the agent."""

    version: str
    cluster: str
    instance_arn: str = ""
    instance_status: str = ""
    control_endpoint: str = ""
    control_connected: bool = False
    control_since: float = 0.0
    control_error: str = ""
    control_next_try: float = 0.0
    """Unix time of the next try to connect; 0 if none is planned."""
    unsent_changes: int = 0
    engine_version: str = ""
    engine_connected: bool = False
    degraded: list[str] = field(default_factory=list)
    """One sentence per thing that does not work now; empty if all is well."""
    started_at: float = 0.0
    running: int = 0
    pending: int = 0
    stopped: int = 0
    resources: list[ResourceView] = field(default_factory=list)
    repairs: list[RepairView] = field(default_factory=list)
    """The newest repairs of what others changed, oldest first."""
    logs: LogsView = LogsView()
    drain: DrainView = DrainView()
    host_policy: str = ""
    """The file of the host's own policy, or the setting that stands for one; empty without."""


class Problem(_View, frozen=True):
    """Body of every error answer of the local endpoint."""

    message: str
