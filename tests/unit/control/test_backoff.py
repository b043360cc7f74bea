from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agent.control.backoff import RETRY_AFTER_LIMIT_S, Backoff


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
