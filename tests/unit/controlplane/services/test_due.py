"""When services are due: the earliest time counts, and those that wait cost nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.services.due import DueTimes
from agent.controlplane.services.view import ServiceKey

KEYS = [ServiceKey("default", f"s{number}") for number in range(6)]
NOTES = st.tuples(st.just("note"), st.sampled_from(KEYS), st.integers(0, 30))
DROPS = st.tuples(st.just("drop"), st.sampled_from(KEYS), st.just(0))
TAKES = st.tuples(st.just("take"), st.sampled_from(KEYS), st.integers(0, 30))


@given(st.lists(st.one_of(NOTES, DROPS, TAKES), max_size=200))
def test_they_are_what_a_table_of_the_earliest_times_would_be(
    acts: list[tuple[str, ServiceKey, int]],
) -> None:
    due, table = DueTimes(), dict[ServiceKey, float]()
    for act, key, at in acts:
        if act == "note":
            due.note(key, at)
            table[key] = min(at, table.get(key, at))
        elif act == "drop":
            due.drop(key)
            table.pop(key, None)
        else:
            late = sorted(one for one, time in table.items() if time <= at)
            assert sorted(due.take(at)) == late
            for one in late:
                del table[one]
        assert due.first() == min(table.values(), default=None)


class Counted(float):
    """A time that counts how often it is compared with another."""

    compared = 0

    def __lt__(self, other: float) -> bool:
        Counted.compared += 1
        return float(self) < other


def compared(waiting: int) -> int:
    """Return how many comparisons a turn of one service needs while others wait."""
    due = DueTimes()
    for number in range(waiting):
        due.note(ServiceKey("default", f"other{number}"), Counted(1000 + number))
    Counted.compared = 0
    for turn in range(100):
        due.note(KEYS[0], Counted(turn))
        assert due.first() == turn
        assert due.take(turn) == [KEYS[0]]
    return Counted.compared


def test_a_turn_does_not_cost_more_with_many_that_wait() -> None:
    assert compared(2000) <= 4 * compared(20)


def test_times_that_were_replaced_are_not_kept() -> None:
    due = DueTimes()
    for turn in range(10_000):
        due.drop(KEYS[0])
        due.note(KEYS[0], 1e6 + turn)
    assert len(due._heap) < 200
