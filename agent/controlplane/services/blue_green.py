"""The arithmetic of a deployment with stages, before its old tasks are stopped. Pure.

- The old deployment (blue) and, from SCALE_UP on, the new one (green) each have as many tasks as the service
  wants. ``maximumPercent`` and ``minimumHealthyPercent`` hold within each of them, for tasks that are unhealthy
  or on a host that is drained. Tasks of the blue one are started first: they serve.
- The blue one is the newest that was completed. Tasks of all others were superseded, and are stopped as far as
  enough healthy ones are left.
- Without a blue one, those that were superseded are replaced by the green one as in a rolling deployment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import lifecycle, replicas, rollout
from agent.controlplane.services.observed import Observed, SeenAlarms, Wanted
from agent.controlplane.services.plan import Budget, Decision

if TYPE_CHECKING:
    from agent.controlplane.services.observed import SeenTask
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord
    from agent.controlplane.services.traffic_shift import Listeners


@dataclass(frozen=True, slots=True)
class Progress:
    """What the stages of a deployment wait for."""

    is_reconciled: bool
    """Whether only the blue and the green deployment have tasks."""
    is_scaled_up: bool
    """Whether every task of the green one is there and healthy."""
    listeners: Listeners = field(default_factory=dict)
    """As the store has them."""
    alarms: SeenAlarms = field(default_factory=SeenAlarms)


def progress(service: ServiceRecord, seen: Observed, now: float) -> Progress:
    """Return how far the primary deployment is."""
    blue = rollout.rollback_target(service)
    green = _side(service, service.primary, seen, now, keeps_others=blue is None)
    is_reconciled = blue is None or not _superseded(service, blue, seen)
    return Progress(is_reconciled, green.is_stable, seen.balanced.listeners, seen.alarms)


def decide(service: ServiceRecord, seen: Observed, now: float) -> Decision:
    """Return what to start and to stop."""
    blue = rollout.rollback_target(service)
    green = Decision()
    if lifecycle.has_scaled_up(service):
        green = _side(service, service.primary, seen, now, keeps_others=blue is None)
    if blue is None:
        return replace_fields(green, is_stable=False)
    kept = _side(service, blue, seen, now, keeps_others=False)
    others = _others(service, blue, seen, now)
    started = kept if kept.start else green
    return Decision(
        start=started.start,
        of=blue.id if kept.start else "",
        stops=(*kept.stops, *others.stops, *green.stops),
        protected=kept.protected + others.protected + green.protected,
        is_blocked=kept.is_blocked or green.is_blocked,
    )


def _side(
    service: ServiceRecord,
    deployment: DeploymentRecord,
    seen: Observed,
    now: float,
    *,
    keeps_others: bool,
) -> Decision:
    """Return the decision for one of the two, as if it were alone; with the tasks of others if it replaces them."""
    alone = replace(service, deployments=[deployment])
    tasks = {
        task_id: task
        for task_id, task in seen.tasks.items()
        if keeps_others or task.started_by == deployment.id
    }
    own = replace_fields(seen, tasks=tasks)
    return replicas.decide(alone, own, Wanted.of(alone, own, now), now)


def _superseded(service: ServiceRecord, blue: DeploymentRecord, seen: Observed) -> list[SeenTask]:
    kept = (service.primary.id, blue.id)
    found = (t for t in seen.tasks.values() if t.is_wanted and t.started_by not in kept)
    return sorted(found, key=lambda task: (task.created_at, task.id))


def _others(service: ServiceRecord, blue: DeploymentRecord, seen: Observed, now: float) -> Budget:
    """Return the stops of the tasks that were superseded."""
    wanted = Wanted.of(service, seen, now)
    there = [*wanted.good, *wanted.moving, *wanted.old]
    budget = Budget(
        healthy=len(wanted.healthy) - service.least_healthy,
        running=sum(task.serves for task in there) - service.least_healthy,
        healthy_ids=wanted.healthy,
        now=now,
    )
    budget.stop(_superseded(service, blue, seen))
    return budget
