"""Statistic sets: what CloudWatch keeps of many values, which is minimum, maximum, sum and count. Pure.

Sets of parts of the values merge into the set of all of them, in any order. A value that is missing
(None) or is not a number is left out, and there is no set of no values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable


class StatisticSet(Struct, frozen=True, array_like=True):
    """Values of one metric in one period; ``[min, max, sum, count]`` in JSON."""

    min: float
    max: float
    sum: float
    count: int
    """At least 1."""

    @property
    def average(self) -> float:
        """Their mean."""
        return self.sum / self.count

    def plus(self, other: StatisticSet) -> StatisticSet:
        """Return the set of the values of both."""
        return StatisticSet(
            min(self.min, other.min),
            max(self.max, other.max),
            self.sum + other.sum,
            self.count + other.count,
        )

    def times(self, factor: float) -> StatisticSet:
        """Return the set of the values, each times a factor that is not negative."""
        return StatisticSet(self.min * factor, self.max * factor, self.sum * factor, self.count)

    def repeated(self, count: int) -> StatisticSet:
        """Return the set of the values, each as often as ``count``, which is at least 1."""
        return StatisticSet(self.min, self.max, self.sum * count, self.count * count)

    def as_one(self) -> StatisticSet:
        """Return the set of one value, the mean, that keeps the extremes of all values."""
        return StatisticSet(self.min, self.max, self.average, 1)


def of(values: Iterable[float | None]) -> StatisticSet | None:
    """Return the set of the values that are numbers; None if there are none."""
    usable = [value for value in values if value is not None and math.isfinite(value)]
    total = sum(usable)
    if not usable or not math.isfinite(total):
        return None
    return StatisticSet(min(usable), max(usable), total, len(usable))


def one(value: float) -> StatisticSet:
    """Return the set of one number."""
    return StatisticSet(value, value, value, 1)


def merged(sets: Iterable[StatisticSet | None]) -> StatisticSet | None:
    """Return the set of the values of all sets; None if there are none."""
    result: StatisticSet | None = None
    for each in sets:
        if each is not None:
            result = each if result is None else result.plus(each)
    return result
