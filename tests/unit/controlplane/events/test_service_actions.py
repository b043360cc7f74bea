"""Which EventBridge event each text of a service is, and each step of a service deployment."""

from __future__ import annotations

import pytest

from agent.controlplane.events import service_actions
from agent.controlplane.events.service_actions import Action, action
from agent.controlplane.scheduler import host_room, placement
from agent.controlplane.scheduler.placement import Rejection
from agent.controlplane.services import rollouts, wording
from agent.controlplane.services.record import DeploymentRecord, TaskSetRecord
from agent.controlplane.services.rollouts import RolloutRecord
from agent.controlplane.services.task_sets import facing
from tests.unit.controlplane.services.conftest import deployment, service

ARN = "arn:aws:ecs:us-east-1:000000000000:service/default/web"


def short_of(reason: str) -> str:
    return wording.cannot_place("web", [Rejection("arn/host", reason)])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (wording.is_steady("web"), Action("INFO", "SERVICE_STEADY_STATE")),
        (
            wording.is_steady(facing(service(1), TaskSetRecord(deployment=deployment(1))).name),
            Action("INFO", "TASKSET_STEADY_STATE"),
        ),
        (wording.has_started("web", ["a", "b"], unhealthy=1), Action("INFO", "TASKS_STARTED")),
        (wording.has_stopped("web", ["a"]), Action("INFO", "TASKS_STOPPED")),
        (wording.stopped_pending("web", 2), Action("INFO", "TASKS_STOPPED")),
        (wording.is_impaired("web"), Action("WARN", "SERVICE_TASK_START_IMPAIRED")),
        (
            wording.cannot_place("web", []),
            Action("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", "EMPTY CLUSTER"),
        ),
        (
            wording.cannot_place("web", [], is_fargate=True),
            Action("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", "RESOURCE:FARGATE"),
        ),
        (
            wording.cannot_launch("web", "TaskDefinition is inactive"),
            Action("ERROR", "SERVICE_TASK_CONFIGURATION_FAILURE", "TaskDefinition is inactive"),
        ),
        *(
            (short_of(reason), Action("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", expected))
            for reason, expected in (
                (host_room.CPU, "RESOURCE:CPU"),
                (host_room.MEMORY, "RESOURCE:MEMORY"),
                (host_room.GPU, "RESOURCE:GPU"),
                (host_room.PORTS, "RESOURCE:PORTS"),
                (placement.ATTRIBUTE, "ATTRIBUTE"),
                (placement.AGENT, "AGENT"),
                (placement.MEMBER_OF, placement.MEMBER_OF),
            )
        ),
        (wording.has_completed("web", "ecs-svc/1"), None),
        (wording.failed_health_checks("web", "a"), None),
        (wording.is_blocked("web"), None),
    ],
)
def test_the_action_of_each_text(message: str, expected: Action | None) -> None:
    assert action(message) == expected


def rollout(status: str, reason: str = "", **more: object) -> RolloutRecord:
    deployment = DeploymentRecord(id="ecs-svc/2", task_definition_arn="web:2")
    values = {"status": status, "reason": reason, "updated_at": 5.0, **more}
    return RolloutRecord(deployment=deployment, **values)  # type: ignore[arg-type]


def told(before: str, record: RolloutRecord) -> list[tuple[str, str, str]]:
    known = {record.id: before} if before else {}
    drafts = service_actions.deployments(ARN, known, [record])
    assert {draft.resource for draft in drafts} <= {ARN}
    assert all(draft.detail["updatedAt"] == "1970-01-01T00:00:05.000Z" for draft in drafts)
    return [
        (
            draft.detail["eventType"],
            draft.detail["eventName"].removeprefix("SERVICE_DEPLOYMENT_"),
            draft.detail["deploymentId"],
        )
        for draft in drafts
    ]


