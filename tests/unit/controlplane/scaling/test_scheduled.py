"""Scheduled actions: when they are due, and what they do, with a clock of the test."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs

from agent.controlplane import access, records
from agent.controlplane.api.autoscaling import operations as scaling_operations
from agent.controlplane.api.autoscaling.errors import ValidationException
from agent.controlplane.api.ecs import operations
from agent.controlplane.parts import Parts
from agent.controlplane.scaling import action_loop, scheduled
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.action_loop import ActionLoop
from agent.controlplane.scaling.target import ScalableTarget, ScheduledAction
from agent.controlplane.services.record import ServiceRecord
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.control_endpoint import definition
from tests.unit.controlplane.scaling.conftest import SHOP, target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

START = datetime(2026, 3, 2, 7, 30, tzinfo=UTC).timestamp()
"""A Monday."""
HANDLERS = {**scaling_operations.handlers(), **operations.handlers()}


def action(
    name: str, schedule: str, low: int | None, high: int | None, **more: Any
) -> ScheduledAction:
    values: dict[str, Any] = {"id": name, "created_at": START, "done_at": START} | more
    return ScheduledAction(
        name=name, schedule=schedule, min_capacity=low, max_capacity=high, **values
    )


def test_when_an_action_is_due() -> None:
    daily = action("up", "cron(0 8 * * ? *)", 5, None)
    assert scheduled.next_time(daily, START) == START + 1800
    berlin = action("up", "cron(0 8 * * ? *)", 5, None, zone="Europe/Berlin")
    assert scheduled.next_time(berlin, START) == START + 1800 + 23 * 3600, "it was 8 an hour ago"
    once = action("up", "at(2026-03-02T09:00:00)", 5, None)
    assert scheduled.next_time(once, START) == START + 5400
    assert scheduled.next_time(once, START + 5400) == math.inf
    later = action("up", "cron(0 8 * * ? *)", 5, None, start_at=START + 86400)
    assert scheduled.next_time(later, START) == START + 86400 + 1800
    ends = action("up", "cron(0 8 * * ? *)", 5, None, end_at=START + 86400)
    assert scheduled.next_time(ends, START + 1800) == math.inf


def test_start_and_end_times_are_themselves_due() -> None:
    eight = START + 1800
    between = action("up", "cron(0 8 * * ? *)", 5, None, start_at=eight, end_at=eight + 86400)
    assert scheduled.next_time(between, START) == eight
    assert scheduled.next_time(between, eight) == eight + 86400
    assert scheduled.next_time(between, eight + 86400) == math.inf
    behind = action("up", "cron(0 8 * * ? *)", 5, None, start_at=eight + 0.25)
    assert scheduled.next_time(behind, START) == eight + 86400


@pytest.mark.parametrize(
    ("more", "first"),
    [
        ({"created_at": START + 0.75, "done_at": START + 0.75}, START + 3600),
        ({"start_at": START + 7200}, START + 7200),
        ({"start_at": START + 7200.5}, START + 7201),
        ({"start_at": START - 7200}, START + 3600),
    ],
)
def test_a_rate_counts_from_its_start_or_from_when_it_was_put(
    more: dict[str, float], first: float
) -> None:
    hourly = action("up", "rate(1 hour)", 5, None, **more)
    times = [scheduled.next_time(hourly, hourly.done_at)]
    while len(times) < 4:
        times.append(scheduled.next_time(hourly, times[-1]))
    assert times == [first + 3600 * count for count in range(4)]


def test_hours_that_the_clocks_skip_or_repeat() -> None:
    """Clocks of Berlin: at 2 o'clock one hour forward on 2026-03-29, at 3 o'clock back on 2026-10-25."""
    nightly = action("up", "cron(30 2 * * ? *)", 5, None, zone="Europe/Berlin")
    before = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()
    assert (
        scheduled.next_time(nightly, before) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC).timestamp()
    )
    before = datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp()
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    assert scheduled.next_time(nightly, before) == first
    assert scheduled.next_time(nightly, first) == first + 25 * 3600


def test_of_a_long_outage_the_last_time_is_found_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if an action of each minute ended before another one was due, the later one wins."""
    year = 365 * 86400
    minutely = action("minutely", "cron(* * * * ? *)", 5, None, end_at=START + 7 * 86400)
    once = action("once", "at(2026-03-20T12:00:00)", 2, None)
    scaled = replace(target(low=1, high=9), actions=[minutely, once])
    asked = 0
    next_time = scheduled.next_time

    def counted(*arguments: Any) -> float:
        nonlocal asked
        asked += 1
        return next_time(*arguments)

    monkeypatch.setattr(scheduled, "next_time", counted)
    assert [due.at for due in scheduled.passed(scaled, START + year)] == [
        START + 7 * 86400,
        datetime(2026, 3, 20, 12, tzinfo=UTC).timestamp(),
    ]
    assert asked < 100
    found, told = action_loop.after_actions(scaled, START + year)
    assert (found.min_capacity, len(told)) == (2, 2)
    assert scheduled.next_due(found) == math.inf


