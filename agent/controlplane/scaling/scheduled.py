"""When scheduled actions are due, and what they make of a target. Pure.

An action has the time up to which it was done. Of several times that have passed since, as after an outage, only the last
counts: an action sets limits, and the newest limits are those that hold now.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.controlplane.schedules import expressions

if TYPE_CHECKING:
    from agent.controlplane.scaling.target import ScalableTarget, ScheduledAction
    from agent.controlplane.schedules.expressions import Expression

_JUST_BEFORE_S = 1e-6
"""Of a start time, which is itself a time at which an action may be due."""


class Due(NamedTuple):
    """An action whose time has come."""

    at: float
    action: ScheduledAction


@functools.lru_cache(maxsize=1024)
def _parsed(schedule: str) -> Expression:
    return expressions.parse(schedule)


def next_time(action: ScheduledAction, after: float) -> float:
    """Return when an action is due next, after a time; infinity for never.

    Raises:
        ExpressionInvalid: the schedule or the time zone is not valid.
    """
    found = expressions.next_after(
        _parsed(action.schedule),
        max(after, action.start_at - _JUST_BEFORE_S),
        expressions.zone(action.zone),
        base=_base(action),
    )
    if found is None or (action.end_at and found > action.end_at):
        return math.inf
    return found


def _base(action: ScheduledAction) -> float:
    """Return from where a rate counts, in whole seconds, so that multiples of the rate are exact."""
    if action.start_at > action.created_at:
        return float(math.ceil(action.start_at))
    return float(math.floor(action.created_at))


def next_due(target: ScalableTarget) -> float:
    """Return when the next action of a target is due, or was; infinity for never."""
    return min((next_time(one, one.done_at) for one in target.actions), default=math.inf)


def passed(target: ScalableTarget, now: float) -> list[Due]:
    """Return the actions whose time has come, each with its last time, in order of these."""
    found = [(_last_passed(action, now), action) for action in target.actions]
    due = [Due(at, action) for at, action in found if at is not None]
    return sorted(due, key=lambda one: one.at)


def _last_passed(action: ScheduledAction, now: float) -> float | None:
    """Return the last time that has come since an action was done; None if none has.

    Halves what is left to search at each step: after an outage of a month, an action of each minute has 40000 times.
    """
    last = next_time(action, action.done_at)
    if last > now:
        return None
    none_behind = now
    while (following := next_time(action, last)) <= now:
        middle = (last + none_behind) / 2
        later = next_time(action, middle)
        if later <= now:
            last = later
        else:
            last, none_behind = following, middle
    return last


def with_done(target: ScalableTarget, due: Due) -> ScalableTarget:
    """Return the target with an action recorded as done; its limits stay as they are."""
    done = replace(due.action, done_at=due.at)
    actions = [done if one.name == done.name else one for one in target.actions]
    return replace(target, actions=actions)


def with_limits(target: ScalableTarget, due: Due) -> ScalableTarget | None:
    """Return the target with the limits of an action; None if the least would be above the most."""
    low, high = target.limits(due.action)
    if low > high:
        return None
    return replace(with_done(target, due), min_capacity=low, max_capacity=high)
