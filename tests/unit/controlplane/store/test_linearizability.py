"""The checker of histories tells right from wrong ones."""

from __future__ import annotations

import random
from math import inf

import pytest

from tests.support.linearizability import Call, is_linearizable, wrong_key


def put(value: int, began: float, ended: float) -> Call:
    return Call("k", "put", began, ended, wrote=value)


def get(value: int | None, began: float, ended: float) -> Call:
    return Call("k", "get", began, ended, got=value)


def swap(old: int | None, new: int, began: float, ended: float, *, done: bool = True) -> Call:
    return Call("k", "swap", began, ended, wrote=new, expected=old, succeeded=done)


@pytest.mark.parametrize(
    ("calls", "is_right"),
    [
        ([], True),
        ([get(None, 0, 1), put(1, 2, 3), get(1, 4, 5)], True),
        ([put(1, 0, 1), get(None, 2, 3)], False),
        ([put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)], False),
        ([put(1, 0, 10), get(1, 1, 2), get(None, 3, 4)], False),
        ([put(1, 0, 10), get(None, 1, 2), get(1, 3, 4)], True),
        ([swap(None, 1, 0, 5), swap(None, 2, 1, 6)], False),
        ([swap(None, 1, 0, 5), swap(None, 2, 1, 6, done=False), get(1, 7, 8)], True),
        ([put(1, 0, 1), put(2, 2, inf), get(1, 3, 4), get(2, 5, 6), get(1, 7, 8)], False),
        ([put(1, 0, 1), put(2, 2, inf), get(1, 3, 4), get(2, 50, 51)], True),
        ([put(1, 0, 1), put(2, 2, inf), get(1, 30, 40)], True),
        ([put(2, 2, inf), get(2, 0, 1)], False),
        ([put(1, 0, 1), swap(1, 2, 2, inf), swap(2, 3, 5, 6), get(3, 7, 8)], True),
        ([put(1, 0, 1), swap(1, 2, 2, inf), swap(1, 3, 5, 6), get(2, 7, 8)], False),
    ],
)
def test_histories(calls: list[Call], is_right: bool) -> None:
    assert is_linearizable(calls) is is_right
    assert (wrong_key(calls) is None) is is_right


def test_what_happened_is_right_and_a_stale_read_in_it_is_not() -> None:
    source = random.Random(7)
    history: list[Call] = []
    state: int | None = None
    for number in range(400):
        at, early, late = number * 1.0, source.uniform(0, 6), source.uniform(0, 6)
        if source.random() < 0.5:
            state = number
            history.append(put(number, at - early, at + late))
        else:
            history.append(get(state, at - early, at + late))
    assert is_linearizable(history)
    history.append(get(history[0].wrote or None, 500.0, 501.0))
    assert not is_linearizable(history)
