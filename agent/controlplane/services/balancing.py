"""Tasks of a service as targets of its target groups: what to register, to drain and to take out. Pure.

A task is registered once it is RUNNING. It counts as healthy once it is healthy in all of its groups, or, while no
ingress looks at them, by its containers alone. Before it is stopped, it is taken out of its groups: it then has the
desired status STOPPED, but its agent is told only when its requests are finished, or the longest delay of its
groups is over. One on a host that is cut off is taken out at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.loadbalancing import health
from agent.controlplane.services import wording
from agent.controlplane.services.plan import Stop, Why

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.controlplane.loadbalancing.balancer_records import TargetRecord
    from agent.controlplane.loadbalancing.balancer_view import SeenTarget
    from agent.controlplane.services.observed import Observed, SeenTask
    from agent.controlplane.services.record import ServiceRecord
    from agent.controlplane.services.traffic_shift import Listeners

_OPS_MOST = 96
"""Of all that one transaction does to tasks with targets."""


@dataclass(frozen=True, slots=True)
class Balanced:
    """The targets of a service's tasks, as the scheduler sees them."""

    targets: Mapping[str, Sequence[SeenTarget]] = field(default_factory=dict)
    """By task id; of every task that is a target."""
    places: Mapping[str, Sequence[TargetRecord]] = field(default_factory=dict)
    """What to register, by the id of each running task that is not a target yet, or no longer one."""
    problem: str = ""
    """Why one of these tasks cannot be registered, for an event."""
    delays_s: Mapping[str, int] = field(default_factory=dict)
    """The deregistration delay of each group that a target is in, by its ARN."""
    listeners: Listeners = field(default_factory=dict)
    """Those that the service may shift traffic with, by the ARNs of their rules."""

    def delay_s(self, task_id: str) -> int:
        """Return how long a task may finish its requests."""
        return max((self._delay_s(each) for each in self.targets.get(task_id, ())), default=0)

    def withdrawn(self, task_id: str, now: float) -> list[tuple[SeenTarget, TargetRecord]]:
        """Return the targets that a task is, as they are and as they are out of use."""
        return [
            (each, each.target.draining(now + self._delay_s(each)))
            for each in self.targets.get(task_id, ())
            if not each.target.drains_until
        ]

    def _delay_s(self, seen: SeenTarget) -> int:
        return self.delays_s.get(seen.target.group_arn, 0)


@dataclass(frozen=True, slots=True)
class Drain:
    """A task that is stopped once its requests are finished."""

    stop: Stop
    until: float
    """When it is stopped at the latest; Unix seconds."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is done about targets."""

    registers: tuple[TargetRecord, ...] = ()
    drains: tuple[Drain, ...] = ()
    """Tasks that are taken out of use, and stopped later."""
    leaves: tuple[SeenTask, ...] = ()
    """Tasks that are being stopped by others: their targets are taken out of use."""
    withdraws: tuple[tuple[SeenTarget, TargetRecord], ...] = ()
    """The targets of ``drains`` and ``leaves``, as they are and as they shall be."""
    releases: tuple[SeenTask, ...] = ()
    """Tasks that have finished their requests: their agents are told to stop them."""
    removes: tuple[SeenTarget, ...] = ()
    """Targets that are deleted, of tasks that are stopped or about to be."""

    @property
    def drained(self) -> tuple[Stop, ...]:
        """The stops of ``drains``."""
        return tuple(drain.stop for drain in self.drains)

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.registers or self.drains or self.leaves or self.releases or self.removes)


