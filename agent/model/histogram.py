"""A histogram of durations: counts by bucket, as Prometheus has them.

Tests: ``tests/unit/model/test_histogram.py``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Histogram:
    """Durations in seconds, counted in buckets of fixed bounds; belongs to one event loop."""

    __slots__ = ("_counts", "bounds_s", "count", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        """Begin with nothing observed.

        Args:
            bounds_s: upper bounds of the buckets, ascending; each includes its bound.
        """
        self.bounds_s = bounds_s
        self.count = 0
        """How many durations were observed."""
        self.sum_s = 0.0
        """Their sum."""
        self._counts = array("Q", bytes(8 * (len(bounds_s) + 1)))

    def observe(self, duration_s: float) -> None:
        """Count one duration; a negative one counts as 0."""
        duration_s = max(0.0, duration_s)
        self._counts[bisect_left(self.bounds_s, duration_s)] += 1
        self.count += 1
        self.sum_s += duration_s

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each bound with the number of durations up to it; the last bound is infinity."""
        total = 0
        for bound_s, count in zip((*self.bounds_s, float("inf")), self._counts, strict=True):
            total += count
            yield bound_s, total
