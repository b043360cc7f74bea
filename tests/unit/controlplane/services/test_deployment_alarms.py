"""Deployments that watch alarms: they bake, fail and are rolled back, by a simulated clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from agent.controlplane.services import deployment_alarms, rollouts, wording
from agent.controlplane.services.observed import SeenAlarm, SeenAlarms
from agent.controlplane.services.record import COMPLETED, FAILED, IN_PROGRESS, AlarmWatch, Lifecycle
from agent.controlplane.services.rollouts import RolloutsRecord
from agent.controlplane.tasks.changes import FAILED_TO_START
from tests.unit.controlplane.services.conftest import World, service

OK = SeenAlarm(span_s=180.0)
FIRING = SeenAlarm(is_firing=True, span_s=180.0)
HOUR_S = 3600.0


def updated(*, rolls_back: bool = True, alarms: Any = None, **fields: Any) -> World:
    """A steady service whose update watches the alarm ``hot``."""
    world = World(service(3, **fields), check=True)
    world.steady()
    world.watch = AlarmWatch(names=["hot"], rolls_back=rolls_back)
    world.alarms = {"hot": OK} if alarms is None else alarms
    world.update(2)
    world.settle()
    world.now += 1
    return world


def come_up(world: World) -> None:
    """Have all new tasks run and the old ones end."""
    for _ in range(3):
        world.run()
        world.pass_time(1)
        world.end_stopping()
        world.settle()


def state(world: World) -> tuple[str, str]:
    return world.record.primary.id, world.record.primary.rollout_state


def own_tasks(world: World) -> tuple[int, int]:
    """How many tasks the old and the new deployment have."""
    return len(world.wanted(started_by="ecs-svc/1")), len(world.wanted(started_by="ecs-svc/2"))


def test_a_rolling_deployment_bakes_as_long_as_its_slowest_alarm_looks_back() -> None:
    world = updated(alarms={"hot": OK, "slow": SeenAlarm(span_s=600.0)})
    primary = world.record.primary
    assert primary.alarms is not None
    watch = replace(primary.alarms, names=["hot", "slow"])
    world.record = replace(
        world.record, deployments=[replace(primary, alarms=watch), *world.record.deployments[1:]]
    )
    come_up(world)
    assert own_tasks(world) == (0, 3)
    known = world.record.primary.alarms
    assert known is not None
    assert known.steady_at > 0
    world.now = known.steady_at + 599
    world.settle()
    assert state(world) == ("ecs-svc/2", IN_PROGRESS)
    assert wording.is_steady("web") not in world.events[-1:]
    world.looked_s_ago = 1.0
    world.pass_time(1)
    assert state(world) == ("ecs-svc/2", IN_PROGRESS), "the last second was not looked at yet"
    world.looked_s_ago = 0.0
    world.settle()
    assert state(world) == ("ecs-svc/2", COMPLETED)
    assert world.events[-2:] == [
        wording.has_completed("web", "ecs-svc/2"),
        wording.is_steady("web"),
    ]
    assert [one.id for one in world.record.deployments] == ["ecs-svc/2"]


@pytest.mark.parametrize("when", ["coming up", "baking"])
def test_an_alarm_rolls_the_deployment_back(when: str) -> None:
    world = updated()
    before = world.record
    if when == "baking":
        come_up(world)
        assert own_tasks(world) == (0, 3)
    else:
        world.run(*world.wanted(started_by="ecs-svc/2")[:1])
        world.settle()
    world.alarms = {"hot": FIRING}
    plan = world.plan()
    assert plan.events[:2] == (
        "(service web) (deployment ecs-svc/2) deployment failed: alarm detected.",
        "(service web) rolling back to deployment ecs-svc/1.",
    )
    again, failed = plan.service.deployments
    assert (again.id, again.rollout_state, again.alarms) == ("ecs-svc/1", IN_PROGRESS, None)
    assert again.rollout_reason == (
        "ECS deployment failed: alarm detected, rolling back to deploymentId ecs-svc/1."
    )
    assert (failed.rollout_state, failed.rollout_reason) == (FAILED, wording.ALARM_REASON)
    known = rollouts.after(RolloutsRecord(), None, before, world.now)
    known = rollouts.after(known, before, plan.service, world.now)
    (told,) = known.rollouts
    assert (told.status, told.reason) == ("ROLLBACK_IN_PROGRESS", rollouts.ALARM_REASON)
    assert told.alarms is not None
    assert told.alarms.triggered == ["hot"]
    world.settle()
    come_up(world)
    assert (state(world), own_tasks(world)) == (("ecs-svc/1", COMPLETED), (3, 0)), (
        "the rollback does not fail by the alarm that has begun it"
    )


def test_without_rollback_the_deployment_has_failed_and_starts_nothing() -> None:
    world = updated(rolls_back=False)
    before = world.record
    world.run(*world.wanted(started_by="ecs-svc/2")[:1])
    world.alarms = {"hot": FIRING}
    world.settle()
    assert state(world) == ("ecs-svc/2", FAILED)
    known = rollouts.after(RolloutsRecord(), None, before, world.now)
    known = rollouts.after(known, before, world.record, world.now)
    assert (known.rollouts[0].status, known.rollouts[0].reason) == (
        "STOPPED",
        rollouts.ALARMED_REASON,
    )
    started = world.started
    world.end(*world.wanted(started_by="ecs-svc/2"))
    world.alarms = {"hot": OK}
    world.pass_time(HOUR_S)
    assert (state(world), world.started) == (("ecs-svc/2", FAILED), started)


def test_a_first_deployment_has_nothing_to_go_back_to() -> None:
    world = World(service(2), check=True)
    world.record = replace(world.record, deployments=[])
    world.watch, world.alarms = AlarmWatch(names=["hot"], rolls_back=True), {"hot": OK}
    world.update(1)
    world.settle()
    world.run()
    world.now += 60
    world.alarms = {"hot": FIRING}
    world.settle()
    assert state(world) == ("ecs-svc/1", FAILED)


def test_alarms_that_were_in_alarm_before_the_deployment_are_left_alone() -> None:
    world = updated(alarms={"hot": FIRING})
    told = wording.is_unwatched("web", "ecs-svc/2", ["hot"])
    assert world.events.count(told) == 1
    come_up(world)
    assert state(world) == ("ecs-svc/2", COMPLETED), "it does not bake either"
    assert wording.UNWATCHED not in world.record.notices


def test_an_alarm_counts_from_the_first_task_that_runs() -> None:
    world = updated()
    world.pass_time(60)
    world.alarms = {"hot": FIRING}
    world.settle()
    assert state(world) == ("ecs-svc/2", IN_PROGRESS), "the old tasks have set it off"
    (first, *_) = world.wanted(started_by="ecs-svc/2")
    world.run(first)
    world.settle()
    assert state(world)[0] == "ecs-svc/1"


def test_figures_of_before_the_deployment_do_not_count() -> None:
    world = updated()
    come_up(world)
    primary = world.record.primary
    assert primary.alarms is not None
    before = SeenAlarms(primary.alarms.since, {"hot": FIRING})
    assert deployment_alarms.known(world.record, before) == deployment_alarms.Known()
    later = SeenAlarms(primary.alarms.since + 1, {"hot": FIRING})
    assert deployment_alarms.known(world.record, later).firing == ("hot",)
    other = SeenAlarms(world.now + HOUR_S, {"other": FIRING})
    assert deployment_alarms.known(world.record, other) == deployment_alarms.Known(), (
        "this alarm was not looked at yet"
    )


def test_an_alarm_that_does_not_exist_is_told_and_keeps_nobody_waiting() -> None:
    world = updated(alarms={"hot": SeenAlarm(exists=False)})
    world.pass_time(60)
    told = wording.unknown_alarms("web", "ecs-svc/2", ["hot"])
    assert world.events.count(told) == 1
    come_up(world)
    world.pass_time(1)
    assert state(world) == ("ecs-svc/2", COMPLETED)


def test_of_breaker_and_alarm_the_one_that_is_first_decides_about_the_rollback() -> None:
    world = updated(breaker={"enable": True, "rollback": False})
    for _ in range(3):
        world.end(*world.wanted(started_by="ecs-svc/2")[:1], code=FAILED_TO_START)
    world.run(*world.wanted(started_by="ecs-svc/2")[:1])
    world.alarms = {"hot": FIRING}
    world.settle()
    assert state(world) == ("ecs-svc/2", FAILED)
    assert world.record.primary.rollout_reason == wording.CIRCUIT_BREAKER_REASON


def blue_and_green(bake_s: float) -> World:
    world = World(service(3), check=True)
    world.steady()
    world.stages = Lifecycle(stage="RECONCILE_SERVICE", since=0.0, bake_s=bake_s)
    world.watch, world.alarms = AlarmWatch(names=["hot"], rolls_back=True), {"hot": OK}
    world.update(2)
    world.settle()
    world.run()
    world.settle()
    return world


def stage(world: World) -> str:
    known = world.record.primary.lifecycle
    assert known is not None
    return known.stage


@pytest.mark.parametrize(("bake_s", "wanted_s"), [(0.0, 180.0), (60.0, 60.0), (600.0, 600.0)])
def test_a_deployment_with_stages_bakes_as_it_says_or_as_its_alarms_need(
    bake_s: float, wanted_s: float
) -> None:
    world = blue_and_green(bake_s)
    world.looked_s_ago = 30.0
    world.pass_time(wanted_s + 29)
    assert (stage(world), own_tasks(world)) == ("BAKE_TIME", (3, 3))
    world.pass_time(1)
    assert (stage(world), own_tasks(world)) == ("CLEAN_UP", (0, 3))
    world.end_stopping()
    world.alarms = {"hot": FIRING}
    world.settle()
    assert state(world) == ("ecs-svc/2", COMPLETED), "nothing bakes twice or fails after it"


def test_an_alarm_in_the_bake_time_only_stops_the_new_tasks() -> None:
    world = blue_and_green(600.0)
    blue = {task.id for task in world.wanted(started_by="ecs-svc/1")}
    world.pass_time(300)
    world.alarms = {"hot": FIRING}
    world.settle()
    assert (state(world), own_tasks(world)) == (("ecs-svc/1", COMPLETED), (3, 0))
    assert {task.id for task in world.wanted()} == blue
