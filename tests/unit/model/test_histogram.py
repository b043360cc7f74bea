"""Durations by bucket."""

from __future__ import annotations

import math

from agent.model.histogram import Histogram


def test_a_duration_counts_in_its_bucket_and_all_larger_ones() -> None:
    histogram = Histogram((0.1, 1.0))
    for duration_s in (0.1, 0.5, 7.0, -1.0):
        histogram.observe(duration_s)
    assert list(histogram.cumulative()) == [(0.1, 2), (1.0, 3), (math.inf, 4)]
    assert (histogram.count, histogram.sum_s) == (4, 7.6)
