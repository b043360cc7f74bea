"""When a failed pull is tried again: only where it helps, and later where a registry counts requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.images import retries
from agent.images.failure_kind import FailureKind

USELESS = [FailureKind.ABSENT, FailureKind.FINAL, FailureKind.ENGINE, FailureKind.NO_SPACE]


@pytest.mark.parametrize("kind", USELESS)
def test_what_another_try_cannot_change_is_final(kind: FailureKind) -> None:
    assert retries.pause_s(kind, 1, "", 0.0) is None


def test_trouble_is_tried_five_times_at_growing_intervals() -> None:
    pauses = [retries.pause_s(FailureKind.TROUBLE, n, "EOF", 0.0) for n in range(1, 6)]
    assert pauses == [1.1, 2.2, 4.4, 5.0, None]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("toomanyrequests: You have reached your pull rate limit", 10.0),
        ("toomanyrequests: retry-after: 30s, allowed: 44000/minute", 30.0),
        ("toomanyrequests: retry-after: 285.747\N{MICRO SIGN}s, allowed: 44000/minute", 1.1),
        ("429 Too Many Requests, Retry-After: 42", 42.0),
        ("toomanyrequests: retry-after: 6h", 120.0),
    ],
)
def test_a_registry_that_counts_requests_says_when(text: str, seconds: float) -> None:
    assert retries.pause_s(FailureKind.LIMITED, 1, text, 0.0) == seconds


@given(st.sampled_from(list(FailureKind)), st.integers(1, 9), st.text(max_size=60), st.floats(0, 1))
def test_a_pause_is_never_longer_than_two_minutes_and_a_bit(
    kind: FailureKind, failed: int, text: str, chance: float
) -> None:
    pause = retries.pause_s(kind, failed, f"retry-after: {text}", chance)
    assert pause is None or 1.1 <= pause <= 120 * 1.2
