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

from agent.controlplane import access, records
from agent.controlplane.api.autoscaling import operations as scaling_operations
from agent.controlplane.api.ecs import operations
from agent.controlplane.parts import Parts
from agent.controlplane.scaling import action_loop, scheduled
from agent.controlplane.scaling.action_loop import ActionLoop
from agent.controlplane.scaling.target import ScheduledAction
from agent.controlplane.services.record import ServiceRecord
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.control_endpoint import definition
from tests.unit.controlplane.scaling.conftest import target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

START = datetime(2026, 3, 2, 7, 30, tzinfo=UTC).timestamp()
"""A Monday."""
HANDLERS = {**scaling_operations.handlers(), **operations.handlers()}
SHOP = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/default/shop",
    "ScalableDimension": "ecs:service:DesiredCount",
}


def action(name: str, schedule: str, low: int | None, high: int | None, **more: Any) -> Any:
    values = {"id": name, "created_at": START, "done_at": START} | more
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
    async with asyncio.timeout(10), changes:
        async for batch in changes:
            if batch.events:
                break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await control.desired() == 6
    told = (await control.call("DescribeScalingActivities", ServiceNamespace="ecs"))[
        "ScalingActivities"
    ]
    assert [one["Description"] for one in told] == [
        "Setting desired count to 6.",
        "Setting min capacity to 6 and max capacity to 10",
    ]
    assert {one["Cause"] for one in told} == {"scheduled action name day was triggered"}


async def test_two_controls_do_an_action_once(control: Control) -> None:
    await control.call(
        "PutScheduledAction",
        **SHOP,
        ScheduledActionName="day",
        Schedule="rate(1 hour)",
        ScalableTargetAction={"MinCapacity": 6},
    )
    control.now = START + 3600
    loops = [ActionLoop(control.parts), ActionLoop(control.parts)]
    for loop in loops:
        await loop.load()
    await asyncio.gather(*(loop.act() for loop in loops))
    told = (await control.call("DescribeScalingActivities", ServiceNamespace="ecs"))[
        "ScalingActivities"
    ]
    assert len(told) == 2
