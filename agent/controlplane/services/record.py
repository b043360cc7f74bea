"""What is stored about a service. Plain data; the keys are in ``controlplane.records``.

The record of a service is written by operators' calls and by the scheduler, always by comparing it.
Its events have a key of their own, which is only written together with the record.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLICA = "REPLICA"
DAEMON = "DAEMON"

ECS = "ECS"
EXTERNAL = "EXTERNAL"

ACTIVE = "ACTIVE"
DRAINING = "DRAINING"
INACTIVE = "INACTIVE"

ROLLING = "ROLLING"
BLUE_GREEN = "BLUE_GREEN"
LINEAR = "LINEAR"
CANARY = "CANARY"
"""Strategies of deployments; all but ROLLING go by stages."""

AWAITING_ACTION = "AWAITING_ACTION"

IN_PROGRESS = "IN_PROGRESS"
COMPLETED = "COMPLETED"
FAILED = "FAILED"

REPLACE_AFTER = "ecs-host-agent.replace-after"
"""Tag of a service: after how many seconds the tasks on a host that is cut off are replaced."""
NEVER = "never"
LOST_AFTER_S = 300.0
"""Without the tag. Ours: Amazon ECS waits until somebody ends the instance."""
REPLACE_MOST_S = 7 * 24 * 3600
_SECONDS = re.compile(r"[0-9]{1,6}")

EVENT_LIMIT = 100
"""How many events of a service are kept."""
_LEAST_THRESHOLD = 3
_MOST_THRESHOLD = 200
_DEFAULT_PERCENT = 50


class _Record(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """As in ``controlplane.records``."""


class Throttle(_Record, frozen=True):
    """How starts are slowed down after tasks that failed again and again."""

    level: int = 0
    """How many rounds of starts in a row have failed; 0 for no throttling."""
    until: float = 0.0
    """Nothing is started before; Unix seconds. The tasks of one round count once."""


class Hook(_Record, frozen=True):
    """A PAUSE hook: a deployment waits at some stages until an operator continues it."""

    stages: list[str] = field(default_factory=list)
    timeout_s: float = 0.0
    on_timeout: str = "ROLLBACK"
    """ROLLBACK or CONTINUE."""


class HookWait(_Record, frozen=True):
    """One stage at which a deployment waits for an operator, or has waited."""

    id: str
    stage: str
    expires_at: float
    """Unix seconds."""
    on_timeout: str = "ROLLBACK"
    status: str = AWAITING_ACTION
    """AWAITING_ACTION, SUCCEEDED, FAILED (rolled back by an operator) or TIMED_OUT."""


class Lifecycle(_Record, frozen=True):
    """How far a deployment is that goes by stages (``lifecycle``)."""

    stage: str
    since: float
    """When the stage began; Unix seconds."""
    bake_s: float = 0.0
    steps: list[float] = field(default_factory=list)
    """Per cent of the production traffic that the new tasks have after each shift; once all of it if empty."""
    step: int = 0
    """Which of the steps is next, or has been made in this stage."""
    step_bake_s: float = 0.0
    """How long a step lasts, but the last one."""
    hooks: list[Hook] = field(default_factory=list)
    waits: list[HookWait] = field(default_factory=list)
    """Of this stage and of those before, oldest first."""

    @property
    def percent(self) -> float:
        """Per cent of the production traffic that the step gives to the new tasks."""
        return self.steps[self.step] if self.steps else 100.0

    @property
    def is_last_step(self) -> bool:
        """Whether the step gives all of the production traffic to the new tasks."""
        return self.step + 1 >= len(self.steps)


class AlarmWatch(_Record, frozen=True):
    """The alarms that a deployment watches, as its service had them when it began (``deployment_alarms``)."""

    names: list[str]
    rolls_back: bool = False
    since: float = 0.0
    """The end of the last minute of figures that was known when the deployment began; only later ones count."""
    already: list[str] = field(default_factory=list)
    """Those that were in ALARM then. If there are any, none of the alarms is watched."""
    triggered: list[str] = field(default_factory=list)
    """Those that have made the deployment fail."""
    steady_at: float = 0.0
    """When a rolling deployment had all that it wants and began to bake; 0 before."""


class Endpoint(_Record, frozen=True):
    """A port of a deployment's tasks that others reach by Service Connect."""

    registry_id: str
    """The registry, which is made with the deployment, in which the tasks are."""
    discovery_name: str
    """Its name."""
    dns_name: str
    """The name that clients ask for, in lower case."""
    port: int
    """Of the container."""
    alias_port: int
    """That clients use."""


class ServiceConnect(_Record, frozen=True):
    """What a deployment with Service Connect has of it."""

    configuration: dict[str, Any]
    """As DescribeServices shows it."""
    namespace_id: str
    endpoints: list[Endpoint] = field(default_factory=list)
    """None for tasks that are only clients."""