@given(
    st.sampled_from(["cron(0/7 8-17 ? * MON-FRI *)", "rate(45 minutes)", "cron(15 3 * * ? *)"]),
    st.integers(1, 4 * 86400),
    st.sampled_from([0.0, 86400.0]),
)
def test_the_last_time_is_the_last_of_all(schedule: str, passed_s: int, ends_s: float) -> None:
    one = action("one", schedule, 5, None, end_at=ends_s and START + ends_s)
    times = [START]
    while (at := scheduled.next_time(one, times[-1])) <= START + passed_s:
        times.append(at)
    scaled = replace(target(), actions=[one])
    found = [due.at for due in scheduled.passed(scaled, START + passed_s)]
    assert found == times[1:][-1:]


def test_after_an_outage_each_action_is_done_once_in_order() -> None:
    scaled = target(low=1, high=9)
    scaled = replace(
        scaled,
        actions=[
            action("day", "cron(0 8 * * ? *)", 5, 20),
            action("night", "cron(0 20 * * ? *)", 1, 4),
        ],
    )
    found, told = action_loop.after_actions(scaled, START + 3 * 86400)
    assert (found.min_capacity, found.max_capacity) == (1, 4), "the last night"
    assert [one.cause.split()[3] for one in told] == ["night", "day"]
    assert scheduled.next_due(found) == START + 3 * 86400 + 1800
    again, told = action_loop.after_actions(found, START + 3 * 86400)
    assert (again, told) == (found, [])


def test_limits_that_do_not_go_together_are_told() -> None:
    scaled = replace(target(low=1, high=9), actions=[action("up", "rate(1 hour)", 10, None)])
    found, (told,) = action_loop.after_actions(scaled, START + 3600)
    assert (found.min_capacity, found.max_capacity) == (1, 9)
    assert (told.status, told.message) == (
        "Failed",
        "Maximum capacity (9) cannot be less than minimum capacity (10)",
    )


def test_suspended_actions_are_passed_over() -> None:
    scaled = target(low=1, high=9)
    scaled = replace(
        scaled,
        actions=[action("up", "rate(1 hour)", 5, None)],
        suspended=replace(scaled.suspended, scheduled=True),
    )
    found, told = action_loop.after_actions(scaled, START + 3600)
    assert (found.min_capacity, told) == (1, [])
    assert scheduled.next_due(found) == START + 7200


@given(st.lists(st.integers(1, 5 * 86400), min_size=1, max_size=8))
def test_the_limits_do_not_depend_on_when_control_looked(steps: list[int]) -> None:
    """Whatever the outages were: the limits are those of the last time that has passed."""
    scaled = replace(
        target(low=0, high=9),
        actions=[
            action("day", "cron(0 8 * * ? *)", 5, 20),
            action("night", "cron(30 20 * * ? *)", 1, 4),
        ],
    )
    now = START
    for step in steps:
        now += step
        scaled, _ = action_loop.after_actions(scaled, now)
    minutes = int(now % 86400) // 60
    is_day = 8 * 60 <= minutes < 20 * 60 + 30
    if now >= START + 1800:
        assert scaled.min_capacity == (5 if is_day else 1)


class Control:
    """A control endpoint without its wires, at a time of the test."""

    def __init__(self, store: SqliteStore) -> None:
        self.now = START
        self.store = store
        self.parts = Parts(store=store, clock=lambda: self.now)

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return await HANDLERS[operation](self.parts, request)

    async def desired(self) -> int:
        key = records.service_key("default", "shop")
        found = await access.find(self.store, ServiceRecord, key)
        assert found is not None
        return found.record.desired_count


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    store = await SqliteStore.open(tmp_path / "control.db")
    made = Control(store)
    await made.call("CreateCluster")
    await made.call("RegisterTaskDefinition", **definition())
    await made.call("CreateService", serviceName="shop", taskDefinition="web", desiredCount=2)
    await made.call("RegisterScalableTarget", **SHOP, MinCapacity=1, MaxCapacity=10)
    yield made
    await store.close()


async def test_the_count_follows_the_limits_and_control_wakes_by_itself(control: Control) -> None:
    changes = control.store.watch(records.SERVICES, after_revision=control.store.revision)
    running = asyncio.create_task(ActionLoop(control.parts).run())
    await asyncio.sleep(0)
    control.now = START + 1800 - 0.05  # the loop reads the clock anew when the action is put
    await control.call(
        "PutScheduledAction",
        **SHOP,
        ScheduledActionName="day",
        Schedule="cron(0 8 * * ? *)",
        ScalableTargetAction={"MinCapacity": 6},
    )
    control.now = START + 1801
    async with asyncio.timeout(40), changes:
        async for batch in changes:
            if batch.events:
                break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await control.desired() == 6
    told = await activities(control)
    assert [one["Description"] for one in told] == [
        "Setting desired count to 6.",
        "Setting min capacity to 6 and max capacity to 10",
    ]
    assert {one["Cause"] for one in told} == {"scheduled action name day was triggered"}


