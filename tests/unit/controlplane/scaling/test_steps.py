"""Step scaling and its alarms."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.scaling import steps
from agent.controlplane.scaling.alarm import AlarmRecord, State, evaluate
from agent.controlplane.scaling.decision import Seen, decide
from agent.controlplane.scaling.figures import Values
from agent.controlplane.scaling.steps import Firing
from agent.controlplane.scaling.target import STEPS, Policy, Scaled
from agent.controlplane.scaling.tracking import Way
from agent.model.statistics import one
from tests.unit.controlplane.scaling.conftest import AT, NOW, policy, steady, target


def stepped(*adjustments: tuple[float | None, float | None, int], **more: Any) -> Policy:
    """A step scaling policy with steps of lower bound, upper bound and adjustment."""
    names = ("MetricIntervalLowerBound", "MetricIntervalUpperBound", "ScalingAdjustment")
    given_steps = [
        {name: value for name, value in zip(names, step, strict=True) if value is not None}
        for step in adjustments
    ]
    return Policy(
        name="steps",
        id="steps",
        type=STEPS,
        configuration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": given_steps,
            **more,
        },
    )


UP = stepped((0, 10, 1), (10, 20, 2), (20, None, 5))
DOWN = stepped((None, -20, -2), (-20, 0, -1))


@pytest.mark.parametrize(
    ("scaled", "delta", "wanted"),
    [
        (UP, 0.0, 5),
        (UP, 9.9, 5),
        (UP, 10.0, 6),
        (UP, 20.0, 9),
        (UP, -1.0, None),
        (DOWN, -5.0, 3),
        (DOWN, -20.0, 2),
        (DOWN, -99.0, 2),
        (DOWN, 0.0, None),
    ],
)
def test_the_step_of_a_difference(scaled: Policy, delta: float, wanted: int | None) -> None:
    found = steps.wish(scaled, [Firing("a", delta, True)], base=4, desired=4)
    assert (None if found.way is Way.STAY else found.wanted) == wanted


@pytest.mark.parametrize(
    ("count", "percent", "least", "wanted"),
    [
        (10, 25, 0, 12),  # 2.5 is two
        (10, 5, 0, 11),  # half a task is one
        (10, -5, 0, 9),
        (10, -25, 0, 8),
        (10, 5, 3, 13),
        (10, -5, 3, 7),
        (10, 50, 3, 15),
        (10, 0, 3, 10),
        (0, 50, 3, 0),
    ],
)
def test_percentages(count: int, percent: int, least: int, wanted: int) -> None:
    configuration = {"AdjustmentType": "PercentChangeInCapacity", "MinAdjustmentMagnitude": least}
    assert steps.adjusted(configuration, percent, count) == wanted


def test_an_exact_count() -> None:
    exact = stepped((0, None, 7), AdjustmentType="ExactCapacity")
    found = steps.wish(exact, [Firing("a", 1.0, True)], base=4, desired=4)
    assert (found.way, found.wanted) == (Way.OUT, 7)
    found = steps.wish(exact, [Firing("a", 1.0, True)], base=9, desired=9)
    assert (found.way, found.wanted) == (Way.IN, 7)


def test_missing_figures_never_scale_in() -> None:
    for scaled in (DOWN, stepped((None, 0, 1), AdjustmentType="ExactCapacity")):
        found = steps.wish(scaled, [Firing("a", -5.0, False)], base=4, desired=4)
        assert found.way is Way.STAY


def decided(delta: float, desired: int, *others: Policy, **more: Any) -> int | None:
    firing = {"steps": [Firing("hot", delta, True)]}
    scaled = target(UP if delta >= 0 else DOWN, *others, **more)
    figures = {"cpu": steady(48.0)}
    found = decide(scaled, Seen(desired), figures, AT, NOW, firing)
    return None if found is None or found.not_scaled else found.wanted


def test_cooldowns_limits_and_other_policies() -> None:
    assert decided(12.0, 4) == 6
    assert decided(12.0, 4, high=5) == 5
    assert decided(-30.0, 4) == 2
    assert decided(-30.0, 4, low=3) == 3
    cooling = Scaled(at=NOW - 5, cooldown_s=300, base=4)
    assert decided(12.0, 6, last_out=cooling) is None, "two were added already"
    assert decided(25.0, 6, last_out=cooling) == 9
    assert decided(-30.0, 4, last_in=cooling) is None
    assert decided(-30.0, 4, policy("cpu")) is None, "target tracking does not want that"
    assert decided(12.0, 4, policy("cpu")) == 6
    found = decide(target(UP), Seen(4), {}, AT, NOW, {"steps": [Firing("hot", 1.0, True)]})
    assert found is not None
    assert found.target.last_out is not None
    assert found.target.last_out.cooldown_s == 300


def alarm(**changed: Any) -> AlarmRecord:
    values: dict[str, Any] = {
        "name": "hot",
        "cluster": "default",
        "service": "shop",
        "namespace": "AWS/ECS",
        "metric": "CPUUtilization",
        "statistic": "Average",
        "period_s": 60,
        "periods": 3,
        "datapoints": 2,
        "threshold": 70.0,
        "comparison": "GreaterThanThreshold",
    }
    return AlarmRecord(**(values | changed))


def state(alarm_: AlarmRecord, *values: float | None) -> State:
    """The state with figures of the last minutes, the newest last."""
    minutes = {
        AT - ago: Values(one(value), True)
        for ago, value in enumerate(reversed(values))
        if value is not None
    }
    return evaluate(alarm_, minutes, AT).state


@pytest.mark.parametrize(
    ("changed", "values", "expected"),
    [
        ({}, (80, 10, 80), State.ALARM),
        ({}, (80, 10, 10), State.OK),
        ({}, (80, None, 80), State.ALARM),
        ({}, (None, None, 80), State.OK),
        ({}, (None, None, None), State.UNKNOWN),
        ({"treat_missing": "breaching"}, (None, None, 10), State.ALARM),
        ({"treat_missing": "notBreaching"}, (None, None, None), State.OK),
        ({"comparison": "LessThanOrEqualToThreshold"}, (70, 70, 99), State.ALARM),
        ({"comparison": "GreaterThanOrEqualToThreshold"}, (70, 70, 9), State.ALARM),
        ({"period_s": 120, "periods": 1, "datapoints": 1}, (99, 60, 81), State.ALARM),
        ({"period_s": 120, "periods": 1, "datapoints": 1}, (99, 60, 79), State.OK),
        ({"statistic": "SampleCount", "threshold": 0.5}, (1, 1, 1), State.ALARM),
    ],
)
def test_the_state_of_an_alarm(
    changed: dict[str, Any], values: tuple[float | None, ...], expected: State
) -> None:
    assert state(alarm(**changed), *values) is expected


def test_an_alarm_says_whether_figures_were_missing() -> None:
    def whole(**known: Values) -> bool:
        return evaluate(
            alarm(), {AT - int(ago[1:]): each for ago, each in known.items()}, AT
        ).is_whole

    good, part = Values(one(5.0), True), Values(one(5.0), False)
    assert whole(m0=good, m1=good, m2=good)
    assert not whole(m0=good, m1=good)
    assert not whole(m0=good, m1=part, m2=good)


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True).map(sorted),
    st.floats(-99, 99),
)
def test_steps_without_gaps_have_one_step_for_each_difference(
    edges: list[int], delta: float
) -> None:
    ends = [None, *edges, None]
    names = ("MetricIntervalLowerBound", "MetricIntervalUpperBound")
    made = [
        {n: v for n, v in zip(names, pair, strict=True) if v is not None} | {"ScalingAdjustment": 1}
        for pair in itertools.pairwise(ends)
    ]
    found = steps.step_of(made, delta)
    assert found is not None
    low, high = steps.bounds(found)
    assert low <= delta <= high
