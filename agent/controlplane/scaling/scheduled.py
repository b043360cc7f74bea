"""When scheduled actions are due, and what they make of a target. Pure.

An action has the time up to which it was done. Of several times that have passed since, as after an outage, only the last
counts: an action sets limits, and the newest limits are those that hold now.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.controlplane.schedules import expressions

if TYPE_CHECKING:
    from agent.controlplane.scaling.target import ScalableTarget, ScheduledAction

_PASSED_MOST = 1000
"""Times that are looked at to find the last one; of more, the others follow at once."""


class Due(NamedTuple):
    """An action whose time has come."""

    at: float
    action: ScheduledAction


def next_time(action: ScheduledAction, after: float) -> float:
    """Return when an action is due behind a time; endless if never."""
    base = max(action.start_at, action.created_at)
    found = expressions.next_after(
        expressions.parse(action.schedule),
        max(after, action.start_at - 1),
        expressions.zone(action.zone),
        base=base,
    )
    if found is None or (action.end_at and found > action.end_at):
        return math.inf
    return found


def next_due(target: ScalableTarget) -> float:
    """Return when the next action of a target is due, or was; endless if never."""
    return min((next_time(one, one.done_at) for one in target.actions), default=math.inf)


def passed(target: ScalableTarget, now: float) -> list[Due]:
    """Return the actions whose time has come, each with its last time, in order of these."""
    found: list[Due] = []
    for action in target.actions:
        last = None
        at = next_time(action, action.done_at)
        for _ in range(_PASSED_MOST):
            if at > now:
                break
            last, at = at, next_time(action, at)
        if last is not None:
            found.append(Due(last, action))
    return sorted(found, key=lambda due: due.at)


def with_done(target: ScalableTarget, due: Due) -> ScalableTarget:
    """Return the target with an action done, as far as the action was to change nothing."""
    done = replace(due.action, done_at=due.at)
    actions = [done if one.name == done.name else one for one in target.actions]
    return replace(target, actions=actions)


def with_limits(target: ScalableTarget, due: Due) -> ScalableTarget | None:
    """Return the target with the limits of an action; None if the least would be above the most."""
    action = due.action
    low = target.min_capacity if action.min_capacity is None else action.min_capacity
    high = target.max_capacity if action.max_capacity is None else action.max_capacity
    if low > high:
        return None
    return replace(with_done(target, due), min_capacity=low, max_capacity=high)
