"""One step of a service: arithmetic, throttling, circuit breaker, hosts, events."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from agent.controlplane.loadbalancing import health
from agent.controlplane.services import failures, wording
from agent.controlplane.services.failures import Failure
from agent.controlplane.services.observed import SeenHost
from agent.controlplane.services.record import COMPLETED, FAILED, IN_PROGRESS, REPLACE_AFTER
from agent.controlplane.tasks.changes import FAILED_TO_START
from tests.unit.controlplane.services.conftest import World, service

BREAKER = {"enable": True, "rollback": True}


@pytest.mark.parametrize(
    ("desired", "least", "most", "expected"),
    [
        (4, 100, 200, (4, 8)),
        (4, 50, 100, (2, 4)),
        (2, 75, 200, (2, 4)),
        (3, 100, 125, (3, 3)),
        (1, 0, 100, (0, 1)),
        (1, 100, 150, (1, 1)),
    ],
)
def test_percentages_are_rounded_as_on_amazon_ecs(
    desired: int, least: int, most: int, expected: tuple[int, int]
) -> None:
    record = service(desired, least=least, most=most)
    assert (record.least_healthy, record.most_running) == expected


@pytest.mark.parametrize(
    ("desired", "configuration", "threshold"),
    [
        (1, {}, 3),
        (25, {}, 13),
        (400, {}, 200),
        (800, {}, 200),
        (800, {"type": "UNBOUNDED_PERCENT", "value": 50}, 400),
        (10, {"type": "BOUNDED_PERCENT", "value": 100}, 10),
        (1, {"type": "COUNT", "value": 7}, 7),
    ],
)
def test_the_threshold_of_the_circuit_breaker(
    desired: int, configuration: dict[str, Any], threshold: int
) -> None:
    breaker = {**BREAKER, "thresholdConfiguration": configuration} if configuration else BREAKER
    assert service(desired, breaker=breaker).breaker_threshold == threshold


def test_a_new_service_starts_completes_and_is_steady(world: World) -> None:
    world.settle()
    assert len(world.wanted()) == 4
    assert world.record.primary.rollout_state == IN_PROGRESS
    world.run()
    world.settle()
    assert world.record.primary.rollout_state == IN_PROGRESS, "the tasks may end at once"
    assert world.plan().wake_at == world.now + 10
    world.pass_time(10)
    assert world.record.primary.rollout_state == COMPLETED
    assert world.events == [
        wording.has_completed("web", "ecs-svc/1"),
        "(service web) has reached a steady state.",
    ]


def test_a_deployment_that_replaces_another_is_not_completed_before_its_tasks_are_healthy() -> None:
    world = World(service(2, least=0))
    world.steady()
    world.update(2)
    for _ in range(3):
        world.settle()
        world.end_stopping()
        world.run()
    assert {task.started_by for task in world.wanted()} == {"ecs-svc/2"}
    world.pass_time(39)
    assert world.record.primary.rollout_state == IN_PROGRESS
    world.pass_time(1)
    assert world.record.primary.rollout_state == COMPLETED


def test_a_steady_service_says_so_every_six_hours(world: World) -> None:
    world.steady()
    world.events.clear()
    world.pass_time(13 * 3600)
    assert world.events == ["(service web) has reached a steady state."] * 2


def test_an_update_starts_all_new_tasks_first_and_then_stops_the_old_ones(world: World) -> None:
    world.steady()
    old = world.wanted()
    world.update(2)
    world.settle()
    assert len(world.wanted()) == 8
    world.run()
    world.pass_time(39)
    assert len(world.wanted()) == 8, "none is healthy yet"
    world.pass_time(1)
    assert not {t.id for t in world.wanted()} & {t.id for t in old}
    assert [d.id for d in world.record.deployments] == ["ecs-svc/2"]
    ids = " ".join(f"(task {t.id})" for t in old)
    assert f"(service web) has stopped 4 running tasks: {ids}." in world.events


def test_one_old_task_stops_for_each_new_one_that_is_healthy() -> None:
    world = World(service(4), check=True)
    world.steady()
    world.update(2)
    world.settle()
    new = world.wanted(last_status="PENDING")
    for count, task in enumerate(new, start=1):
        world.run(task)
        world.settle()
        assert len(world.wanted(started_by="ecs-svc/1")) == 4 - count


def test_with_50_and_100_per_cent_half_stops_first() -> None:
    world = World(service(4, least=50, most=100))
    world.steady()
    world.update(2)
    world.settle()
    assert len(world.wanted(started_by="ecs-svc/1")) == 2
    assert len(world.wanted(started_by="ecs-svc/2")) == 2


def test_percentages_that_leave_no_room_are_told_once() -> None:
    world = World(service(3, most=125))
    world.steady()
    world.update(2)
    world.events.clear()
    world.pass_time(3600)
    assert world.events == [wording.is_blocked("web")]
    assert len(world.wanted(started_by="ecs-svc/1")) == 3


def test_scaling_in_takes_the_fullest_zone_and_there_the_fullest_host(world: World) -> None:
    world.steady()
    for task, (host, zone) in zip(
        world.wanted(), [("a1", "a"), ("a2", "a"), ("a2", "a"), ("b1", "b")], strict=True
    ):
        world.hosts[host] = SeenHost(host)
        world.change(task, instance_id=host, availability_zone=zone)
    world.record = replace(world.record, desired_count=2)
    world.settle()
    assert sorted(t.instance_id for t in world.wanted()) == ["a1", "b1"]


def test_binpack_empties_the_emptiest_host(world: World) -> None:
    world.record = replace(
        world.record, placement_strategy=[{"type": "binpack", "field": "memory"}]
    )
    world.steady()
    first, *_ = world.wanted()
    for host, free in (("host-0", 100), ("host-1", 900), ("host-2", 100)):
        world.hosts[host] = SeenHost(host, free_memory_mib=free)
    world.record = replace(world.record, desired_count=3)
    world.settle()
    assert {t.instance_id for t in world.tasks.values() if not t.is_wanted} == {"host-1"}
    assert first.is_wanted


def test_protected_tasks_are_not_stopped_until_the_protection_ends(world: World) -> None:
    world.steady()
    first, second, *_ = world.wanted()
    for task in (first, second):
        world.change(task, protected_until=world.now + 600)
    world.record = replace(world.record, desired_count=1)
    world.settle()
    assert {t.id for t in world.wanted()} == {first.id, second.id}
    assert world.events[-1] == wording.is_protected("web", "ecs-svc/1", 1)
    world.pass_time(600)
    assert len(world.wanted()) == 1
    world.change(world.wanted()[0], protected_until=world.now + 600)
    world.update(2)
    world.steady()
    assert len(world.wanted(started_by="ecs-svc/1")) == 1
    world.pass_time(600)
    assert not world.wanted(started_by="ecs-svc/1")
    assert [d.rollout_state for d in world.record.deployments] == [COMPLETED]


def test_scaling_to_zero_and_back(world: World) -> None:
    world.steady()
    world.record = replace(world.record, desired_count=0)
    world.settle()
    assert not world.wanted()
    world.end_stopping()
    world.record = replace(world.record, desired_count=2)
    world.steady()
    assert len(world.wanted(last_status="RUNNING")) == 2
    assert [d.rollout_state for d in world.record.deployments] == [COMPLETED]


def test_a_task_that_ended_is_replaced_at_once_if_it_was_healthy(world: World) -> None:
    world.steady()
    world.end(world.wanted()[0])
    world.settle()
    assert len(world.wanted()) == 4
    assert world.record.primary.failed_tasks == 0


@pytest.mark.parametrize(
    ("failure", "delays"),
    [
        (Failure.START, [10, 20, 40, 80, 160, 320, 640, 1280, 1620, 1620]),
        (Failure.EXIT, [10, 20, 40, 50, 50]),
    ],
)
def test_the_figures_of_throttling(failure: Failure, delays: list[float]) -> None:
    assert [failures.delay_s(failure, n) for n in range(1, len(delays) + 1)] == delays


@pytest.mark.parametrize("desired", [1, 10])
def test_tasks_that_never_run_are_started_more_and_more_rarely(desired: int) -> None:
    world = World(service(desired))
    world.settle()
    rounds: list[float] = []
    since = world.now
    while len(rounds) < 10:
        world.end(*world.wanted(), code=FAILED_TO_START)
        world.settle()
        assert not world.wanted(), "throttled"
        due = world.plan().wake_at
        assert due is not None
        world.now = due
        world.settle()
        assert len(world.wanted()) == desired
        rounds.append(world.now - since)
        since = world.now
    assert rounds == [10, 20, 40, 80, 160, 320, 640, 1280, 1620, 1620]
    assert world.started == 11 * desired
    assert world.events.count(wording.is_impaired("web")) == 1
    world.run()
    world.pass_time(41)
    assert world.record.primary.throttle.level == 0
    world.end(world.wanted()[0], code=FAILED_TO_START)
    world.update(2)
    world.settle()
    assert len(world.wanted(started_by="ecs-svc/2")) == desired, "an update starts at once"


def test_who_scales_in_after_failures_ends_the_slowing_down() -> None:
    world = World(service(2))
    world.steady()
    world.record = replace(world.record, desired_count=4)
    for _ in range(failures.IMPAIRED_LEVEL):
        world.settle()
        world.end(*world.wanted(last_status="PENDING"), code=FAILED_TO_START)
        world.settle()
        world.now = world.record.primary.throttle.until
    assert wording.IMPAIRED in world.record.notices
    world.record = replace(world.record, desired_count=2)
    world.settle()
    assert len(world.wanted()) == 2
    assert world.record.primary.throttle.level == 0
    assert wording.IMPAIRED not in world.record.notices


def test_the_breaker_opens_and_rolls_back_under_the_old_id() -> None:
    world = World(service(2, breaker=BREAKER))
    world.steady()
    world.update(2)
    world.settle()
    while world.record.primary.id == "ecs-svc/2":
        bad = world.wanted(started_by="ecs-svc/2")
        world.run(*bad)
        world.end(*bad)
        world.pass_time(60)
    target, failed = world.record.deployments[0], world.record.deployments[1:]
    assert (target.id, target.rollout_state) == ("ecs-svc/1", COMPLETED)
    assert not failed
    assert len(world.wanted(started_by="ecs-svc/1")) == 2
    told = world.events.index(wording.has_failed("web", "ecs-svc/2"))
    assert world.events[told + 1] == "(service web) rolling back to deployment ecs-svc/1."
    assert wording.has_completed("web", "ecs-svc/1") in world.events[told + 2 :]


def test_a_breaker_without_rollback_leaves_what_runs() -> None:
    world = World(service(2, breaker={"enable": True, "rollback": False}))
    world.steady()
    world.update(2)
    world.settle()
    while world.record.primary.rollout_state == IN_PROGRESS:
        world.end(*world.wanted(started_by="ecs-svc/2"), code=FAILED_TO_START)
        world.pass_time(100)
    primary = world.record.primary
    assert (primary.id, primary.rollout_state) == ("ecs-svc/2", FAILED)
    assert primary.rollout_reason == "ECS deployment circuit breaker: tasks failed to start."
    assert primary.failed_tasks == 4, "two at a time"
    started = world.started
    world.pass_time(7200)
    assert world.started == started
    assert len(world.wanted(started_by="ecs-svc/1")) == 2


def test_a_failed_deployment_does_not_keep_a_draining_host_if_enough_tasks_remain() -> None:
    world = World(service(3, least=50, breaker={"enable": True, "rollback": False}))
    world.steady()
    world.update(2)
    world.settle()
    while world.record.primary.rollout_state == IN_PROGRESS:
        world.end(*world.wanted(started_by="ecs-svc/2"), code=FAILED_TO_START)
        world.pass_time(100)
    stays, leaves = (task.instance_id for task in world.wanted())
    world.drain(leaves)
    world.settle()
    assert len(world.wanted()) == 2, "50 per cent of 3 is 2"
    world.record = replace(
        world.record,
        deployment_configuration=world.record.deployment_configuration
        | {"minimumHealthyPercent": 30},
    )
    world.settle()
    assert [task.instance_id for task in world.wanted()] == [stays]


def test_a_first_deployment_that_fails_has_nothing_to_go_back_to() -> None:
    world = World(service(1, breaker=BREAKER))
    world.settle()
    for _ in range(3):
        world.end(*world.wanted(), code=FAILED_TO_START)
        world.pass_time(100)
    assert world.record.primary.rollout_state == FAILED
    assert not world.wanted()


def test_a_healthy_task_ends_the_row_of_failures() -> None:
    world = World(service(3, breaker=BREAKER))
    world.settle()
    bad, *good = world.wanted()
    world.end(bad, code=FAILED_TO_START)
    world.settle()
    assert world.record.primary.failed_tasks == 1
    world.run(*good)
    world.pass_time(41)
    assert world.record.primary.failed_tasks == 0


def test_unhealthy_tasks_are_replaced_first_and_stopped_then() -> None:
    world = World(service(2, grace_s=30), check=True)
    world.steady()
    sick = world.wanted()[0]
    world.change(sick, health_status="UNHEALTHY", ran_at=world.now)
    world.pass_time(29)
    assert len(world.tasks) == 2, "within its grace period"
    world.pass_time(1)
    assert len(world.wanted()) == 3
    world.run(*world.wanted(last_status="PENDING"))
    world.settle()
    assert sick.id not in {t.id for t in world.wanted()}
    assert world.events[-3:-1] == [
        wording.failed_health_checks("web", sick.id),
        wording.has_stopped("web", [sick.id]),
    ]


def test_unhealthy_tasks_without_room_are_stopped_one_by_one() -> None:
    world = World(service(2, least=50, most=100), check=True)
    world.steady()
    for task in world.wanted():
        world.change(task, health_status="UNHEALTHY")
    world.settle()
    assert [t.health_status for t in world.wanted()] == ["UNHEALTHY", "UNKNOWN"]
    world.run(*world.wanted(last_status="PENDING"))
    world.settle()
    assert [t.health_status for t in world.wanted()] == ["HEALTHY", "UNKNOWN"]


def test_a_draining_host_is_left_within_the_percentages(world: World) -> None:
    world.steady()
    on_host = world.wanted(instance_id="host-0")
    assert len(on_host) == 2
    world.drain("host-0")
    world.settle()
    assert len(world.wanted()) == 6
    world.run()
    world.pass_time(40)
    assert not world.wanted(instance_id="host-0")
    assert len(world.wanted()) == 4


def test_pending_tasks_leave_a_draining_host_at_once(world: World) -> None:
    world.settle()
    world.drain("host-0")
    world.settle()
    assert not world.wanted(instance_id="host-0")
    assert wording.stopped_pending("web", 2) in world.events


def test_tasks_of_a_lost_host_are_replaced_after_five_minutes_and_that_is_said(
    world: World,
) -> None:
    world.steady()
    world.lose("host-0")
    lost = world.wanted(instance_id="host-0")
    world.pass_time(299)
    assert len(world.tasks) == 4
    world.pass_time(1)
    assert len(world.wanted()) == 4
    assert not world.wanted(instance_id="host-0")
    assert wording.replaces_lost("web", "host-0", [t.id for t in lost], 300) in world.events
    world.find("host-0")
    world.settle()
    assert all(not world.tasks[t.id].is_wanted for t in lost), "stopped when the host is back"


@pytest.mark.parametrize(("tags", "are_kept"), [({}, False), ({REPLACE_AFTER: "never"}, True)])
def test_a_task_that_never_ran_is_replaced_as_soon_as_its_host_is_lost(
    world: World, tags: dict[str, str], are_kept: bool
) -> None:
    """A host is cut off, and before control knows, a replacement of its task is placed on it."""
    world.record = replace(world.record, tags=tags)
    world.settle()
    waiting = world.wanted(instance_id="host-0")
    assert waiting
    assert all(task.last_status == "PENDING" for task in waiting)
    world.lose("host-0")
    world.settle()
    assert bool(world.wanted(instance_id="host-0")) is are_kept
    assert len(world.wanted()) == 4
    told = wording.stops_unheard("web", "host-0", [task.id for task in waiting])
    assert (told in world.events) is not are_kept


def test_tasks_of_lost_hosts_are_kept_while_nothing_takes_their_place(world: World) -> None:
    world.steady()
    for host in ("host-0", "host-1", "host-2"):
        world.lose(host)
    world.pass_time(1000)
    assert len(world.wanted()) == 4
    world.find("host-0")
    world.settle()
    assert (len(world.wanted()), len(world.wanted(instance_id="host-0"))) == (4, 4)
    world.find("host-1")
    world.settle()
    assert (len(world.wanted()), world.started) == (4, 6)


@pytest.mark.parametrize(("given", "after_s"), [("0", 0), ("90", 90), ("86400", 86_400)])
def test_a_service_says_when_tasks_of_a_lost_host_are_replaced(
    world: World, given: str, after_s: int
) -> None:
    world.steady()
    world.record = replace(world.record, tags={REPLACE_AFTER: given})
    lost = [task.id for task in world.wanted(instance_id="host-0")]
    world.lose("host-0")
    if after_s:
        world.pass_time(after_s - 1)
        assert world.wanted(instance_id="host-0")
    world.pass_time(1)
    assert not world.wanted(instance_id="host-0")
    assert len(world.wanted()) == 4
    assert wording.replaces_lost("web", "host-0", lost, after_s) in world.events


def test_a_service_keeps_its_tasks_on_lost_hosts_if_it_says_so(world: World) -> None:
    world.steady()
    world.record = replace(world.record, tags={REPLACE_AFTER: "never"})
    started = world.started
    world.lose("host-0")
    world.pass_time(30 * 24 * 3600)
    world.find("host-0")
    world.pass_time(60)
    assert (len(world.wanted()), world.started) == (4, started)


@pytest.mark.parametrize(("tags", "are_kept"), [({}, False), ({REPLACE_AFTER: "never"}, True)])
def test_a_load_balancer_does_not_replace_what_is_to_be_kept(
    world: World, tags: dict[str, str], are_kept: bool
) -> None:
    """It does not reach a host that is cut off, whose tasks may run all the same."""
    world.steady()
    world.record = replace(world.record, tags=tags)
    lost = world.wanted(instance_id="host-0")
    world.lose("host-0")
    for task in lost:
        world.change(task, traffic=health.UNHEALTHY)
    world.settle()
    world.run()
    world.pass_time(60)
    assert bool(world.wanted(instance_id="host-0")) == are_kept
    world.find("host-0")
    world.settle()
    assert bool(world.wanted(instance_id="host-0")) == are_kept


def test_an_update_says_that_tasks_of_an_unheard_host_may_still_run(world: World) -> None:
    world.steady()
    world.lose("host-0")
    old = [task.id for task in world.wanted(instance_id="host-0")]
    world.update(2)
    world.settle()
    world.run()
    world.pass_time(60)
    told = [event for event in world.events if "is disconnected" in event]
    assert told
    assert all(any(task in event for event in told) for task in old)


def test_a_host_that_is_back_in_time_keeps_its_tasks(world: World) -> None:
    world.steady()
    world.lose("host-0")
    world.pass_time(200)
    world.find("host-0")
    world.pass_time(1000)
    assert len(world.tasks) == 4


def test_a_superseded_deployment_is_drained_at_once(world: World) -> None:
    world.steady()
    for number in range(2, 40):
        world.update(number)
    world.steady()
    assert [d.id for d in world.record.deployments] == ["ecs-svc/39"]
    assert len(world.wanted()) == 4


def test_a_deleted_service_stops_everything_and_is_inactive(world: World) -> None:
    world.steady()
    world.record = replace(world.record, status="DRAINING", desired_count=0)
    world.settle()
    assert world.record.status == "INACTIVE"
    assert not world.wanted()
    world.end_stopping()
    world.settle()


def test_a_daemon_has_one_task_on_each_host_and_is_updated_one_after_the_other() -> None:
    world = World(service(0, least=67, most=100, scheduling="DAEMON"), check=True)
    world.settle()
    assert world.record.desired_count == 3
    assert sorted(t.instance_id for t in world.wanted()) == ["host-0", "host-1", "host-2"]
    world.run()
    world.settle()
    assert world.record.primary.rollout_state == COMPLETED
    world.update(2)
    world.settle()
    assert len(world.wanted()) == 3, "67 per cent of 3 is 3: no host may be without"
    world.record = replace(
        world.record,
        deployment_configuration=world.record.deployment_configuration
        | {"minimumHealthyPercent": 50},
    )
    for left in (2, 1, 0):
        world.settle()
        assert len(world.wanted(started_by="ecs-svc/1")) == left
        assert len(world.wanted()) == 3
        world.run()
    world.settle()
    assert world.record.primary.rollout_state == COMPLETED


def test_a_daemon_leaves_a_draining_host_last_and_comes_to_a_new_one() -> None:
    world = World(service(0, least=0, most=100, scheduling="DAEMON"))
    world.steady()
    world.hosts["host-0"] = SeenHost("host-0", False, other_tasks=1)
    world.hosts["host-9"] = SeenHost("host-9", takes_daemon=True)
    world.settle()
    assert {t.instance_id for t in world.wanted()} == {"host-0", "host-1", "host-2", "host-9"}
    world.hosts["host-0"] = SeenHost("host-0", False)
    world.settle()
    assert {t.instance_id for t in world.wanted()} == {"host-1", "host-2", "host-9"}
