"""How long a run waits depends on the machine, within bounds."""

from __future__ import annotations

from tests.chaos.run import patience


def test_a_slow_machine_gets_more_time_but_not_for_ever() -> None:
    assert patience(1.0) == 1.0
    assert patience(16.0) == 2.0
    assert patience(1000.0) == 5.0