class DeploymentRecord(_Record, frozen=True):
    """One deployment: a revision of what the service runs, and how its rollout goes."""

    id: str
    """``ecs-svc/<19 digits>``; ``startedBy`` of its tasks."""
    task_definition_arn: str
    launch_type: str = "EC2"
    """What was asked for, empty with a strategy."""
    capacity_provider_strategy: list[dict[str, Any]] = field(default_factory=list)
    platform_version: str = ""
    platform_family: str = ""
    network_configuration: dict[str, Any] = field(default_factory=dict)
    service_registries: list[dict[str, Any]] = field(default_factory=list)
    """As DescribeServices shows them; at most one."""
    service_connect: ServiceConnect | None = None
    """None without Service Connect."""
    load_balancers: list[dict[str, Any]] = field(default_factory=list)
    """As CreateService takes them."""
    target_groups: list[str] = field(default_factory=list)
    """ARNs of the target groups that its tasks are in, one for each load balancer; empty if these name them."""
    created_at: float = 0.0
    updated_at: float = 0.0
    rollout_state: str = IN_PROGRESS
    rollout_reason: str = ""
    finished_at: float = 0.0
    was_completed: bool = False
    """Whether it may be rolled back to: it has been COMPLETED and was not rolled back to since."""
    failed_tasks: int = 0
    """Failures in a row, as the circuit breaker counts them."""
    failed_created_at: float = 0.0
    """When the newest of the failed tasks was created: a healthy task that is not older ends the row."""
    throttle: Throttle = Throttle()
    lifecycle: Lifecycle | None = None
    """None for one that is rolling."""
    alarms: AlarmWatch | None = None
    """None without alarms, and for one that is rolled back to."""

    @property
    def used_balancers(self) -> list[dict[str, Any]]:
        """Its load balancers, each with the target group that its tasks are in as ``targetGroupArn``."""
        if not self.target_groups:
            return self.load_balancers
        pairs = zip(self.load_balancers, self.target_groups, strict=True)
        return [{**each, "targetGroupArn": arn} for each, arn in pairs]

    @property
    def names_count(self) -> int:
        """How many registries each of its tasks is in."""
        connect = self.service_connect
        return len(self.service_registries) + (len(connect.endpoints) if connect is not None else 0)

    @property
    def digits(self) -> str:
        """The number in its id, which its revision has too."""
        return self.id.rpartition("/")[2]


class Notice(_Record, frozen=True):
    """An event that is not repeated while its cause lasts, except after a long time."""

    message: str
    at: float


class TaskSetRecord(_Record, frozen=True):
    """A task set of a service with the deployment controller EXTERNAL."""

    deployment: DeploymentRecord
    """What it runs; always COMPLETED, because whoever created the task set decides what becomes of it."""
    status: str = ACTIVE
    """ACTIVE or DRAINING (deleted, and tasks are still to stop)."""
    is_primary: bool = False
    scale_percent: float = 0.0
    """Of the desired count of the service."""
    external_id: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    client_token: str = ""
    fingerprint: str = ""
    """Hash of the request that created it."""
    updated_at: float = 0.0
    notices: dict[str, Notice] = field(default_factory=dict)
    """As those of a service."""
    steady_count: int = -1
    """The number of tasks with which it is in a steady state; -1 if it is not."""
    stability_at: float = 0.0

    @property
    def id(self) -> str:
        """``ecs-svc/<19 digits>``; ``startedBy`` of its tasks."""
        return self.deployment.id

    @property
    def digits(self) -> str:
        """The number in its id."""
        return self.deployment.digits

    def desired_count(self, service: ServiceRecord) -> int:
        """Return how many tasks it should have; rounded up, as on Amazon ECS."""
        if DRAINING in (self.status, service.status):
            return 0
        return math.ceil(Fraction(repr(self.scale_percent)) * service.desired_count / 100)

    def is_steady(self, service: ServiceRecord) -> bool:
        """Return whether it has all the tasks that it should have, and they are healthy."""
        return self.steady_count == self.desired_count(service)


_NO_DEPLOYMENT = DeploymentRecord(
    id="", task_definition_arn="", launch_type="", rollout_state=COMPLETED
)


