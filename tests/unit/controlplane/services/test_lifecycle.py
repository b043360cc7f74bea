"""Deployments with the strategy BLUE_GREEN: their stages, hooks, bake time and rollback, by a simulated clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from agent.controlplane.services import lifecycle, rollout, wording
from agent.controlplane.services.record import COMPLETED, FAILED, IN_PROGRESS, Hook, Lifecycle
from agent.controlplane.tasks.changes import FAILED_TO_START
from tests.unit.controlplane.services.conftest import World, service

HOUR_S = 3600.0


def staged(bake_s: float = 600.0, *hooks: Hook) -> Lifecycle:
    return Lifecycle(stage="RECONCILE_SERVICE", since=0.0, bake_s=bake_s, hooks=list(hooks))


def hook(*stages: str, action: str = "ROLLBACK") -> Hook:
    return Hook(stages=list(stages), timeout_s=HOUR_S, on_timeout=action)


def blue_and_green(*hooks: Hook, desired: int = 3, **fields: Any) -> World:
    """A steady service that was just updated."""
    world = World(service(desired, **fields), check=True)
    world.steady()
    world.stages = staged(600.0, *hooks)
    world.update(2)
    world.settle()
    return world


def stage(world: World) -> str:
    known = world.record.primary.lifecycle
    assert known is not None
    return known.stage


def counts(world: World) -> tuple[int, int]:
    """How many tasks blue and green have."""
    return tuple(len(world.wanted(started_by=f"ecs-svc/{n}")) for n in (1, 2))  # type: ignore[return-value]


def go_on(world: World) -> None:
    (wait,) = lifecycle.waiting(world.record.primary)
    world.record = lifecycle.with_status(world.record, wait.id, lifecycle.SUCCEEDED)
    world.settle()


def test_all_green_tasks_run_before_a_blue_one_is_stopped_after_the_bake_time() -> None:
    world = blue_and_green(least=0, most=100)
    assert (stage(world), counts(world)) == ("SCALE_UP", (3, 3)), "percentages do not matter"
    first, second, third = world.wanted(started_by="ecs-svc/2")
    world.run(first, second)
    world.pass_time(HOUR_S)
    assert (stage(world), counts(world)) == ("SCALE_UP", (3, 3)), "one is missing"
    world.run(third)
    world.settle()
    assert stage(world) == "BAKE_TIME"
    world.pass_time(599)
    assert (stage(world), counts(world)) == ("BAKE_TIME", (3, 3))
    assert world.record.primary.rollout_state == IN_PROGRESS
    world.pass_time(1)
    assert (stage(world), counts(world)) == ("CLEAN_UP", (0, 3))
    assert [one.rollout_state for one in world.record.deployments] == [COMPLETED]
    assert wording.has_completed("web", "ecs-svc/2") in world.events


def test_hooks_pause_each_of_their_stages_until_they_are_continued() -> None:
    world = blue_and_green(
        hook("PRE_SCALE_UP", "POST_SCALE_UP"), hook("POST_PRODUCTION_TRAFFIC_SHIFT")
    )
    assert (stage(world), counts(world)) == ("PRE_SCALE_UP", (3, 0))
    (wait,) = lifecycle.waiting(world.record.primary)
    assert wait.expires_at == world.now + HOUR_S
    assert world.events[-1] == wording.is_paused("web", "ecs-svc/2", [wait])
    go_on(world)
    assert (stage(world), counts(world)) == ("SCALE_UP", (3, 3))
    world.run()
    world.settle()
    assert stage(world) == "POST_SCALE_UP"
    go_on(world)
    assert stage(world) == "POST_PRODUCTION_TRAFFIC_SHIFT"
    go_on(world)
    assert stage(world) == "BAKE_TIME"
    known = world.record.primary.lifecycle
    assert known is not None
    assert [(one.stage, one.status) for one in known.waits] == [
        ("PRE_SCALE_UP", "SUCCEEDED"),
        ("POST_SCALE_UP", "SUCCEEDED"),
        ("POST_PRODUCTION_TRAFFIC_SHIFT", "SUCCEEDED"),
    ]
    assert len({one.id for one in known.waits}) == 3


@pytest.mark.parametrize("action", ["ROLLBACK", "CONTINUE"])
def test_a_hook_that_nobody_continues_does_what_it_says(action: str) -> None:
    world = blue_and_green(hook("PRE_SCALE_UP", action=action))
    world.pass_time(HOUR_S - 1)
    assert stage(world) == "PRE_SCALE_UP"
    world.pass_time(1)
    if action == "CONTINUE":
        assert (stage(world), counts(world)) == ("SCALE_UP", (3, 3))
        return
    assert counts(world) == (3, 0)
    assert [one.id for one in world.record.deployments] == ["ecs-svc/1"]
    assert world.record.primary.rollout_state == COMPLETED
    why = "Service deployment rolled back because PRE_SCALE_UP pause hook timed out."
    assert wording.has_been_given_up("web", "ecs-svc/2", why) in world.events


def test_a_first_deployment_whose_hook_is_not_continued_has_failed_and_starts_nothing() -> None:
    world = World(service(2))
    world.record = replace(world.record, deployments=[])
    world.stages = staged(0.0, hook("PRE_SCALE_UP"))
    world.update(1)
    world.pass_time(2 * HOUR_S)
    assert world.record.primary.rollout_state == FAILED
    assert "there is none to roll back to" in world.record.primary.rollout_reason
    assert world.started == 0


def test_a_first_deployment_goes_through_its_stages_alone() -> None:
    world = World(service(2), check=True)
    world.record = replace(world.record, deployments=[])
    world.stages = staged(60.0)
    world.update(1)
    world.settle()
    assert (stage(world), len(world.wanted())) == ("SCALE_UP", 2)
    world.run()
    world.settle()
    world.pass_time(60)
    assert world.record.primary.rollout_state == COMPLETED


def test_blue_tasks_are_replaced_while_both_are_there_and_before_green_ones() -> None:
    world = blue_and_green(hook("PRE_SCALE_UP"))
    world.end(world.wanted(started_by="ecs-svc/1")[0])
    world.settle()
    assert counts(world) == (3, 0)
    world.run()
    world.has_room = False
    go_on(world)
    world.end(*world.wanted())
    world.settle()
    plan = world.plan()
    assert (plan.start, plan.deployment.id) == (3, "ecs-svc/1")
    world.has_room = True
    world.settle()
    assert counts(world) == (3, 3)


def test_both_are_scaled_and_leave_a_draining_host() -> None:
    world = blue_and_green()
    world.run()
    world.settle()
    world.record = replace(world.record, desired_count=4)
    world.settle()
    assert counts(world) == (4, 4)
    world.run()
    world.settle()
    world.drain("host-0")
    for _ in range(3):
        world.settle()
        world.run()
    world.settle()
    assert not world.wanted(instance_id="host-0")
    assert counts(world) == (4, 4)
    world.record = replace(world.record, desired_count=1)
    world.settle()
    assert counts(world) == (1, 1)
    assert stage(world) == "BAKE_TIME"


def test_the_bake_time_is_a_time_to_go_back_at_once() -> None:
    world = blue_and_green()
    world.run()
    world.pass_time(300)
    blue = {task.id for task in world.wanted(started_by="ecs-svc/1")}
    stopped = rollout.stopped(world.record, world.now)
    assert stopped is not None
    world.record = stopped[0]
    world.settle()
    assert {task.id for task in world.wanted()} == blue
    assert [one.id for one in world.record.deployments] == ["ecs-svc/1"]
    assert world.record.primary.rollout_state == COMPLETED


@pytest.mark.parametrize("rollback", [True, False])
def test_the_circuit_breaker_guards_the_green_tasks(rollback: bool) -> None:
    world = blue_and_green(breaker={"enable": True, "rollback": rollback})
    blue = {task.id for task in world.wanted(started_by="ecs-svc/1")}
    world.end(*world.wanted(started_by="ecs-svc/2"), code=FAILED_TO_START)
    world.settle()
    assert {task.id for task in world.wanted()} == blue
    primary = world.record.primary
    assert (primary.id, primary.rollout_state) == (
        ("ecs-svc/1", COMPLETED) if rollback else ("ecs-svc/2", FAILED)
    )
    assert wording.has_failed("web", "ecs-svc/2") in world.events


def test_green_tasks_that_were_superseded_are_stopped_first() -> None:
    world = blue_and_green()
    world.run()
    world.settle()
    assert (stage(world), counts(world)) == ("BAKE_TIME", (3, 3))
    world.update(3)
    assert stage(world) == "RECONCILE_SERVICE"
    world.settle()
    assert (stage(world), counts(world)) == ("SCALE_UP", (3, 0))
    assert len(world.wanted(started_by="ecs-svc/3")) == 3
    world.run()
    world.settle()
    world.pass_time(600)
    assert [one.id for one in world.record.deployments] == ["ecs-svc/3"]
    assert len(world.wanted()) == 3


def test_superseded_tasks_stay_while_too_few_blue_ones_are_healthy() -> None:
    world = blue_and_green()
    world.run()
    world.settle()
    world.has_room = False
    world.end(*world.wanted(started_by="ecs-svc/1"))
    world.update(3)
    world.settle()
    assert (stage(world), counts(world)) == ("RECONCILE_SERVICE", (0, 3))
    world.has_room = True
    world.settle()
    world.run()
    world.settle()
    assert (stage(world), counts(world)) == ("SCALE_UP", (3, 0))
