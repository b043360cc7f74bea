"""The arithmetic of a REPLICA service: how many tasks to start, and which to stop. Pure.

- New tasks are of the primary deployment, and there are never more than ``most_running`` by the
  scheduler's own doing. Tasks that are being stopped do not count.
- A protected task is neither stopped to scale in nor to replace it.
- A task that is not needed is stopped if it is not running, or if enough others remain: never fewer
  healthy ones than ``least_healthy`` (nor fewer running ones, if none is healthy yet).
- An unhealthy task is stopped once its replacement is healthy; if there is no room for a replacement,
  one after the other is stopped first.
- Tasks on a host that is cut off count for nothing. They most likely run, so they are stopped only when others
  have taken their place: hosts that were all cut off, as by control's own network, come back with their tasks.
- With a capacity provider strategy, the tasks that are left after scaling in follow it, so a task that is not
  healthy yet may stay in favour of a healthy one of another capacity provider. What a capacity provider lacks
  is started as far as ``most_running`` has room, even if there are as many tasks as are wanted; one of a capacity
  provider that has too many is then stopped.
- A deployment that FAILED starts nothing, and nothing is stopped in its favour. Hosts that are being drained
  are still left, as far as enough tasks remain elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.services import scale_in, split
from agent.controlplane.services.plan import Budget, Decision, Why
from agent.controlplane.services.record import FAILED

if TYPE_CHECKING:
    from agent.controlplane.services.observed import Observed, SeenTask, Wanted
    from agent.controlplane.services.record import ServiceRecord


def decide(service: ServiceRecord, seen: Observed, wanted: Wanted, now: float) -> Decision:
    """Return what to start and to stop.

    Args:
        service: the record; its failures are counted.
        seen: tasks and hosts.
        wanted: the same tasks, sorted.
        now: Unix seconds.
    """
    has_failed = service.primary.rollout_state == FAILED
    room = service.most_running - wanted.present
    needed = 0 if has_failed else _needed(service, wanted, room)
    is_throttled = now < service.primary.throttle.until
    start = 0 if is_throttled else max(0, min(needed, room))
    budget = _budget(service, wanted, now)
    replaced = [*wanted.old, *wanted.moving]
    budget.stop([task for task in replaced if _leaves(seen, task)] if has_failed else replaced)
    _scale_in(service, seen, wanted, budget)
    coming = [task for task in wanted.good if task.id not in wanted.healthy]
    if not has_failed:
        budget.stop_anyway(
            _unhealthy(service, wanted, room=room, is_coming=bool(coming)), Why.UNHEALTHY
        )
    budget.stop_anyway(_replaced(service, wanted), Why.LOST)
    waits_for_room = needed > 0 and room <= 0 and not is_throttled
    return Decision(
        start=start,
        stops=tuple(budget.stops),
        protected=budget.protected,
        is_blocked=waits_for_room and not (budget.stops or coming or budget.protected),
        is_stable=needed == 0 and _is_stable(service, wanted),
        is_settled=needed == 0 and _is_settled(service, wanted, now),
    )


def _needed(service: ServiceRecord, wanted: Wanted, room: int) -> int:
    """Return how many tasks are to be started, now or once there is room."""
    missing = split.missing(service.primary, service.desired_count, wanted.good)
    return max(service.desired_count - len(wanted.good), min(missing, room), 0)


def _leaves(seen: Observed, task: SeenTask) -> bool:
    """Return whether a task's host is being drained."""
    host = seen.hosts.get(task.instance_id)
    return host is not None and not host.is_active


def _budget(service: ServiceRecord, wanted: Wanted, now: float) -> Budget:
    serving = [*wanted.good, *wanted.moving, *wanted.old]
    running = sum(task.serves for task in serving)
    least = service.least_healthy
    return Budget(
        healthy=len(wanted.healthy) - least,
        running=running - least,
        healthy_ids=wanted.healthy,
        now=now,
    )


def _scale_in(service: ServiceRecord, seen: Observed, wanted: Wanted, budget: Budget) -> None:
    excess = len(wanted.good) - service.desired_count
    if excess <= 0:
        return
    free = [task for task in wanted.good if task.protected_until <= budget.now]
    coming = [task for task in free if task.id not in wanted.healthy]
    surplus = split.surplus(service.primary, service.desired_count, wanted.good)
    budget.protected += split.held_back(excess, free, surplus)
    first = split.within(coming[::-1], surplus, excess)
    if surplus is not None:
        surplus.subtract(task.capacity_provider for task in first)
    healthy = wanted.healthy_of(free)
    left = excess - len(first)
    chosen: list[SeenTask] = healthy
    if left < len(healthy) or surplus is not None:
        allowed = min(left, max(0, budget.healthy))
        chosen = scale_in.choose(
            healthy,
            allowed,
            strategies=service.placement_strategy,
            hosts=seen.hosts,
            surplus=surplus,
        )
    budget.stop([*first, *chosen])


def _unhealthy(
    service: ServiceRecord, wanted: Wanted, *, room: int, is_coming: bool
) -> tuple[SeenTask, ...]:
    """Return the unhealthy tasks that are stopped now."""
    if len(wanted.healthy) >= service.desired_count:
        return wanted.unhealthy
    if room <= 0 and not is_coming:
        return wanted.unhealthy[:1]
    return ()


def _replaced(service: ServiceRecord, wanted: Wanted) -> list[SeenTask]:
    """Return the tasks on hosts that are cut off that are not needed any more, other deployments' first."""
    missing = max(0, service.desired_count - len(wanted.good))
    lost = sorted(wanted.lost, key=lambda task: task.started_by == service.primary.id)
    return lost[: max(0, len(lost) - missing)]


def _is_stable(service: ServiceRecord, wanted: Wanted) -> bool:
    healthy = len(wanted.healthy_of(wanted.good))
    return _has_only(wanted) and len(wanted.good) == healthy == service.desired_count


def _is_settled(service: ServiceRecord, wanted: Wanted, now: float) -> bool:
    """Return whether all run, where no other deployment, hook or load balancer waits for their health."""
    settled = sum(task.has_settled(now) for task in wanted.good)
    return (
        len(service.deployments) == 1
        and service.primary.lifecycle is None
        and not service.primary.load_balancers
        and _has_only(wanted)
        and len(wanted.good) == settled == service.desired_count
    )


def _has_only(wanted: Wanted) -> bool:
    """Return whether all tasks are of the primary deployment and may stay."""
    return not (wanted.unhealthy or wanted.moving or wanted.old or wanted.lost)