async def put(control: Control, **more: Any) -> None:
    request = {
        **SHOP,
        "ScheduledActionName": "day",
        "Schedule": "rate(1 hour)",
        "ScalableTargetAction": {"MinCapacity": 6},
    }
    await control.call("PutScheduledAction", **(request | more))


async def limits(control: Control) -> tuple[int, int]:
    (one,) = (await control.call("DescribeScalableTargets", ServiceNamespace="ecs"))[
        "ScalableTargets"
    ]
    return one["MinCapacity"], one["MaxCapacity"]


async def restarted(control: Control) -> ActionLoop:
    loop = ActionLoop(control.parts)
    await loop.load()
    await loop.act()
    return loop


async def test_a_restart_does_nothing_again(control: Control) -> None:
    await put(control)
    control.now = START + 3600
    await restarted(control)
    assert (await limits(control), await control.desired()) == ((6, 10), 6)
    await control.call("RegisterScalableTarget", **SHOP, MinCapacity=1)
    await control.call("UpdateService", service="shop", desiredCount=2)
    control.now = START + 7199
    before = control.store.revision
    loop = await restarted(control)
    await loop.act()
    assert (await limits(control), await control.desired()) == ((1, 10), 2)
    assert control.store.revision == before, "nothing is written without need"
    control.now = START + 7200
    await loop.act()
    assert (await limits(control), await control.desired()) == ((6, 10), 6)


async def test_new_limits_do_not_put_off_what_is_due(control: Control) -> None:
    await put(control)
    control.now = START + 3601
    await put(control, ScalableTargetAction={"MaxCapacity": 8, "MinCapacity": 7})
    await restarted(control)
    assert (await limits(control), await control.desired()) == ((7, 8), 7)
    control.now = START + 7201
    await put(control, Schedule="rate(3 hours)")
    await restarted(control)
    assert (await control.call("DescribeScheduledActions", ServiceNamespace="ecs"))[
        "ScheduledActions"
    ][0]["Schedule"] == "rate(3 hours)"
    assert len(await activities(control)) == 2, "the new times count from when they were put"


async def activities(control: Control) -> list[dict[str, Any]]:
    found = await control.call("DescribeScalingActivities", ServiceNamespace="ecs")
    told: list[dict[str, Any]] = found["ScalingActivities"]
    return told


async def test_an_action_that_was_done_for_good_is_not_changed(control: Control) -> None:
    once = {"Schedule": "at(2026-03-02T08:00:00)"}
    await put(control, **once)
    control.now = START + 1800
    await restarted(control)
    await put(control, **once)
    with pytest.raises(ValidationException, match="never be due"):
        await put(control, **once, ScalableTargetAction={"MinCapacity": 3})


async def test_activities_of_one_moment_are_listed_in_order(control: Control) -> None:
    for number in range(8):
        name = f"a{number}"
        most = {"MaxCapacity": 20 + number}
        await put(control, ScheduledActionName=name, ScalableTargetAction=most)
    control.now = START + 3600
    await restarted(control)
    told = [one["Description"].rpartition(" ")[2] for one in await activities(control)]
    assert told == [str(20 + number) for number in reversed(range(8))]


async def test_a_new_service_of_the_same_name_is_left_alone(control: Control) -> None:
    await put(control)
    control.now = START + 3600

    def anew(service: ServiceRecord) -> ServiceRecord:
        return replace(service, created_at=START + 60)

    await access.change(control.store, ServiceRecord, records.service_key("default", "shop"), anew)
    await restarted(control)
    assert await control.desired() == 2


async def test_a_target_that_cannot_be_read_does_not_stop_others(control: Control) -> None:
    """As when a time zone is missing in the files of this host."""
    await put(control)
    key = kinds.target_key("default", "shop")
    found = await access.find(control.store, ScalableTarget, key)
    assert found is not None
    stray = replace(
        found.record,
        service="aaa",
        actions=[replace(one, zone="Mars/Base") for one in found.record.actions],
    )
    await control.store.txn([], [Put(stray.key, records.encode(stray))])
    control.now = START + 3600
    with capture_logs() as logs:
        await restarted(control)
    assert await control.desired() == 6
    (problem,) = [one for one in logs if one["log_level"] == "error"]
    assert (problem["key"], "Mars/Base" in problem["error"]) == (stray.key, True)


async def test_two_controls_do_an_action_once(control: Control) -> None:
    await put(control)
    control.now = START + 3600
    loops = [ActionLoop(control.parts), ActionLoop(control.parts)]
    for loop in loops:
        await loop.load()
    await asyncio.gather(*(loop.act() for loop in loops))
    assert len(await activities(control)) == 2
    assert await control.desired() == 6
