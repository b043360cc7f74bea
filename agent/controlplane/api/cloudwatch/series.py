"""Points of the metric store in the periods of a request. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.controlplane.metric_store.file import Point
    from agent.model.statistics import StatisticSet

STATISTICS: Final[Mapping[str, Callable[[StatisticSet], float]]] = {
    "SampleCount": lambda values: float(values.count),
    "Average": lambda values: values.average,
    "Sum": lambda values: values.sum,
    "Minimum": lambda values: values.min,
    "Maximum": lambda values: values.max,
}
MINUTE_S: Final = 60
DAY_S: Final = 24 * 3600
_SHORT_S: Final = frozenset({1, 5, 10, 20, 30})


class Window(Struct, frozen=True):
    """The time of a request: from a whole minute to an end that is not included. Unix seconds."""

    start: int
    end: float

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Window:
        """Return the time of a request, whose start is rounded down to a minute, as on CloudWatch."""
        start = request["StartTime"]
        return cls(int(start - start % MINUTE_S), request["EndTime"])

    def points(self, period_s: int) -> int:
        """Return how many periods it has, the last one perhaps in part."""
        return max(0, -int(-(self.end - self.start) // period_s))


def is_period(seconds: int) -> bool:
    """Return whether CloudWatch has such a period."""
    return seconds in _SHORT_S or (seconds % MINUTE_S == 0 and MINUTE_S <= seconds <= DAY_S)


def in_periods(points: Iterable[Point], window: Window, period_s: int) -> dict[int, StatisticSet]:
    """Return the values of each period that has some, by its first second, in order of time."""
    found: dict[int, StatisticSet] = {}
    for point in points:
        at = point.at * MINUTE_S
        begun = at - (at - window.start) % period_s
        known = found.get(begun)
        found[begun] = point.values if known is None else known.plus(point.values)
    return found
