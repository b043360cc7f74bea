from __future__ import annotations

from email.utils import formatdate

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent.aws.clock import MOST_S, AwsClock

NOW = 1_800_000_000.0


def clock() -> AwsClock:
    return AwsClock(lambda: NOW)


@pytest.mark.parametrize("off_s", [-3600, 3600, -5 * 60, 14 * 3600])
def test_adopts_the_time_of_amazon(off_s: int) -> None:
    learning = clock()
    assert learning.learn(formatdate(NOW + off_s, usegmt=True))
    assert learning.skew_s == off_s
    assert learning.time() == NOW + off_s
    assert learning.now().timestamp() == NOW + off_s


def test_the_way_of_an_answer_is_no_skew() -> None:
    learning = clock()
    assert not learning.learn(formatdate(NOW + 3, usegmt=True))
    assert learning.skew_s == 0


def test_the_same_lesson_changes_nothing_twice() -> None:
    learning = clock()
    told = formatdate(NOW + 3600, usegmt=True)
    assert learning.learn(told)
    assert not learning.learn(told)


def test_a_host_that_is_set_right_needs_no_correction_any_more() -> None:
    times = [NOW - 3600]
    learning = AwsClock(lambda: times[-1])
    assert learning.learn(formatdate(NOW, usegmt=True))
    times.append(NOW)
    assert learning.learn(formatdate(NOW, usegmt=True))
    assert learning.skew_s == 0


@pytest.mark.parametrize(
    "told",
    [
        "",
        "soon",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        formatdate(NOW + MOST_S + 60, usegmt=True),
        "Fri, 15 Jan 99999999999999 09:00:00 GMT",
    ],
)
def test_what_is_no_date_or_absurd_changes_nothing(told: str) -> None:
    learning = clock()
    assert not learning.learn(told)
    assert learning.skew_s == 0


@given(st.text())
def test_no_text_can_break_it(told: str) -> None:
    clock().learn(told)


def test_a_server_whose_time_jumps_fills_no_log() -> None:
    learning = clock()
    with structlog.testing.capture_logs() as logs:
        for off_s in range(-50_000, 150_000, 1000):
            learning.learn(formatdate(NOW + off_s, usegmt=True))
    assert len(logs) == 1
