"""Alarms that make a deployment fail, and the time for which it bakes because of them. Pure.

The alarms are those that the service had when the deployment began. They are watched from the first running task of
the deployment on, and until it has baked:

- A rolling deployment bakes once it has all that it wants and the old tasks are gone.
- One with stages bakes in its stage BAKE_TIME. In CLEAN_UP, its alarms are not watched any more.

It has baked when the figures of all of that time were looked at, so that an alarm which it would set off has gone
off by then. Without ``bakeTimeInMinutes``, the time is that of the alarm whose periods are longest.

If one of the alarms is in ALARM when the deployment begins, none is watched: it may well be the deployment that mends
what the alarm is about. A rollback watches none either, because it must not fail by the alarm that has begun it.

Source: Amazon ECS developer guide, "How CloudWatch alarms detect Amazon ECS deployment failures".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.controlplane.services import rollout
from agent.controlplane.services.record import ACTIVE, IN_PROGRESS

if TYPE_CHECKING:
    from agent.controlplane.services.observed import Observed, SeenAlarms
    from agent.controlplane.services.record import AlarmWatch, ServiceRecord


class Known(NamedTuple):
    """What is known of the alarms of a deployment, as far as its next step depends on it."""

    firing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Those that do not exist."""
    has_baked: bool = False


def watched(service: ServiceRecord) -> AlarmWatch | None:
    """Return the alarms that the primary deployment of a service watches now; None for none."""
    if service.status != ACTIVE or not service.deployments:
        return None
    primary = service.primary
    watch, stages = primary.alarms, primary.lifecycle
    is_over = primary.rollout_state != IN_PROGRESS
    is_over = is_over or (stages is not None and stages.stage == "CLEAN_UP")
    return None if watch is None or watch.already or is_over else watch


def known(service: ServiceRecord, alarms: SeenAlarms) -> Known:
    """Return what is known of the alarms of a service; nothing if it watches none."""
    watch = watched(service)
    if watch is None or alarms.at <= watch.since:
        return Known()
    seen = {name: alarms.alarms[name] for name in watch.names if name in alarms.alarms}
    began, bake_s = _baking(service, watch)
    return Known(
        tuple(name for name, one in seen.items() if one.is_firing),
        tuple(name for name, one in seen.items() if not one.exists),
        bool(began) and has_baked(service, alarms, began, bake_s),
    )


def with_alarms(
    service: ServiceRecord, seen: Observed, now: float
) -> tuple[ServiceRecord, list[str]]:
    """Return the service and its events after a look at its alarms: one in ALARM makes the deployment fail."""
    firing = known(service, seen.alarms).firing
    own = (task for task in seen.tasks.values() if task.started_by == service.primary.id)
    if not firing or not any(task.ran_at or task.is_running for task in own):
        return service, []
    return rollout.alarmed(service, firing, now)


def has_baked(service: ServiceRecord, alarms: SeenAlarms, began: float, bake_s: float) -> bool:
    """Return whether the figures of all of the bake time were looked at; True if no alarm is watched.

    Args:
        service: whose primary deployment bakes.
        alarms: what is known of alarms.
        began: when it began to bake; Unix seconds.
        bake_s: for how long; 0 for as long as its alarms need.
    """
    watch = watched(service)
    if watch is None:
        return True
    seen = [alarms.alarms.get(name) for name in watch.names]
    spans = [one.span_s for one in seen if one is not None]
    if len(spans) < len(seen) or alarms.at <= watch.since:
        return False
    return alarms.at >= began + (bake_s or max(spans, default=0.0))


def baked(
    service: ServiceRecord, alarms: SeenAlarms, *, is_stable: bool, now: float
) -> tuple[ServiceRecord, bool]:
    """Return the service, and whether its deployment is completed if it is stable: it bakes from then on."""
    watch = watched(service)
    if watch is None or not is_stable:
        return service, is_stable
    if not watch.steady_at:
        primary = replace(service.primary, alarms=replace(watch, steady_at=now))
        return replace(service, deployments=[primary, *service.deployments[1:]]), False
    return service, has_baked(service, alarms, watch.steady_at, 0.0)


def _baking(service: ServiceRecord, watch: AlarmWatch) -> tuple[float, float]:
    """Return since when the primary deployment bakes, and how long; 0 and 0 if it does not."""
    stages = service.primary.lifecycle
    if stages is None:
        return watch.steady_at, 0.0
    return (stages.since, stages.bake_s) if stages.stage == "BAKE_TIME" else (0.0, 0.0)
