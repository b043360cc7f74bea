from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.cli import supervise


@given(st.integers(1, 10_000), st.floats(-1, 1))
def test_the_wait_grows_to_its_limit_and_no_further(failures: int, spread: float) -> None:
    wait_s = supervise.backoff_s(failures, spread=spread)
    assert 0.9 * supervise.FIRST_WAIT_S <= wait_s <= 1.1 * supervise.LONGEST_WAIT_S
    assert supervise.backoff_s(failures, spread=0) <= supervise.backoff_s(failures + 1, spread=0)
