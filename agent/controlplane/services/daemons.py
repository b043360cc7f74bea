"""The arithmetic of a DAEMON service: one task on each host that takes it. Pure.

- A host has at most one task of the service. In an update, the old task is stopped before the new one is
  started; ``minimumHealthyPercent`` says how many hosts keep theirs meanwhile.
- On a host that is being drained, daemons are stopped last, together.
- On a host that is cut off, nothing is changed: nothing else could run there.
- A deployment that FAILED, or that RunTask refuses, starts nothing, and nothing is stopped in its favour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.services.plan import Budget, Decision, Stop, Why
from agent.controlplane.services.record import FAILED

if TYPE_CHECKING:
    from agent.controlplane.services.observed import Observed, SeenTask
    from agent.controlplane.services.record import ServiceRecord


def target_hosts(seen: Observed) -> set[str]:
    """Return the ids of the hosts that should have a task."""
    return {host.id for host in seen.hosts.values() if host.takes_daemon}


def decide(service: ServiceRecord, seen: Observed, now: float) -> Decision:
    """Return on which hosts to start a task, and which tasks to stop."""
    targets = target_hosts(seen)
    on_host: dict[str, list[SeenTask]] = {}
    for task in sorted(seen.tasks.values(), key=lambda t: (t.created_at, t.id)):
        if task.is_wanted:
            on_host.setdefault(task.instance_id, []).append(task)
    has_failed = service.primary.rollout_state == FAILED or seen.is_refused
    reachable = {host.id for host in seen.hosts.values() if host.lost_since is None}
    budget = _budget(service, on_host, targets, now)
    extra: list[Stop] = []
    for host_id, tasks in on_host.items():
        host = seen.hosts.get(host_id)
        if host is None or host_id not in reachable:
            continue
        if host_id not in targets:
            if host.is_active or not host.other_tasks:
                extra.extend(Stop(task) for task in tasks)
            continue
        extra.extend(_surplus(service, tasks, now))
        if not has_failed:
            budget.stop(task for task in tasks if task.started_by != service.primary.id)
    is_held = has_failed or now < service.primary.throttle.until
    free = sorted(host for host in targets & reachable if host not in on_host)
    starts = () if is_held else tuple(free)
    return Decision(
        start=len(starts),
        hosts=starts,
        stops=(*extra, *budget.stops),
        protected=budget.protected,
        is_refused=seen.is_refused,
        is_stable=not seen.is_refused and _is_stable(service, on_host, targets, now),
    )


def _surplus(service: ServiceRecord, tasks: list[SeenTask], now: float) -> list[Stop]:
    """Return the stops of tasks of the primary deployment that a host should not have."""
    own = [task for task in tasks if task.started_by == service.primary.id]
    unhealthy = [task for task in own if task.is_unhealthy(service.grace_s or 0, now)]
    fine = [task for task in own if task not in unhealthy]
    return [*(Stop(task, Why.UNHEALTHY) for task in unhealthy), *(Stop(task) for task in fine[1:])]


def _budget(
    service: ServiceRecord, on_host: dict[str, list[SeenTask]], targets: set[str], now: float
) -> Budget:
    tasks = [task for host in targets for task in on_host.get(host, ())]
    healthy = frozenset(task.id for task in tasks if task.is_healthy(now))
    running = sum(task.serves for task in tasks)
    least = service.least_healthy
    return Budget(
        healthy=len(healthy) - least, running=running - least, healthy_ids=healthy, now=now
    )


def _is_stable(
    service: ServiceRecord, on_host: dict[str, list[SeenTask]], targets: set[str], now: float
) -> bool:
    if set(on_host) != targets:
        return False
    return all(
        len(tasks) == 1 and tasks[0].started_by == service.primary.id and tasks[0].is_healthy(now)
        for tasks in on_host.values()
    )
