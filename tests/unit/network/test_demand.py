"""How many sandboxes are kept: enough for the demand, never more than memory allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.network.demand import (
    FORGOTTEN_S,
    GAP_S,
    HALF_LIFE_S,
    MEMORY_SHARE,
    SANDBOX_BYTES,
    Demand,
    most_for,
)

GAPS = st.lists(st.floats(0, 5000), min_size=1, max_size=60)


def after(gaps: list[float]) -> tuple[Demand, float]:
    demand, now = Demand(), 100.0
    for gap in gaps:
        now += gap
        demand = demand.launched(now)
    return demand, now


def test_a_mode_that_nobody_uses_has_no_sandbox() -> None:
    assert Demand().wanted(1e6, least=4, most=100) == 0


def test_after_a_burst_there_are_as_many_as_it_had_launches() -> None:
    demand, now = after([0.1] * 90)

    assert demand.wanted(now, least=4, most=100) == 90
    assert demand.wanted(now + HALF_LIFE_S, least=4, most=100) == 45


def test_single_launches_keep_only_what_is_configured() -> None:
    demand, now = after([GAP_S + 1] * 50)

    assert demand.wanted(now, least=4, most=100) == 4


def test_memory_limits_even_what_is_configured() -> None:
    demand, now = after([0.1] * 90)

    assert most_for(2 * SANDBOX_BYTES * MEMORY_SHARE + 1) == 2
    assert demand.wanted(now, least=4, most=2) == 2
    assert demand.wanted(now, least=4, most=0) == 0


@given(
    gaps=GAPS,
    later=st.floats(0, 10 * FORGOTTEN_S),
    least=st.integers(0, 9),
    most=st.integers(0, 99),
)
def test_the_number_stays_within_bounds_and_only_falls_without_launches(
    gaps: list[float], later: float, least: int, most: int
) -> None:
    demand, now = after(gaps)

    at_once = demand.wanted(now, least=least, most=most)
    then = demand.wanted(now + later, least=least, most=most)

    assert 0 <= then <= at_once <= most
    assert at_once <= max(least, len(gaps))
    if not least or later >= FORGOTTEN_S:
        assert then == 0


@given(gaps=GAPS)
def test_a_larger_burst_never_asks_for_less(gaps: list[float]) -> None:
    demand, now = after(gaps)

    assert demand.launched(now).level(now) >= demand.level(now)
