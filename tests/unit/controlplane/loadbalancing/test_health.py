"""The health of a target by what ingresses report."""

from __future__ import annotations

import pytest

from agent.controlplane.loadbalancing.balancer_records import TargetRecord, TargetState
from agent.controlplane.loadbalancing.health import health, is_drained

TARGET = TargetRecord(group_arn="arn", id="10.0.0.1", port=80)
GOOD = TargetState(state="healthy")
BAD = TargetState(state="unhealthy", reason="Target.Timeout", description="Request timed out")
NEW = TargetState(state="initial")


@pytest.mark.parametrize(
    ("reports", "state", "reason"),
    [
        ([], "initial", "Elb.RegistrationInProgress"),
        ([None], "initial", "Elb.InitialHealthChecking"),
        ([GOOD, None], "initial", "Elb.InitialHealthChecking"),
        ([GOOD, NEW], "initial", "Elb.InitialHealthChecking"),
        ([GOOD, GOOD], "healthy", ""),
        ([BAD, GOOD], "healthy", ""),
        ([BAD, BAD], "unhealthy", "Target.Timeout"),
    ],
)
def test_a_target_is_healthy_once_all_have_decided_and_one_reaches_it(
    reports: list[TargetState | None], state: str, reason: str
) -> None:
    found = health(TARGET, reports, is_used=True, now=100.0)
    assert (found.state, found.reason) == (state, reason)


def test_a_target_nobody_forwards_to_is_unused() -> None:
    assert health(TARGET, [GOOD], is_used=False, now=1.0).reason == "Target.NotInUse"
    assert health(None, [], is_used=True, now=1.0).reason == "Target.NotRegistered"


def test_a_target_drains_until_its_time_is_over() -> None:
    leaving = TargetRecord(group_arn="arn", id="10.0.0.1", port=80, drains_until=50.0)
    assert health(leaving, [GOOD], is_used=True, now=49.0).state == "draining"
    assert health(leaving, [GOOD], is_used=True, now=50.0).reason == "Target.NotRegistered"


def test_a_target_is_drained_early_only_if_every_ingress_says_so() -> None:
    leaving = TargetRecord(group_arn="arn", id="10.0.0.1", port=80, drains_until=50.0)
    idle, busy = TargetState(state="healthy", is_idle=True), TargetState(state="healthy")
    for reports, drained in (
        ([], False),
        ([None], False),
        ([idle, busy], False),
        ([idle, None], False),
        ([idle, idle], True),
    ):
        assert is_drained(leaving, reports, is_used=True, now=1.0) is drained
    assert is_drained(leaving, [busy], is_used=True, now=50.0)
    assert is_drained(leaving, [busy], is_used=False, now=1.0)
