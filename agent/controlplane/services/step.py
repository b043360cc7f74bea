"""One step of one service: what to change, to stop and to start now. Pure.

The same record, observation and time give the same plan. A plan that changes nothing has no events and
no acts, so the loop ends by itself; ``wake_at`` says when time alone may change that.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import (
    balancing,
    blue_green,
    daemons,
    deployment_alarms,
    failures,
    lifecycle,
    replicas,
    rollout,
    traffic_shift,
    wording,
)
from agent.controlplane.services.observed import (
    HEALTHY_AFTER_S,
    SETTLED_AFTER_S,
    Observed,
    Wanted,
    lost_after_s,
)
from agent.controlplane.services.plan import Decision, Plan, Stop, Why
from agent.controlplane.services.record import (
    COMPLETED,
    DRAINING,
    IN_PROGRESS,
    INACTIVE,
    Notice,
    ServiceRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.controlplane.services.traffic_shift import Shifts

REPEAT_NOTICE_S = 6 * 3600.0
"""After this time an event is repeated, even though its cause lasts."""
STOP_BATCH = 20
START_BATCH = 20
"""How many tasks one step stops or starts at most: each is one transaction."""
COUNT_BATCH = 40


def step(service: ServiceRecord, seen: Observed, now: float) -> Plan:
    """Return what to do for a service now.

    Args:
        service: its record.
        seen: its tasks and hosts, not older than the record.
        now: Unix seconds.
    """
    if service.status == INACTIVE:
        return Plan(service)
    before = service
    service, counted = failures.count(service, _bounded(service, seen), now)
    if service.status == DRAINING:
        return _drained(before, service, seen, counted, now)
    service, events = rollout.with_breaker(service, now)
    service, alarmed = deployment_alarms.with_alarms(service, seen, now)
    events += alarmed
    if service.is_daemon and not seen.is_refused:
        service = replace(service, desired_count=len(daemons.target_hosts(seen)))
    if lifecycle.is_staged(service):
        progress = blue_green.progress(service, seen, now)
        service, reached = lifecycle.advanced(service, progress, now)
        events += reached
    seen = _with_idle(service, seen)
    wanted = Wanted.of(service, seen, now)
    decision = _decide(service, seen, wanted, now)
    shifts = traffic_shift.decide(service, seen.balanced.listeners)
    if shifts.changes:  # nothing that may still serve is stopped before its traffic is elsewhere
        decision = replace_fields(decision, stops=(), is_stable=False, is_settled=False)
    if decision.is_stable:
        service = failures.at_rest(service)
    is_steady = decision.is_stable or decision.is_settled
    service, is_done = deployment_alarms.baked(service, seen.alarms, is_stable=is_steady, now=now)
    service, completed = rollout.with_completion(service, is_stable=is_done, now=now)
    events += completed
    if service.primary.id == before.primary.id:  # else, its end is first told to ``rollouts``
        service = rollout.without_gone(service, seen)
    most = balancing.batch(service, seen, STOP_BATCH)
    traffic, stops = balancing.decide(decision.stops[:most], seen, counted, most, now)
    events += balancing.events(service, traffic, stops, seen)
    events += _stop_events(service, (*traffic.drained, *stops), seen)
    events += wording.shifted(service.name, service.primary.id, shifts.changes)
    service, noticed = _noticed(service, decision, seen, shifts, now)
    events += noticed
    return Plan(
        _turned(before, service, bool(counted or stops or traffic or shifts.changes), now),
        events=tuple(events),
        counted=tuple(counted),
        stops=stops,
        traffic=traffic or None,
        shifts=shifts.changes,
        start=min(decision.start, START_BATCH),
        hosts=decision.hosts[:START_BATCH],
        of=decision.of,
        replaces_unhealthy=len(wanted.unhealthy),
        wake_at=min(_times(service, seen, now), default=None),
    )


def _bounded(service: ServiceRecord, seen: Observed) -> Observed:
    """Return the observation with only as many ended tasks as one transaction can count."""
    ended = [t for t in seen.tasks.values() if t.last_status == "STOPPED" and not t.counted]
    most = balancing.batch(service, seen, COUNT_BATCH)
    if len(ended) <= most:
        return seen
    later = {task.id for task in sorted(ended, key=lambda t: (t.created_at, t.id))[most:]}
    kept = {task_id: task for task_id, task in seen.tasks.items() if task_id not in later}
    return replace_fields(seen, tasks=kept)


def _with_idle(service: ServiceRecord, seen: Observed) -> Observed:
    """Return the observation with the tasks marked that get no traffic."""
    idle = traffic_shift.idle(service) if service.deployments else ()
    if not idle:
        return seen
    tasks = {
        task_id: replace(task, is_idle=True) if task.started_by in idle else task
        for task_id, task in seen.tasks.items()
    }
    return replace_fields(seen, tasks=tasks)


def _decide(service: ServiceRecord, seen: Observed, wanted: Wanted, now: float) -> Decision:
    if service.is_daemon:
        return daemons.decide(service, seen, now)
    if lifecycle.is_staged(service):
        return blue_green.decide(service, seen, now)
    return replicas.decide(service, seen, wanted, now)


def _drained(
    before: ServiceRecord, service: ServiceRecord, seen: Observed, counted: list[str], now: float
) -> Plan:
    """Return the plan for a deleted service: stop everything; INACTIVE when all is being stopped."""
    left = [task for task in seen.tasks.values() if task.is_wanted]
    most = balancing.batch(service, seen, STOP_BATCH)
    wanted = [Stop(task) for task in sorted(left, key=lambda t: t.id)[:most]]
    traffic, stops = balancing.decide(wanted, seen, counted, most, now, is_deleted=True)
    events = balancing.events(service, traffic, stops, seen)
    is_draining = any(t.drains_until and t.last_status != "STOPPED" for t in seen.tasks.values())
    if not left and not is_draining and not traffic:
        service = replace(service, status=INACTIVE, inactive_at=now)
    return Plan(
        _turned(before, service, bool(counted or stops or traffic), now),
        events=(*events, *_stop_events(service, (*traffic.drained, *stops), seen)),
        counted=tuple(counted),
        stops=stops,
        traffic=traffic or None,
        wake_at=min((at for at in balancing.times(seen) if at > now), default=None),
    )


def _turned(before: ServiceRecord, service: ServiceRecord, acts: bool, now: float) -> ServiceRecord:
    """Return the record with a new turn if there is something to do or to change."""
    if service == before and not acts:
        return before
    return replace(service, turn=before.turn + 1)


def _stop_events(service: ServiceRecord, stops: Sequence[Stop], seen: Observed) -> list[str]:
    events = [
        wording.failed_health_checks(service.name, stop.task.id)
        for stop in stops
        if stop.why is Why.UNHEALTHY and stop.task.fails_check
    ]
    after_s = service.replace_after_s
    lost: dict[str, list[str]] = {}
    unheard: dict[str, list[str]] = {}
    for stop in stops:
        host = seen.hosts.get(stop.task.instance_id)
        if stop.why is Why.LOST and lost_after_s(service, stop.task) == after_s:
            lost.setdefault(stop.task.instance_id, []).append(stop.task.id)
        elif host is not None and host.lost_since is not None:
            unheard.setdefault(stop.task.instance_id, []).append(stop.task.id)
    events += [
        wording.replaces_lost(service.name, host, ids, after_s) for host, ids in lost.items()
    ]
    events += [wording.stops_unheard(service.name, host, ids) for host, ids in unheard.items()]
    others = [stop.task for stop in stops if stop.why is not Why.LOST]
    running = [task.id for task in others if task.is_running]
    if running:
        events.append(wording.has_stopped(service.name, running))
    if len(others) > len(running):
        events.append(wording.stopped_pending(service.name, len(others) - len(running)))
    return events


def _noticed(
    service: ServiceRecord, decision: Decision, seen: Observed, shifts: Shifts, now: float
) -> tuple[ServiceRecord, list[str]]:
    """Return the service and the events of what lasts: each once, and again after six hours."""
    name, primary = service.name, service.primary
    is_steady = decision.is_stable or decision.is_settled
    is_steady = is_steady and primary.rollout_state == COMPLETED
    is_impaired = primary.throttle.level >= failures.IMPAIRED_LEVEL
    protected = decision.protected
    paused = lifecycle.waiting(primary)
    problem = seen.balanced.problem
    unknown = deployment_alarms.known(service, seen.alarms).unknown
    already = primary.alarms.already if primary.alarms is not None else []
    is_unwatched = bool(already) and primary.rollout_state == IN_PROGRESS
    events: list[str] = []
    for kind, holds, message in (
        (wording.IMPAIRED, is_impaired, wording.is_impaired(name)),
        (wording.BLOCKED, decision.is_blocked, wording.is_blocked(name)),
        (wording.PROTECTED, protected, wording.is_protected(name, primary.id, protected)),
        (wording.PAUSED, paused, wording.is_paused(name, primary.id, paused)),
        (wording.UNREGISTERED, bool(problem), wording.cannot_register(name, problem)),
        (wording.UNSHIFTED, bool(shifts.problem), wording.cannot_shift(name, shifts.problem)),
        (wording.UNWATCHED, is_unwatched, wording.is_unwatched(name, primary.id, already)),
        (wording.UNKNOWN_ALARM, bool(unknown), wording.unknown_alarms(name, primary.id, unknown)),
        (wording.STEADY, is_steady, wording.is_steady(name)),
    ):
        service, told = notice(service, kind, message if holds else "", now)
        events += told
    if not (decision.start or decision.is_refused) and wording.PLACEMENT in service.notices:
        service, _ = notice(service, wording.PLACEMENT, "", now)
    return service, events


def notice(
    service: ServiceRecord, kind: str, message: str, now: float
) -> tuple[ServiceRecord, list[str]]:
    """Return the service and the event, if it is new or old enough; an empty message ends the cause."""
    known = service.notices.get(kind)
    others = {name: value for name, value in service.notices.items() if name != kind}
    if not message:
        return (service if known is None else replace(service, notices=others)), []
    if known is not None and known.message == message and now < known.at + REPEAT_NOTICE_S:
        return service, []
    return replace(service, notices=others | {kind: Notice(message=message, at=now)}), [message]


def _times(service: ServiceRecord, seen: Observed, now: float) -> Iterator[float]:
    """Yield the later moments at which the plan may be another one."""
    grace_s = service.grace_s or 0
    moments = [one.throttle.until for one in service.deployments]
    moments += lifecycle.moments(service)
    for task in seen.tasks.values():
        moments.append(task.protected_until)
        if not task.is_running:
            continue
        if not task.has_check and not task.traffic:
            moments += (task.ran_at + SETTLED_AFTER_S, task.ran_at + HEALTHY_AFTER_S)
        elif task.fails:
            moments.append(task.ran_at + grace_s)
    moments += balancing.times(seen)
    used = Counter(task.instance_id for task in seen.tasks.values() if task.is_wanted)
    moments += [
        host.lost_since + service.replace_after_s
        for host_id in used
        if (host := seen.hosts.get(host_id)) is not None and host.lost_since is not None
    ]
    steady = service.notices.get(wording.STEADY)
    if steady is not None:
        moments.append(steady.at + REPEAT_NOTICE_S)
    yield from (moment for moment in moments if now < moment < math.inf)
