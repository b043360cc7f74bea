from __future__ import annotations

from typing import Any

import pytest

from agent.engine.overlay import overlay


@pytest.mark.parametrize(
    ("base", "top", "result"),
    [
        ({"A": 1}, {"A": 2}, {"A": 2}),
        ({"A": 1}, {"a": 2}, {"A": 2}),
        ({"A": 1}, {"A": None}, {"A": 1}),
        ({"A": [1]}, {"A": None}, {}),
        ({"A": {"x": 1}}, {"a": None}, {}),
        ({"A": [1, 2]}, {"A": [3]}, {"A": [3]}),
        ({"A": {"x": 1, "y": 2}}, {"A": {"Y": 3, "z": 4}}, {"A": {"x": 1, "y": 3, "z": 4}}),
        ({}, {"new": 1, "NEW": 2}, {"new": 2}),
        ({"A": 1}, {"A": {"x": 1}}, {"A": {"x": 1}}),
        ({}, {"gone": None}, {}),
    ],
)
def test_overlay(base: dict[str, Any], top: dict[str, Any], result: dict[str, Any]) -> None:
    overlay(base, top)
    assert base == result


def test_names_that_we_decide_upon_get_one_spelling() -> None:
    base: dict[str, Any] = {}
    overlay(base, {"privileged": True, "X": 1}, spelling=("Privileged",))
    assert base == {"Privileged": True, "X": 1}
