"""What one target tracking policy wants, by the figures of the last minutes. Pure.

Two alarms watch the figure, as on AWS: the high one needs three minutes in a row above the target value, the low one
fifteen in a row below 90 per cent of it. A minute without a figure is in no row.

The new count is in proportion: the count that would bring the figure to the target value, rounded up. For fewer tasks,
the highest of the fifteen minutes is taken, so that each of them would have stayed at the target or below.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.scaling.target import Policy

HIGH_MINUTES = 3
LOW_MINUTES = 15
LOW_SHARE = 0.9
"""The low alarm's threshold, by the target value."""


class Minute(NamedTuple):
    """The figure of one minute."""

    value: float
    is_whole: bool = True
    """Whether it is of all tasks that ran; otherwise it is not a reason for fewer tasks."""


class Way(Enum):
    """What a policy wants."""

    OUT = "out"
    STAY = "stay"
    IN = "in"
    UNKNOWN = "unknown"
    """Figures are missing."""


class Wish(NamedTuple):
    """What a policy wants, and the count, which means nothing for STAY and UNKNOWN."""

    way: Way
    wanted: int = 0
    alarm: str = ""


def low_threshold(policy: Policy) -> float:
    """Return the threshold of the low alarm."""
    return LOW_SHARE * float(policy.configuration["TargetValue"])


def wish(
    policy: Policy, minutes: Mapping[int, Minute], at: int, *, base: int, desired: int
) -> Wish:
    """Return what a target tracking policy wants.

    Args:
        policy: the policy.
        minutes: the figures.
        at: the last minute that is closed.
        base: the count that the figures are of, for more tasks.
        desired: the count that is wanted now, for fewer.
    """
    target = float(policy.configuration["TargetValue"])
    last = _row(minutes, at, HIGH_MINUTES)
    if last and all(each.value > target for each in last):
        return Wish(Way.OUT, _proportional(base, last[-1].value, target), policy.high_alarm)
    row = _row(minutes, at, LOW_MINUTES)
    if not row or not all(each.is_whole for each in row):
        return Wish(Way.UNKNOWN)
    highest = max(each.value for each in row)
    if highest < low_threshold(policy):
        return Wish(Way.IN, _proportional(desired, highest, target), policy.low_alarm)
    return Wish(Way.STAY)


def _proportional(count: int, value: float, target: float) -> int:
    # A float such as 3.0000000000000004 is three tasks.
    return math.ceil(round(count * value / target, 6))


def _row(minutes: Mapping[int, Minute], at: int, length: int) -> list[Minute]:
    """Return a number of minutes up to one, in order; empty if one of them is missing."""
    wanted = range(at - length + 1, at + 1)
    return [minutes[each] for each in wanted] if all(each in minutes for each in wanted) else []
