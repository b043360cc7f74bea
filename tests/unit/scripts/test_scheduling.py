"""Which file a worker of the whole run is given next."""

from __future__ import annotations

from tests.support.scheduling import begins_with_computing, next_file

UNIT = ["tests/unit/a.py", "tests/unit/b.py"]
INTEGRATION = ["tests/integration/a.py", "tests/integration/b.py"]


def test_a_fourth_of_the_workers_begin_with_what_computes() -> None:
    for workers, expected in ((1, 0), (3, 0), (4, 1), (5, 1), (11, 2)):
        assert sum(begins_with_computing(n, workers) for n in range(workers)) == expected


def test_each_kind_comes_in_its_order_and_the_other_fills_up_the_end() -> None:
    for computing, expected in ((True, UNIT + INTEGRATION), (False, INTEGRATION + UNIT)):
        left, given = INTEGRATION + UNIT, []
        while left:
            given.append(next_file(left, computing=computing))
            left.remove(given[-1])
        assert given == expected