class ServiceRecord(_Record, frozen=True):
    """A service."""

    name: str
    arn: str
    cluster: str
    """Name of the cluster."""
    status: str = ACTIVE
    """ACTIVE, DRAINING (deleted, and tasks are still to stop) or INACTIVE."""
    scheduling: str = REPLICA
    desired_count: int = 0
    """For DAEMON, the number of hosts that should have a task; the scheduler computes it."""
    controller: str = ECS
    """ECS, or EXTERNAL for one that has task sets and no deployments."""
    deployments: list[DeploymentRecord] = field(default_factory=list)
    """The first is PRIMARY, the others are being replaced; never empty with the controller ECS."""
    task_sets: list[TaskSetRecord] = field(default_factory=list)
    """Oldest first."""
    deployment_configuration: dict[str, Any] = field(default_factory=dict)
    """As DescribeServices shows it."""
    placement_constraints: list[dict[str, Any]] = field(default_factory=list)
    placement_strategy: list[dict[str, Any]] = field(default_factory=list)
    grace_s: int | None = None
    """``healthCheckGracePeriodSeconds``; None if it was not given."""
    propagate_tags: str = "NONE"
    managed_tags: bool = False
    enable_execute_command: bool = False
    """Of tasks that are started from now on."""
    tags: dict[str, str] = field(default_factory=dict)
    client_token: str = ""
    fingerprint: str = ""
    """Hash of the request that created it."""
    created_at: float = 0.0
    created_by: str = ""
    """ARN of who created it; empty for the root."""
    inactive_at: float = 0.0
    notices: dict[str, Notice] = field(default_factory=dict)
    """By kind (``wording``)."""
    turn: int = 0
    """Grows with every act of the scheduler, so that each of them changes the record."""

    @property
    def primary(self) -> DeploymentRecord:
        """The deployment that gets all new tasks; that of the primary task set, or an empty one, if EXTERNAL."""
        if not self.is_external:
            return self.deployments[0]
        found = (one.deployment for one in self.task_sets if one.is_primary)
        return next(found, _NO_DEPLOYMENT)

    @property
    def is_external(self) -> bool:
        """Whether it has task sets, which somebody else creates and deletes, instead of deployments."""
        return self.controller == EXTERNAL

    @property
    def running_deployments(self) -> list[DeploymentRecord]:
        """All deployments whose tasks it may have, those of task sets too."""
        return [*self.deployments, *(one.deployment for one in self.task_sets)]

    @property
    def group(self) -> str:
        """The group of its tasks."""
        return group(self.name)

    @property
    def replace_after_s(self) -> float:
        """How long a host may be cut off before the tasks on it are replaced; endless if they are kept."""
        known = replace_after_s(self.tags)
        return LOST_AFTER_S if known is None else known

    @property
    def says_replace_after(self) -> bool:
        """Whether the operator says what becomes of tasks on a host that is cut off: then nothing else replaces them."""
        return REPLACE_AFTER in self.tags

    @property
    def is_daemon(self) -> bool:
        """Whether it runs one task on each host."""
        return self.scheduling == DAEMON

    @property
    def least_healthy(self) -> int:
        """How many healthy tasks the scheduler keeps at least; rounded up, as on Amazon ECS."""
        percent: int = self.deployment_configuration["minimumHealthyPercent"]
        return -(-self.desired_count * percent // 100)

    @property
    def most_running(self) -> int:
        """How many tasks there may be during a deployment; rounded down, as on Amazon ECS."""
        percent: int = self.deployment_configuration["maximumPercent"]
        return self.desired_count * percent // 100

    @property
    def breaker(self) -> dict[str, Any]:
        """``deploymentCircuitBreaker``; empty if there is none."""
        found: dict[str, Any] = self.deployment_configuration.get("deploymentCircuitBreaker") or {}
        return found

    @property
    def breaker_threshold(self) -> int:
        """How many failures in a row open the circuit breaker, by the newest desired count."""
        given = self.breaker.get("thresholdConfiguration") or {}
        kind, value = given.get("type", "BOUNDED_PERCENT"), given.get("value", _DEFAULT_PERCENT)
        if kind == "COUNT":
            return max(1, int(value))
        share: int = -(-self.desired_count * value // 100)
        if kind == "UNBOUNDED_PERCENT":
            return max(1, share)
        return min(max(share, _LEAST_THRESHOLD), _MOST_THRESHOLD)


def replace_after_s(tags: Mapping[str, str]) -> float | None:
    """Return what a service's tags say of hosts that are cut off; None if the tag has no valid value."""
    given = tags.get(REPLACE_AFTER)
    if given is None:
        return LOST_AFTER_S
    if given == NEVER:
        return math.inf
    seconds = int(given) if _SECONDS.fullmatch(given) else REPLACE_MOST_S + 1
    return float(seconds) if seconds <= REPLACE_MOST_S else None


def group(service: str) -> str:
    """Return the group of a service's tasks."""
    return f"service:{service}"


class EventRecord(_Record, frozen=True):
    """One event, as DescribeServices shows it."""

    id: str
    at: float
    message: str


class EventsRecord(_Record, frozen=True):
    """The events of a service, newest first."""

    events: list[EventRecord] = field(default_factory=list)
