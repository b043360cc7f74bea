"""What target tracking does, minute by minute, with a clock of its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.scaling import decision as decisions
from agent.controlplane.scaling.decision import Decision, Seen, decide
from agent.controlplane.scaling.target import ScalableTarget, Scaled, Suspended
from agent.controlplane.scaling.tracking import Minute
from tests.unit.controlplane.scaling.conftest import AT, NOW, policy, steady, target


def decided(
    scaled: ScalableTarget, desired: int, now: float = NOW, *, at: int = AT, **figures: Any
) -> Decision | None:
    return decide(scaled, Seen(desired), figures, at, now)


def wanted(*arguments: Any, **figures: Any) -> int | None:
    found = decided(*arguments, **figures)
    return None if found is None or found.not_scaled else found.wanted


@pytest.mark.parametrize(
    ("value", "minutes", "expected"),
    [
        (80.0, 3, 7),  # 4 * 80 / 50 = 6.4
        (80.0, 2, None),  # two minutes are too few
        (50.0, 15, None),  # not above the target
        (50.1, 3, 5),
        (500.0, 3, 20),  # the most of the target
        (46.0, 15, None),  # between both thresholds
        (44.0, 15, None),  # 4 * 44 / 50 is four tasks again
        (30.0, 15, 3),
        (30.0, 14, None),
        (0.0, 15, 1),  # the least of the target
    ],
)
def test_the_count_follows_the_figure(value: float, minutes: int, expected: int | None) -> None:
    assert wanted(target(), 4, cpu=steady(value, minutes)) == expected


def test_a_whole_quotient_is_not_rounded_up() -> None:
    assert wanted(target(policy(value=0.1)), 1, cpu=steady(0.3, 3)) == 3


def test_one_minute_below_ends_the_row() -> None:
    figures = steady(90.0, 3) | {AT - 1: Minute(20.0)}
    assert wanted(target(), 4, cpu=figures) is None


def test_a_missing_minute_neither_scales_out_nor_in() -> None:
    for value in (90.0, 5.0):
        figures = steady(value, 15)
        del figures[AT - 1]
        assert wanted(target(), 4, cpu=figures) is None


def test_figures_of_some_tasks_scale_out_and_never_in() -> None:
    part = {at: Minute(minute.value, is_whole=False) for at, minute in steady(5.0).items()}
    assert wanted(target(), 4, cpu=part) is None
    part = {at: Minute(90.0, is_whole=False) for at in part}
    assert wanted(target(), 4, cpu=part) == 8


def test_the_busiest_of_fifteen_minutes_counts_for_scaling_in() -> None:
    figures = steady(5.0) | {AT - 9: Minute(40.0)}
    assert wanted(target(), 10, cpu=figures) == 8


def test_what_was_added_counts_during_the_cooldown() -> None:
    first = decided(target(), 4, cpu=steady(80.0, 3))
    assert first is not None
    later = {"at": AT + 1, "now": NOW + 60}
    again = steady(80.0, 4, AT + 1)
    assert wanted(first.target, 7, later["now"], at=AT + 1, cpu=again) is None
    more = steady(80.0, 4, AT + 1) | {AT + 1: Minute(120.0)}
    second = decided(first.target, 7, NOW + 60, at=AT + 1, cpu=more)
    assert second is not None
    assert second.wanted == 10, "of four tasks, not of seven"
    # When it is over, the new count is what the figures are of.
    end = NOW + 60 + 301
    assert wanted(second.target, 10, end, at=AT + 7, cpu=steady(60.0, 3, AT + 7)) == 12


def test_nothing_is_scaled_in_during_either_cooldown() -> None:
    scaled = Scaled(at=NOW - 299, cooldown_s=300, base=4)
    for cooling in (target(last_out=scaled), target(last_in=scaled)):
        assert wanted(cooling, 4, cpu=steady(5.0)) is None
        assert wanted(cooling, 4, NOW + 2, cpu=steady(5.0)) == 1


def test_a_scale_out_does_not_wait_for_the_cooldown_of_a_scale_in() -> None:
    cooling = target(last_in=Scaled(at=NOW - 10, cooldown_s=300, base=8))
    found = decided(cooling, 4, cpu=steady(90.0, 3))
    assert found is not None
    assert (found.wanted, found.target.last_in) == (8, None)


def test_cooldowns_of_the_policy() -> None:
    short = policy(ScaleOutCooldown=0, ScaleInCooldown=0)
    found = decided(target(short), 4, cpu=steady(90.0, 3))
    assert found is not None
    assert found.target.last_out is not None
    assert found.target.last_out.cooldown_s == 0


def test_the_same_minute_is_decided_once() -> None:
    found = decided(target(policy(ScaleOutCooldown=0)), 4, cpu=steady(90.0, 3))
    assert found is not None
    assert decided(found.target, found.wanted, cpu=steady(90.0, 3)) is None


def test_the_policy_that_wants_most_scales_out() -> None:
    both = target(policy("cpu"), policy("memory"))
    found = decided(both, 4, cpu=steady(80.0, 3), memory=steady(120.0, 3))
    assert found is not None
    assert (found.policy, found.wanted, found.alarm) == ("memory", 10, "memory-high")


def test_all_policies_must_agree_to_scale_in() -> None:
    both = target(policy("cpu"), policy("memory"))
    assert wanted(both, 10, cpu=steady(5.0), memory=steady(48.0)) is None
    assert wanted(both, 10, cpu=steady(5.0)) is None, "the other one has no figures"
    assert wanted(both, 10, cpu=steady(5.0), memory=steady(40.0)) == 8


def test_a_policy_that_does_not_scale_in_has_no_say_in_it() -> None:
    out_only = policy("memory", DisableScaleIn=True)
    assert wanted(target(out_only), 10, memory=steady(5.0)) is None
    assert wanted(target(policy("cpu"), out_only), 10, cpu=steady(5.0), memory=steady(48.0)) == 1


def test_what_is_suspended_is_not_done() -> None:
    still = target(suspended=Suspended(scaling_in=True))
    assert wanted(still, 4, cpu=steady(5.0)) is None
    assert wanted(still, 4, cpu=steady(90.0)) == 8
    still = target(suspended=Suspended(scaling_out=True))
    assert wanted(still, 4, cpu=steady(90.0)) is None
    assert wanted(still, 4, cpu=steady(5.0)) == 1


def test_a_deployment_is_not_scaled_in_but_out() -> None:
    rolling = Seen(4, is_deploying=True)
    assert decide(target(), rolling, {"cpu": steady(5.0)}, AT, NOW) is None
    assert decide(target(), rolling, {"cpu": steady(90.0)}, AT, NOW) is not None


def test_the_limits_are_told_once_as_the_reason() -> None:
    full = decided(target(high=4), 4, cpu=steady(90.0))
    assert full is not None
    assert (full.not_scaled, full.wanted) == (decisions.AT_MOST, 4)
    assert decided(full.target, 4, cpu=steady(90.0)) is None
    empty = decided(target(low=4), 4, cpu=steady(5.0))
    assert empty is not None
    assert empty.not_scaled == decisions.AT_LEAST


def test_a_count_beyond_the_limits_is_left_until_a_policy_acts() -> None:
    assert wanted(target(high=4), 9, cpu=steady(90.0)) is None
    assert wanted(target(high=4), 9, cpu=steady(30.0)) == 4


@given(
    figures=st.lists(st.none() | st.floats(0, 300), min_size=1, max_size=120),
    desired=st.integers(0, 30),
    limits=st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted),
    cooldowns=st.tuples(st.integers(0, 600), st.integers(0, 600)),
)
def test_histories(
    figures: list[float | None],
    desired: int,
    limits: list[int],
    cooldowns: tuple[int, int],
) -> None:
    """Any history: within the limits, in the direction of the figures, one cooldown apart, from whole rows."""
    out_s, in_s = cooldowns
    scaled = target(
        policy(ScaleOutCooldown=out_s, ScaleInCooldown=in_s), low=limits[0], high=limits[1]
    )
    known: dict[int, Minute] = {}
    last_in = last_out = -math.inf
    for number, value in enumerate(figures):
        at, now = AT + number, 60.0 * (AT + number + 1)
        if value is not None:
            known[at] = Minute(value)
        found = decide(scaled, Seen(desired), {"cpu": known}, at, now)
        if found is None:
            continue
        scaled = found.target
        if found.not_scaled:
            assert found.wanted == desired
            continue
        assert limits[0] <= found.wanted <= limits[1]
        row = [known.get(at - ago) for ago in range(15)]
        if found.wanted > desired:
            assert all(one is not None and one.value > 50.0 for one in row[:3])
            last_out = now
        else:
            assert all(one is not None and one.value < 45.0 for one in row)
            assert now >= last_out + out_s
            assert now >= last_in + in_s or last_in < last_out
            last_in = now
        desired = found.wanted
