"""What becomes of service deployments when the deployments of a service change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane.services import rollout, rollouts
from agent.controlplane.services.rollouts import RolloutsRecord
from tests.unit.controlplane.services.conftest import START, deployment, service

if TYPE_CHECKING:
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord


def statuses(known: RolloutsRecord) -> list[str]:
    return [one.status for one in known.rollouts]


def with_deployments(record: ServiceRecord, *deployments: DeploymentRecord) -> ServiceRecord:
    return replace(record, deployments=list(deployments))


def test_a_rollback_that_fails_too_and_a_deleted_service() -> None:
    one, two, three = (deployment(n) for n in (1, 2, 3))
    first = service(2)
    known = rollouts.after(RolloutsRecord(), None, first, START)
    assert statuses(known) == ["IN_PROGRESS"]
    good = with_deployments(first, replace(one, rollout_state="COMPLETED"))
    known = rollouts.after(known, first, good, START)
    second = with_deployments(good, two, *good.deployments)
    known = rollouts.after(known, good, second, START)
    assert statuses(known) == ["IN_PROGRESS", "SUCCESSFUL"]
    assert known.rollouts[0].sources == ["1"]
    failed = replace(two, rollout_state="FAILED", failed_tasks=3)
    back = with_deployments(second, one, failed)
    known = rollouts.after(known, second, back, START)
    assert statuses(known) == ["ROLLBACK_IN_PROGRESS", "SUCCESSFUL"]
    assert (known.rollouts[0].rolled_back_to, known.rollouts[0].failures) == ("1", 3)
    lost = with_deployments(back, replace(one, rollout_state="FAILED"))
    known = rollouts.after(known, back, lost, START)
    assert statuses(known) == ["ROLLBACK_FAILED", "SUCCESSFUL"]
    third = with_deployments(lost, three, *lost.deployments)
    known = rollouts.after(known, lost, third, START)
    gone = rollouts.after(known, third, replace(third, status="INACTIVE"), START)
    assert statuses(gone) == ["STOPPED", "ROLLBACK_FAILED", "SUCCESSFUL"]
    assert statuses(rollouts.after(gone, None, first, START)) == ["IN_PROGRESS"]


def test_a_deployment_that_an_operator_stops() -> None:
    first = service(2)
    known = rollouts.after(RolloutsRecord(), None, first, START)
    assert rollout.stopped(first, START) is None, "nothing to go back to"
    good, _ = rollout.with_completion(first, is_stable=True, now=START)
    known = rollouts.after(known, first, good, START)
    assert rollout.stopped(good, START) is None, "it is over"
    second = with_deployments(good, deployment(2), *good.deployments)
    known = rollouts.after(known, good, second, START)
    done = rollout.stopped(second, START + 5)
    assert done is not None
    back, events = done
    assert [one.id for one in back.deployments] == ["ecs-svc/1", "ecs-svc/2"]
    assert events == [
        "(service web) (deployment ecs-svc/2) deployment stopped by an operator.",
        "(service web) rolling back to deployment ecs-svc/1.",
    ]
    known = rollouts.after(known, second, back, START + 5)
    assert statuses(known) == ["ROLLBACK_IN_PROGRESS", "SUCCESSFUL"]
    assert known.rollouts[0].reason == rollouts.ASKED_REASON
    assert rollout.stopped(back, START + 6) is None, "only once"
    again, _ = rollout.with_completion(back, is_stable=True, now=START + 9)
    known = rollouts.after(known, back, again, START + 9)
    assert statuses(known) == ["ROLLBACK_SUCCESSFUL", "SUCCESSFUL"]


def test_only_the_last_hundred_of_ninety_days_are_remembered() -> None:
    record, known = service(1), RolloutsRecord()
    known = rollouts.after(known, None, record, START)
    for number in range(2, 150):
        changed = with_deployments(record, deployment(number))
        known = rollouts.after(known, record, changed, START + number)
        record = changed
    assert len(known.rollouts) == rollouts.KEPT
    later = with_deployments(record, deployment(150))
    known = rollouts.after(known, record, later, START + rollouts.KEPT_S + 1000)
    assert len(known.rollouts) == 2, "what began last, and what it has ended just now"


def test_a_scaled_service_has_no_new_service_deployment() -> None:
    record = service(1)
    known = rollouts.after(RolloutsRecord(), None, record, START)
    assert rollouts.after(known, record, replace(record, desired_count=5), START) is known
