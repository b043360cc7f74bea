"""Lines that are logged now and then, and rates of many addresses."""

from __future__ import annotations

import structlog

from agent.listening.rates import RateLimits
from agent.throttle import LOG_EVERY_S, LogThrottle


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_line_in_ten_seconds_of_each_kind_counts_the_others() -> None:
    clock = Clock()
    log = LogThrottle(clock)
    with structlog.testing.capture_logs() as lines:
        for number in range(1000):
            log.note("not an HTTP request", peer=str(number))
        log.note("another kind")
        clock.now += LOG_EVERY_S
        log.note("not an HTTP request", peer="last")
    assert [(line["event"], line["more_before"]) for line in lines] == [
        ("not an HTTP request", 0),
        ("another kind", 0),
        ("not an HTTP request", 999),
    ]
    assert [line.get("peer") for line in lines] == ["0", None, "last"]


def test_an_address_has_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    rates = RateLimits(2, 5, clock)
    assert [rates.take("a") for _ in range(7)] == [True] * 5 + [False] * 2
    clock.now += 1.0
    assert [rates.take("a") for _ in range(3)] == [True, True, False]
    assert rates.take("b"), "another address has its own"


def test_all_addresses_together_have_no_more_than_four() -> None:
    rates = RateLimits(1, 5, Clock())
    assert sum(rates.take(f"10.0.0.{number}") for number in range(200)) == 4 * 5


def test_addresses_without_end_take_no_memory_without_end() -> None:
    clock = Clock()
    rates = RateLimits(1, 5, clock)
    for number in range(20_000):
        rates.take(str(number))
    assert len(rates) <= 4096
    clock.now += 60
    assert rates.take("one more")