def test_a_deployment_that_goes_well_and_one_that_is_superseded() -> None:
    begun = ("INFO", "IN_PROGRESS", "ecs-svc/2")
    assert told("", rollout(rollouts.IN_PROGRESS)) == [begun]
    assert told(rollouts.IN_PROGRESS, rollout(rollouts.IN_PROGRESS)) == []
    done = ("INFO", "COMPLETED", "ecs-svc/2")
    assert told(rollouts.IN_PROGRESS, rollout(rollouts.SUCCESSFUL)) == [done]
    assert told("", rollout(rollouts.SUCCESSFUL)) == [begun, done]
    assert told(rollouts.IN_PROGRESS, rollout(rollouts.STOPPED, "superseded")) == []


def test_a_breaker_that_opens_with_and_without_a_rollback() -> None:
    failed = ("ERROR", "FAILED", "ecs-svc/2")
    assert told(rollouts.IN_PROGRESS, rollout(rollouts.STOPPED, rollouts.FAILED_REASON)) == [failed]
    back = {"rolled_back_to": "1"}
    begun_back = ("INFO", "IN_PROGRESS", "ecs-svc/1")
    rolls = rollout(rollouts.ROLLBACK_IN_PROGRESS, **back)
    assert told(rollouts.IN_PROGRESS, rolls) == [failed, begun_back]
    done = rollout(rollouts.ROLLBACK_SUCCESSFUL, **back)
    completed_back = ("INFO", "COMPLETED", "ecs-svc/1")
    assert told(rollouts.ROLLBACK_IN_PROGRESS, done) == [completed_back]
    # Both at once, where the tasks of the older revision still ran.
    assert told(rollouts.IN_PROGRESS, done) == [failed, begun_back, completed_back]
    never = rollout(rollouts.ROLLBACK_FAILED, **back)
    assert told(rollouts.ROLLBACK_IN_PROGRESS, never) == [("ERROR", "FAILED", "ecs-svc/1")]


def test_a_rollback_that_an_operator_asked_for_is_none_of_the_circuit_breaker() -> None:
    rolls = rollout(rollouts.ROLLBACK_IN_PROGRESS, rollouts.ASKED_REASON, rolled_back_to="1")
    drafts = service_actions.deployments("arn", {rolls.id: rollouts.IN_PROGRESS}, [rolls])
    assert [draft.detail["reason"] for draft in drafts] == [
        "ECS deployment was stopped by an operator.",
        "ECS deployment was stopped by an operator: rolling back to deploymentId ecs-svc/1.",
    ]


def test_an_alarm_says_so_with_and_without_a_rollback() -> None:
    rolls = rollout(rollouts.ROLLBACK_IN_PROGRESS, rollouts.ALARM_REASON, rolled_back_to="1")
    drafts = service_actions.deployments("arn", {rolls.id: rollouts.IN_PROGRESS}, [rolls])
    assert [draft.detail["reason"] for draft in drafts] == [
        "ECS deployment failed: alarm detected.",
        "ECS deployment failed: alarm detected, rolling back to deploymentId ecs-svc/1.",
    ]
    failed = rollout(rollouts.STOPPED, rollouts.ALARMED_REASON)
    assert told(rollouts.IN_PROGRESS, failed) == [("ERROR", "FAILED", "ecs-svc/2")]


def test_a_hook_that_was_not_continued_says_so() -> None:
    why = wording.hook_timed_out("PRE_SCALE_UP")
    rolls = rollout(rollouts.ROLLBACK_IN_PROGRESS, why, rolled_back_to="1")
    known = {rolls.id: rollouts.IN_PROGRESS}
    drafts = service_actions.deployments("arn", known, [rolls])
    told_why = "Service deployment rolled back because PRE_SCALE_UP pause hook timed out."
    assert [draft.detail["reason"] for draft in drafts] == [
        told_why,
        f"{told_why} Rolling back to deploymentId ecs-svc/1.",
    ]
    first = rollout(rollouts.STOPPED, wording.nothing_to_go_back_to(why))
    assert told(rollouts.IN_PROGRESS, first) == [("ERROR", "FAILED", "ecs-svc/2")]
