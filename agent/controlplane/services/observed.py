"""What the scheduler sees of a service: its tasks, and the hosts that they are on. Pure.

Times are control's own, because an agent's clock may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from msgspec import field as member

from agent.controlplane.loadbalancing import health
from agent.controlplane.services.balancing import Balanced

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.services.record import ServiceRecord

HEALTHY_AFTER_S = 40.0
"""How long a task without health checks must be RUNNING to count as healthy (Amazon's figure)."""
SETTLED_AFTER_S = 10.0
"""How long it must be RUNNING until its service is steady, if no other deployment waits for that (ours)."""


class SeenContainer(Struct, frozen=True, rename="camel"):
    """The fields of a ``ContainerRecord`` that the scheduler needs."""

    essential: bool = True
    health_check: bool = False


class SeenTask(Struct, frozen=True, rename="camel"):
    """The fields of a ``TaskRecord`` that the scheduler needs; others are not decoded."""

    id: str
    group: str = ""
    started_by: str = ""
    instance_id: str = ""
    desired_status: str = "RUNNING"
    last_status: str = "PENDING"
    health_status: str = "UNKNOWN"
    containers: list[SeenContainer] = member(default_factory=list)
    capacity_provider: str = ""
    availability_zone: str = ""
    created_at: float = 0.0
    ran_at: float = 0.0
    """When control first saw it RUNNING."""
    settled_at: float = 0.0
    """When control saw it STOPPED."""
    stop_code: str = ""
    stopped_reason: str = ""
    counted: bool = False
    """Whether its service has taken note of its end."""
    drains_until: float = 0.0
    """Until when it may finish its requests before its agent is told to stop it; 0 if it does not."""
    traffic: str = ""
    """Never stored: its health as a target, by all of its groups; empty if it has none (``balancing``)."""
    unhealthy_in: str = ""
    """Never stored: the ARN of a target group in which it is unhealthy."""
    is_idle: bool = False
    """Never stored: whether no listener forwards to it, so that it counts for nothing (``traffic_shift``)."""
    protected_until: float = 0.0
    """Until when it is not stopped to scale in or to replace it (``tasks.protection``)."""

    @property
    def is_wanted(self) -> bool:
        """Whether it runs, or is to run; one that is being stopped is not."""
        return self.desired_status == "RUNNING" and self.last_status != "STOPPED"

    @property
    def waits(self) -> bool:
        """Whether it waits for a host to be added (``tasks.waiting``)."""
        return not self.instance_id and self.last_status == "PROVISIONING"

    @property
    def is_running(self) -> bool:
        """Whether it counts in ``runningCount``."""
        return self.is_wanted and self.last_status == "RUNNING"

    @property
    def has_check(self) -> bool:
        """Whether an essential container has a health check."""
        return any(c.essential and c.health_check for c in self.containers)

    @property
    def fails_check(self) -> bool:
        """Whether the health check of an essential container has failed."""
        return self.has_check and self.health_status == "UNHEALTHY"

    @property
    def fails(self) -> bool:
        """Whether a health check has failed, of a container or of a target group."""
        return self.fails_check or self.traffic == health.UNHEALTHY

    @property
    def serves(self) -> bool:
        """Whether it runs, has not failed its health checks and may get requests."""
        return self.is_running and not self.fails and not self.is_idle

    def is_healthy(self, now: float) -> bool:
        """Return whether it counts as healthy for a deployment."""
        if not self.is_running or self.is_idle:
            return False
        if self.has_check and self.health_status != "HEALTHY":
            return False
        if self.traffic:
            return self.traffic == health.HEALTHY
        return self.has_check or now >= self.ran_at + HEALTHY_AFTER_S

    def has_settled(self, now: float) -> bool:
        """Return whether it counts for a steady state that no other deployment waits for.

        The time that a task without checks has to be RUNNING is there so that no other is stopped too early.
        """
        if self.has_check or self.traffic or self.is_idle:
            return self.is_healthy(now)
        return self.is_running and now >= self.ran_at + SETTLED_AFTER_S

    def is_unhealthy(self, grace_s: float, now: float) -> bool:
        """Return whether it has failed its health checks, and the grace period is over."""
        return self.is_running and self.fails and now >= self.ran_at + grace_s


@dataclass(frozen=True, slots=True)
class SeenHost:
    """A container instance; one that was deregistered is not seen."""

    id: str
    is_active: bool = True
    """False while it is DRAINING."""
    lost_since: float | None = None
    """When its agent was found to be disconnected; None while it is connected."""
    takes_daemon: bool = False
    """Whether a DAEMON service should have a task here; only known for its own step."""
    other_tasks: int = 0
    """Tasks on it that are of no DAEMON service; only known for the step of one."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """This and what is free are only known for services with placement strategies."""
    free_memory_mib: int = 0
    free_cpu_units: int = 0

    def is_lost(self, now: float, after_s: float) -> bool:
        """Return whether it has been disconnected for so long."""
        return self.lost_since is not None and now >= self.lost_since + after_s


class SeenAlarm(NamedTuple):
    """An alarm that a deployment watches."""

    is_firing: bool = False
    """Whether its state is ALARM; one without enough data is not."""
    span_s: float = 0.0
    """How long the periods are together of which its state is made."""
    exists: bool = True


@dataclass(frozen=True, slots=True)
class SeenAlarms:
    """The alarms of all services that watch some, by the figures of one minute."""

    at: float = 0.0
    """The end of that minute, in Unix seconds; 0 while no minute was looked at."""
    alarms: Mapping[str, SeenAlarm] = field(default_factory=dict)
    """By name; one that is missing was not looked at yet."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A service's tasks by id and hosts by id, both as the store has them."""

    tasks: Mapping[str, SeenTask] = field(default_factory=dict)
    """Those that are not STOPPED, and those whose end is not counted yet."""
    hosts: Mapping[str, SeenHost] = field(default_factory=dict)
    """At least every host that one of the tasks is on; for DAEMON, all of the cluster."""
    balanced: Balanced = field(default_factory=Balanced)
    """The targets that the tasks are."""
    alarms: SeenAlarms = field(default_factory=SeenAlarms)
    """Only known for services that watch some."""
    is_refused: bool = False
    """Whether RunTask refuses the primary deployment of a DAEMON service now, so that nothing can be started,
    and only hosts with a task are known."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The wanted tasks of a service, sorted by what is to become of them."""

    good: tuple[SeenTask, ...]
    """Of the primary deployment, on a host where they may stay, and not unhealthy."""
    unhealthy: tuple[SeenTask, ...]
    """Of the primary deployment, on a host where they may stay."""
    moving: tuple[SeenTask, ...]
    """Of the primary deployment, on a host that is being drained."""
    old: tuple[SeenTask, ...]
    """Of the other deployments."""
    lost: tuple[SeenTask, ...]
    """Of any deployment, on a host that is lost: nobody knows whether they run."""
    healthy: frozenset[str]
    """Ids of all that are healthy and not lost."""

    @property
    def present(self) -> int:
        """How many there are, besides those that are lost."""
        return len(self.good) + len(self.unhealthy) + len(self.moving) + len(self.old)

    def healthy_of(self, tasks: Iterable[SeenTask]) -> list[SeenTask]:
        """Return the healthy ones of some tasks."""
        return [task for task in tasks if task.id in self.healthy]

    @classmethod
    def of(cls, service: ServiceRecord, seen: Observed, now: float) -> Wanted:
        """Sort what is observed; tasks are in order of creation."""
        good: list[SeenTask] = []
        old: list[SeenTask] = []
        unhealthy, moving, lost = [], [], []
        healthy = set()
        for task in sorted(seen.tasks.values(), key=lambda t: (t.created_at, t.id)):
            if not task.is_wanted:
                continue
            if task.waits:
                (good if task.started_by == service.primary.id else old).append(task)
                continue
            host = seen.hosts.get(task.instance_id)
            if host is None or host.is_lost(now, lost_after_s(service, task)):
                lost.append(task)
                continue
            if task.is_healthy(now):
                healthy.add(task.id)
            if task.started_by != service.primary.id:
                old.append(task)
            elif not host.is_active:
                moving.append(task)
            elif task.is_unhealthy(service.grace_s or 0, now) and not (
                host.lost_since is not None and service.says_replace_after
            ):
                unhealthy.append(task)
            else:
                good.append(task)
        return cls(
            tuple(good),
            tuple(unhealthy),
            tuple(moving),
            tuple(old),
            tuple(lost),
            frozenset(healthy),
        )


def lost_after_s(service: ServiceRecord, task: SeenTask) -> float:
    """Return how long the host of a task may be cut off before the task is replaced; endless if it is kept. Pure.

    A task that was never seen to run serves nobody, so nothing is gained by waiting for its host, unless the
    operator says how long to wait. The usual case: a host is cut off, its tasks fail their health checks, and
    a replacement is placed on it before control knows.
    """
    if not task.is_running and not service.says_replace_after:
        return 0.0
    return service.replace_after_s
