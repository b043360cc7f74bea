from __future__ import annotations

from agent.engine.clock import Clock, ClockWatch


def test_only_a_clock_that_is_set_is_noticed_and_once() -> None:
    wall, steady = 1_700_000_000.0, 5.0
    watch = ClockWatch(Clock(wall=lambda: wall, steady=lambda: steady))
    wall, steady = wall + 1000, steady + 1000
    assert watch.was_set_by() == 0
    wall -= 0.3
    assert watch.was_set_by() == 0
    wall -= 0.3
    assert round(watch.was_set_by(), 3) == -0.6, "slewing adds up and is caught up with"
    assert watch.was_set_by() == 0
    wall += 7200
    assert watch.was_set_by() == 7200
