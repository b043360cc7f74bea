from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import statistics
from agent.model.statistics import StatisticSet

VALUES = st.lists(st.integers(0, 2**40) | st.none(), max_size=30)


@given(st.lists(VALUES, max_size=8))
def test_sets_of_parts_merge_into_the_set_of_all(parts: list[list[int | None]]) -> None:
    whole = statistics.of(value for part in parts for value in part)
    assert statistics.merged(statistics.of(part) for part in parts) == whole
    assert statistics.merged(statistics.of(part) for part in reversed(parts)) == whole


@given(*[st.lists(st.integers(0, 2**40), min_size=1, max_size=9)] * 3)
def test_merging_is_associative(one: list[int], other: list[int], third: list[int]) -> None:
    a, b, c = statistics.of(one), statistics.of(other), statistics.of(third)
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.plus(b).plus(c) == a.plus(b.plus(c))
    assert a.plus(b) == b.plus(a)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_what_a_set_says(values: list[int]) -> None:
    found = statistics.of(values)
    assert found == StatisticSet(min(values), max(values), sum(values), len(values))
    assert found is not None
    assert min(values) <= found.average <= max(values)
    alone = found.as_one()
    assert (alone.min, alone.max, alone.average, alone.count) == (
        found.min,
        found.max,
        found.average,
        1,
    )


@pytest.mark.parametrize("values", [[], [None], [math.nan, math.inf], [1e308, 1e308]])
def test_no_set_without_numbers(values: list[float | None]) -> None:
    assert statistics.of(values) is None


def test_on_the_wire_it_is_four_numbers() -> None:
    assert msgspec.json.encode(StatisticSet(1.5, 2.5, 4.0, 2)) == b"[1.5,2.5,4.0,2]"
    assert msgspec.json.decode(b"[1, 2, 3, 2]", type=StatisticSet) == StatisticSet(1, 2, 3, 2)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=9), st.integers(1, 50))
def test_a_repeated_set_is_the_set_of_the_repeated_values(values: list[int], count: int) -> None:
    once = statistics.of(values)
    assert once is not None
    assert once.repeated(count) == statistics.of(values * count)
