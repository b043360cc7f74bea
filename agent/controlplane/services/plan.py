"""What one step of the scheduler wants to be done. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.services.balancing import Traffic
    from agent.controlplane.services.observed import SeenTask
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord
    from agent.controlplane.services.traffic_shift import Shift


class Why(Enum):
    """Why a task is stopped."""

    SCALING = "not needed any more, or replaced"
    UNHEALTHY = "failed its health checks"
    LOST = "its host is cut off"


@dataclass(frozen=True, slots=True)
class Stop:
    """A task to stop."""

    task: SeenTask
    why: Why = Why.SCALING


@dataclass(frozen=True, slots=True)
class Decision:
    """Which tasks the arithmetic of a service wants to start and stop."""

    start: int = 0
    """How many tasks; for DAEMON, one on each of ``hosts``."""
    hosts: tuple[str, ...] = ()
    """Ids of the hosts that get one; empty for REPLICA, where placement chooses."""
    of: str = ""
    """Id of the deployment whose tasks are started, if that is not the primary one."""
    stops: tuple[Stop, ...] = ()
    protected: int = 0
    """How many tasks would be stopped if they were not protected."""
    is_blocked: bool = False
    """Whether the percentages of the service leave no room for the next step."""
    is_refused: bool = False
    """Whether RunTask refuses what would be started."""
    is_stable: bool = False
    """Whether everything that is wanted runs, is healthy, and nothing else is there."""
    is_settled: bool = False
    """The same where there is no other deployment, with tasks that have run for a shorter time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One step for one service."""

    service: ServiceRecord
    """The record as it shall be."""
    events: tuple[str, ...] = ()
    """Texts, oldest first."""
    counted: tuple[str, ...] = ()
    """Ids of the ended tasks that are counted in ``service``."""
    stops: tuple[Stop, ...] = ()
    """Of tasks that are not targets, or get no time to finish requests."""
    traffic: Traffic | None = None
    """What to do about targets; None for nothing."""
    shifts: tuple[Shift, ...] = ()
    """Listeners that forward to other target groups."""
    start: int = 0
    hosts: tuple[str, ...] = ()
    of: str = ""
    """These as in ``Decision``."""
    replaces_unhealthy: int = 0
    """How many of the started tasks replace unhealthy ones."""
    wake_at: float | None = None
    """Unix seconds of the next moment at which time alone may change the plan; None for never."""

    @property
    def deployment(self) -> DeploymentRecord:
        """The deployment whose tasks are started."""
        found = (one for one in self.service.deployments if one.id == self.of)
        return next(found, self.service.primary)


@dataclass(slots=True)
class Budget:
    """How many more tasks may be stopped without falling below the healthy minimum."""

    healthy: int
    """Of the healthy ones."""
    running: int
    """Of all that run and are not unhealthy, those that are not healthy yet among them."""
    healthy_ids: frozenset[str]
    now: float
    protected: int = 0
    """How many tasks were not stopped because they are protected."""
    stops: list[Stop] = field(default_factory=list)

    def stop(self, tasks: Iterable[SeenTask], why: Why = Why.SCALING) -> None:
        """Stop as many of the tasks as may be, in their order, those that do not serve first."""
        for task in sorted(tasks, key=self._serves):
            if task.protected_until > self.now:
                self.protected += 1
            elif not task.serves:
                self.stops.append(Stop(task, why))
            elif self.running > 0 and (task.id not in self.healthy_ids or self.healthy > 0):
                self.running -= 1
                self.healthy -= task.id in self.healthy_ids
                self.stops.append(Stop(task, why))

    def stop_anyway(self, tasks: Iterable[SeenTask], why: Why) -> None:
        """Stop tasks that do not count as healthy."""
        self.stops.extend(Stop(task, why) for task in tasks)

    def _serves(self, task: SeenTask) -> int:
        return 2 if task.id in self.healthy_ids else int(task.serves)