def batch(service: ServiceRecord, seen: Observed, most: int) -> int:
    """Return how many tasks of each kind one step may act on, so that it is one transaction."""
    groups = [len(each.load_balancers) for each in service.deployments]
    groups += [len(targets) for targets in seen.balanced.targets.values()]
    count = max(groups, default=0)
    names = max((each.names_count for each in service.deployments), default=0)
    if count:
        return min(most, max(1, _OPS_MOST // (5 * (count + 2) + 2 * names)))
    return min(most, _OPS_MOST // (3 + names)) if names > 1 else most


def with_health(task: SeenTask, targets: Sequence[SeenTarget], *, is_balanced: bool) -> SeenTask:
    """Return a task with what its targets say about its health; nothing, while no ingress looks at them.

    Args:
        task: the task.
        targets: what it is.
        is_balanced: whether its deployment has load balancers.
    """
    if not is_balanced and not targets:
        return task
    states = [each.health.state for each in targets]
    if health.UNHEALTHY in states:
        arn = targets[states.index(health.UNHEALTHY)].target.group_arn
        return replace(task, traffic=health.UNHEALTHY, unhealthy_in=arn)
    looked_at = [each for each in targets if not each.health.is_unknowable]
    if targets and not looked_at:
        return task
    is_healthy = bool(targets) and all(each.health.state == health.HEALTHY for each in looked_at)
    return replace(task, traffic=health.HEALTHY if is_healthy else health.INITIAL)


def decide(
    stops: Iterable[Stop],
    seen: Observed,
    counted: Iterable[str],
    most: int,
    now: float,
    *,
    is_deleted: bool = False,
) -> tuple[Traffic, tuple[Stop, ...]]:
    """Return what to do about targets, and those of the stops that are done at once.

    Args:
        stops: what the arithmetic wants to stop.
        seen: tasks, hosts and targets.
        counted: ids of the tasks whose end is counted now.
        most: of each kind.
        now: Unix seconds.
        is_deleted: whether the service is, and nobody will count the ends of its tasks.
    """
    balanced = seen.balanced
    stops = list(stops)
    drains = [
        Drain(stop, now + balanced.delay_s(stop.task.id))
        for stop in stops
        if _drains(stop, balanced)
    ]
    at_once = tuple(stop for stop in stops if not _drains(stop, balanced))
    releases, leaves = _stopping(seen, now)
    releases, leaves = releases[:most], leaves[:most]
    gone = [stop.task.id for stop in at_once]
    gone += [*(task.id for task in releases), *counted]
    if is_deleted:
        gone += [task.id for task in leaves]
        leaves = []
    leaving = [*(drain.stop.task.id for drain in drains), *(task.id for task in leaves)]
    removes = [each for task_id in gone for each in balanced.targets.get(task_id, ())]
    # All targets of a task are registered at once: with only some, it would not be looked at again.
    stopping = {stop.task.id for stop in stops}
    new = [task_id for task_id in sorted(balanced.places) if task_id not in stopping][:most]
    return (
        Traffic(
            registers=tuple(each for id_ in new for each in balanced.places[id_]),
            drains=tuple(drains),
            leaves=tuple(leaves),
            withdraws=tuple(pair for id_ in leaving for pair in balanced.withdrawn(id_, now)),
            releases=tuple(releases),
            removes=tuple(removes),
        ),
        at_once,
    )


def _stopping(seen: Observed, now: float) -> tuple[list[SeenTask], list[SeenTask]]:
    """Return the tasks that have finished their requests, and those that others stop, by id."""
    releases: list[SeenTask] = []
    leaves: list[SeenTask] = []
    for task in sorted(seen.tasks.values(), key=lambda each: each.id):
        if task.desired_status != "STOPPED" or task.last_status == "STOPPED":
            continue
        targets = seen.balanced.targets.get(task.id, ())
        if task.drains_until:
            if now >= task.drains_until or all(each.is_drained for each in targets):
                releases.append(task)
        elif any(not each.target.drains_until for each in targets):
            leaves.append(task)
    return releases, leaves


def times(seen: Observed) -> list[float]:
    """Return the moments at which requests that are being finished are cut off; Unix seconds."""
    return [task.drains_until for task in seen.tasks.values() if task.last_status != "STOPPED"]


def events(
    service: ServiceRecord, traffic: Traffic, stops: Iterable[Stop], seen: Observed
) -> list[str]:
    """Return the events of what is done about targets; ``stops`` are those that are done at once."""
    name, targets = service.name, seen.balanced.targets
    told = []
    registered = Counter(each.group_arn for each in traffic.registers)
    told += [wording.registered(name, count, arn) for arn, count in registered.items()]
    for stop in (*traffic.drained, *stops):
        if stop.why is Why.UNHEALTHY and not stop.task.fails_check:
            told += _unhealthy(name, stop.task, targets.get(stop.task.id, ()))
    taken = [each for each, _ in traffic.withdraws]
    # Targets of tasks that were taken out of use before were told then.
    taken += [each for each in traffic.removes if not each.target.drains_until]
    deregistered = Counter(each.target.group_arn for each in taken)
    told += [wording.deregistered(name, count, arn) for arn, count in deregistered.items()]
    if traffic.drains:
        told.append(wording.begins_draining(name, len(traffic.drains)))
    return told


def _drains(stop: Stop, balanced: Balanced) -> bool:
    return (
        stop.why is not Why.LOST
        and stop.task.is_running
        and bool(balanced.targets.get(stop.task.id))
        and balanced.delay_s(stop.task.id) > 0
    )


def _unhealthy(service: str, task: SeenTask, targets: Sequence[SeenTarget]) -> list[str]:
    return [
        wording.failed_balancer_checks(
            service, task.id, each.target.port, each.target.group_arn, each.health.description
        )
        for each in targets
        if each.health.state == health.UNHEALTHY
    ]
