"""The judge of reports must see what is wrong, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backend import oracle, shapes
from tests.backend.journal import Call


def _call(
    at: float, status: str, *, code: str = "", task: str = "t", ended: float | None = 0, **more: Any
) -> Call:
    return Call(
        "SubmitTaskStateChange",
        {"task": task, "status": status, "reason": "", **more},
        {},
        at=at,
        ended_at=at + 0.5 if ended == 0 else ended,
        status=400 if code else 200,
        code=code,
    )


def _container(status: str) -> dict[str, Any]:
    return {"containers": [{"containerName": "app", "status": status}]}


def test_a_good_life_passes() -> None:
    calls = [
        _call(1, "PENDING"),
        _call(2, "RUNNING", code="ThrottlingException", **_container("RUNNING")),
        _call(3, "RUNNING", **_container("RUNNING")),
        _call(4, "STOPPED", **_container("STOPPED")),
    ]
    assert oracle.judge(calls) == []
    assert oracle.statuses(calls, "t") == ["PENDING", "RUNNING", "STOPPED"]
    assert oracle.last_of_containers(calls, "t")["app"]["status"] == "STOPPED"


@pytest.mark.parametrize(
    ("calls", "problem"),
    [
        ([_call(1, "RUNNING"), _call(2, "PENDING")], "went back"),
        ([_call(1, "PENDING", ended=3), _call(2, "RUNNING")], "two requests"),
        ([_call(1, "PENDING", ended=None), _call(2, "RUNNING")], "two requests"),
        ([_call(1, "RUNNING", code="ServerException"), _call(2, "STOPPED")], "did not wait"),
        ([_call(1, "RUNNING"), _call(2, "RUNNING")], "repeated"),
        ([_call(1, "STOPPED"), _call(2, "STOPPED", reason="x")], "stopped 2 times"),
        ([_call(1, "STOPPED", **_container("RUNNING"))], "ahead of its containers"),
        (
            [
                _call(1, "PENDING", **_container("RUNNING")),
                _call(2, "RUNNING", **_container("PENDING")),
            ],
            "container app went back",
        ),
        ([_call(1, "RUNNING", task=str(i)) for i in range(11)], "11 requests in flight"),
    ],
)
def test_what_is_wrong_is_seen(calls: list[Call], problem: str) -> None:
    assert problem in "".join(oracle.judge(calls))


def test_a_second_life_may_repeat_and_an_invalid_report_is_let_go() -> None:
    assert oracle.judge([_call(1, "RUNNING"), _call(2, "RUNNING")], lives=2) == []
    calls = [_call(1, "RUNNING", code="InvalidParameterException"), _call(2, "STOPPED")]
    assert oracle.judge(calls) == []


@pytest.mark.parametrize(
    "stats",
    [
        {"min": 2, "max": 1, "sampleCount": 1, "sum": 1},
        {"min": 1, "max": 2, "sampleCount": 0, "sum": 0},
        {"min": 1, "max": 2, "sampleCount": 2, "sum": 9},
        {"min": True, "max": 2, "sampleCount": 2, "sum": 3},
        {"min": 1, "max": 2, "sampleCount": 2},
        {"min": 1, "max": 2, "sampleCount": 2, "sum": 3, "average": 1},
    ],
)
def test_sets_that_cannot_be_are_seen(stats: dict[str, Any]) -> None:
    assert shapes.stats_set(stats, "cpu")


def test_counters_that_overflow_pass() -> None:
    over = {"overflowMin": 0, "overflowMax": 5, "overflowSum": 5}
    assert shapes.ulong_set({"min": 1, "max": 2, "sum": 3, "sampleCount": 2, **over}, "rx") == []
    assert shapes.ulong_set({"min": -1, "max": 2, "sum": 3, "sampleCount": 2, **over}, "rx")
    assert shapes.ulong_set({"min": 1, "max": 2**63, "sum": 3, "sampleCount": 2, **over}, "rx")
