"""The plan of a run comes from its seed alone, and leaves nothing out."""

from __future__ import annotations

from collections import Counter

from tests.chaos import plan, work_plan
from tests.chaos.conductor import STRIKES


def test_a_seed_tells_all_of_it() -> None:
    once, again = (plan.draw(7, 10.0, 2, kinds=plan.KINDS) for _ in range(2))
    assert once == again
    assert once != plan.draw(8, 10.0, 2, kinds=plan.KINDS)
    assert work_plan.draw(7, 10.0) == work_plan.draw(7, 10.0) != work_plan.draw(8, 10.0)


def test_every_kind_strikes_before_any_strikes_much_more_often() -> None:
    """A round of the plan has each kind as often as its weight says."""
    for seed in range(5):
        faults = plan.draw(seed, 30.0, 2, kinds=plan.KINDS)
        struck = Counter(fault.kind for fault in faults)
        rounds = len(faults) // sum(kind.weight for kind in plan.KINDS.values())
        assert rounds >= 4
        for name, kind in plan.KINDS.items():
            assert rounds * kind.weight <= struck[name] <= (rounds + 1) * kind.weight


def test_every_boundary_is_struck_by_those_that_kill() -> None:
    faults = plan.draw(1, 60.0, 2, kinds=plan.KINDS)
    for kind in ("agent killed", "control killed"):
        assert {f.boundary for f in faults if f.kind == kind} == set(plan.BOUNDARIES)


def test_faults_are_within_their_run_and_have_their_length() -> None:
    faults = plan.draw(3, 5.0, 2, kinds=plan.KINDS)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    for fault in faults:
        kind = plan.KINDS[fault.kind]
        assert 0.0 < fault.at_s < 300.0
        assert kind.shortest_s <= fault.for_s <= kind.longest_s
        assert bool(fault.boundary) == kind.at_boundary


def test_every_kind_has_a_strike() -> None:
    assert STRIKES.keys() == {*plan.KINDS, plan.CLOCK}


def test_operators_do_everything() -> None:
    acts = work_plan.draw(1, 10.0)
    assert {act.what for act in acts} == set(work_plan.WEIGHTS)
    runs = {(act.kind, act.mode) for act in acts if act.what == "run"}
    kinds = (work_plan.ONCE, work_plan.STEADY, work_plan.PAIR)
    assert runs == {(kind, mode) for kind in kinds for mode in work_plan.MODES}
