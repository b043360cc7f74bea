from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.upstream.backoff import RETRY_AFTER_LIMIT_S, Backoff, OutageBackoff


def test_doubles_up_to_its_limit_and_begins_anew() -> None:
    backoff = Backoff(0.25, 30.0, random.Random(1))
    waits = [backoff.next_s() for _ in range(12)]
    for number, wait in enumerate(waits):
        whole = min(0.25 * 2**number, 30.0)
        assert whole / 2 <= wait <= whole
    backoff.reset()
    assert backoff.next_s() <= 0.25


def test_goes_on_for_ever() -> None:
    backoff = Backoff(0.25, 30.0)
    assert all(backoff.next_s() <= 30.0 for _ in range(5000))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_waits_as_long_as_asked_within_reason(asked_s: float) -> None:
    wait_s = Backoff(0.25, 30.0).next_s(asked_s)
    assert 0.0 < wait_s <= RETRY_AFTER_LIMIT_S * 1.1
    if 1.0 < asked_s <= RETRY_AFTER_LIMIT_S:
        assert wait_s >= asked_s


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def returns(away_s: float, dice: random.Random) -> tuple[float, int]:
    """How long after the other end one agent is back, and how often it tried in vain."""
    clock = Clock()
    outage = OutageBackoff(clock=clock, dice=dice)
    began, tries = clock.now_s, 0
    while True:
        clock.now_s += outage.next_s()
        if clock.now_s - began >= away_s:
            return clock.now_s - began - away_s, tries
        tries += 1


@pytest.mark.parametrize("away_s", [0.3, 1.0, 2.0, 8.0, 30.0, 60.0])
def test_a_fleet_is_back_soon_after_a_short_outage_and_not_all_at_once(away_s: float) -> None:
    dice = random.Random(20261129)
    fleet = [returns(away_s, dice) for _ in range(1000)]
    late = sorted(late_s for late_s, _ in fleet)
    assert late[-1] <= 2.0
    busiest = max(sum(at <= other < at + 0.1 for other in late) for at in late[::7])
    assert busiest <= 150, "of a thousand agents, in one tenth of a second"
    assert sum(tries for _, tries in fleet) <= 1000 * (away_s + 1)


@pytest.mark.parametrize(("away_s", "longest_s"), [(120.0, 4.1), (600.0, 20.7), (86400.0, 30.0)])
def test_waits_grow_with_the_time_that_the_other_end_was_away(
    away_s: float, longest_s: float
) -> None:
    late_s, tries = zip(*(returns(away_s, random.Random(n)) for n in range(100)), strict=True)
    assert max(late_s) <= longest_s
    assert max(tries) < 4000


def test_the_end_of_a_long_connection_is_no_reason_to_hurry() -> None:
    """A poll that was held when control died: all of a fleet lose theirs in one moment."""
    first = [OutageBackoff(clock=Clock()).next_s(took_s=25.0) for _ in range(500)]
    assert sum(wait_s > 0.5 for wait_s in first) > 150


def test_an_outage_that_is_over_begins_anew() -> None:
    clock = Clock()
    outage = OutageBackoff(clock=clock)
    for _ in range(1000):
        clock.now_s += outage.next_s()
    assert outage.next_s() > 10.0
    outage.over()
    assert outage.next_s() <= 1.0


def test_a_try_that_took_long_has_been_waited_for() -> None:
    """A host that answers nothing at all costs a try its whole deadline: that spaces tries too."""
    outage = OutageBackoff(clock=Clock())
    outage.next_s()
    assert all(outage.next_s(took_s=3.0) <= 0.25 for _ in range(100))
    assert all(0.4 <= outage.next_s(took_s=0.6) <= 1.4 for _ in range(100))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_an_outage_is_waited_out_as_long_as_asked_within_reason(asked_s: float) -> None:
    wait_s = OutageBackoff(clock=Clock()).next_s(asked_s)
    assert 0.0 <= wait_s <= RETRY_AFTER_LIMIT_S * 1.1
    if 1.0 < asked_s <= RETRY_AFTER_LIMIT_S:
        assert wait_s >= asked_s
