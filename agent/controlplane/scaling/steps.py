"""What one step scaling policy wants, by its alarms. Pure.

Source: Application Auto Scaling user guide, "How step scaling works", "Scaling adjustment types".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.controlplane.scaling.tracking import Way, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.scaling.target import Policy

CHANGE, PERCENT, EXACT = "ChangeInCapacity", "PercentChangeInCapacity", "ExactCapacity"
ADJUSTMENTS = (CHANGE, PERCENT, EXACT)


class Firing(NamedTuple):
    """An alarm in the state ALARM that starts the policy."""

    alarm: str
    delta: float
    """By how much the figure is above the threshold; negative below."""
    is_whole: bool
    """Whether no figures were missing; otherwise nothing is scaled in."""


def wish(policy: Policy, firing: Iterable[Firing], *, base: int, desired: int) -> Wish:
    """Return what a policy wants: of several alarms, the one that gives most tasks.

    Args:
        policy: the policy.
        firing: its alarms.
        base: the count that is raised; during the cooldown of a scale-out, that before it.
        desired: the count that is wanted now, which is lowered.
    """
    wishes = [_wish(policy, one, base, desired) for one in firing]
    return max(
        (one for one in wishes if one.way is not Way.STAY),
        key=lambda one: one.wanted,
        default=Wish(Way.STAY),
    )


def _wish(policy: Policy, firing: Firing, base: int, desired: int) -> Wish:
    step = step_of(policy.configuration["StepAdjustments"], firing.delta)
    if step is None:
        return Wish(Way.STAY)
    raised = adjusted(policy.configuration, step["ScalingAdjustment"], base)
    if raised > base:
        return Wish(Way.OUT, raised, firing.alarm)
    lowered = adjusted(policy.configuration, step["ScalingAdjustment"], desired)
    if lowered < desired and firing.is_whole:
        return Wish(Way.IN, max(0, lowered), firing.alarm)
    return Wish(Way.STAY)


def step_of(steps: Iterable[Mapping[str, Any]], delta: float) -> Mapping[str, Any] | None:
    """Return the step of a difference from the threshold.

    Above it, a lower bound belongs to its step; below it, an upper bound does.
    """
    for step in steps:
        low, high = bounds(step)
        if low <= delta < high if delta >= 0 else low < delta <= high:
            return step
    return None


def bounds(step: Mapping[str, Any]) -> tuple[float, float]:
    """Return the bounds of a step."""
    return (
        step.get("MetricIntervalLowerBound", -math.inf),
        step.get("MetricIntervalUpperBound", math.inf),
    )


def adjusted(configuration: Mapping[str, Any], adjustment: int, count: int) -> int:
    """Return a count after an adjustment.

    Of a percentage, less than one task is a whole one, and more is cut to whole ones.
    """
    kind = configuration["AdjustmentType"]
    if kind == EXACT:
        return adjustment
    if kind == CHANGE:
        return count + adjustment
    change = count * adjustment / 100
    whole = math.trunc(change) if abs(change) >= 1 else round(math.copysign(1, change))
    if not change:
        whole = 0
    least = configuration.get("MinAdjustmentMagnitude", 0)
    if whole and abs(whole) < least:
        whole = round(math.copysign(least, whole))
    return count + whole
