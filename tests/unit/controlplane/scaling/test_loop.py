"""The loop of autoscaling over real stores, with a clock of the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.autoscaling import operations as scaling_operations
from agent.controlplane.api.cloudwatch import operations as metrics_operations
from agent.controlplane.api.cloudwatch.errors import InvalidFormatFault, ResourceNotFound
from agent.controlplane.api.ecs import operations
from agent.controlplane.metric_store import catalogue
from agent.controlplane.metric_store.roll_up import Facts
from agent.controlplane.metric_store.store import MetricStore
from agent.controlplane.parts import Parts
from agent.controlplane.scaling import figures
from agent.controlplane.scaling.loop import ScalingLoop
from agent.controlplane.services.record import COMPLETED, ServiceRecord
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.statistics import StatisticSet, one
from tests.support.control_endpoint import definition
from tests.unit.controlplane.scaling.conftest import AT, CPU, HOT, SHOP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HANDLERS = {
    **metrics_operations.handlers(),
    **scaling_operations.handlers(),
    **operations.handlers(),
}


class Control:
    """A control endpoint without its wires, at a minute of the test."""

    def __init__(self, store: SqliteStore) -> None:
        self.minute = AT
        self.store = store
        self.parts = Parts(store=store, clock=self.clock)

    def clock(self) -> float:
        return 60.0 * (self.minute + 1) + 10

    async def open(self) -> None:
        async def read_facts() -> Facts:
            return Facts()

        self.metrics = await MetricStore.open(None, read_facts, clock=self.clock)
        self.loop = ScalingLoop(self.parts, self.metrics)

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return await HANDLERS[operation](self.parts, request)

    async def pass_minutes(self, number: int, cpu: float | None, tasks: int = 4) -> None:
        """Close minutes with a figure of the service, and decide about each."""
        for _ in range(number):
            self.minute += 1
            if cpu is not None:
                await self.fill(cpu, tasks)
            await self.loop.decide(self.minute)

    async def fill(self, cpu: float, tasks: int) -> None:
        row = {
            catalogue.CPU_UTILIZATION.number: StatisticSet(cpu, cpu, cpu * tasks, tasks),
            catalogue.RUNNING_TASKS.number: one(float(tasks)),
        }
        scope = figures.scope("default", "shop")
        await self.metrics._do(self.metrics._file.add, self.minute, {scope: row})

    async def desired(self) -> int:
        key = records.service_key("default", "shop")
        found = await access.find(self.store, ServiceRecord, key)
        assert found is not None
        return found.record.desired_count

    async def activities(self, **more: Any) -> list[dict[str, Any]]:
        answer = await self.call("DescribeScalingActivities", ServiceNamespace="ecs", **more)
        shown: list[dict[str, Any]] = answer["ScalingActivities"]
        return shown


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    store = await SqliteStore.open(tmp_path / "control.db")
    made = Control(store)
    await made.open()
    await made.call("CreateCluster")
    await made.call("RegisterTaskDefinition", **definition())
    await made.call("CreateService", serviceName="shop", taskDefinition="web", desiredCount=4)
    await made.call("RegisterScalableTarget", **SHOP, MinCapacity=2, MaxCapacity=10)
    tracking = {"TargetValue": 50.0, **CPU}
    await made.call(
        "PutScalingPolicy",
        **SHOP,
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=tracking,
    )
    yield made
    await made.metrics.close()
    await store.close()


async def complete(control: Control) -> None:
    """Have the deployment of the service completed, so that it may be scaled in."""

    def done(old: ServiceRecord) -> ServiceRecord:
        return replace(old, deployments=[replace(old.primary, rollout_state=COMPLETED)])

    key = records.service_key("default", "shop")
    await access.change(control.store, ServiceRecord, key, done)


async def test_a_busy_service_is_scaled_out_and_in_again(control: Control) -> None:
    await control.pass_minutes(2, 100.0)
    assert await control.desired() == 4
    await control.pass_minutes(1, 100.0)
    assert await control.desired() == 8
    (told,) = await control.activities()
    assert (told["Description"], told["StatusCode"]) == (
        "Setting desired count to 8.",
        "InProgress",
    )
    assert told["Cause"].startswith("monitor alarm TargetTracking-service/default/shop-AlarmHigh-")
    assert told["Cause"].endswith(" in state ALARM triggered policy cpu")
    await control.pass_minutes(30, 5.0, 8)
    assert await control.desired() == 8, "the first deployment goes on"


async def test_a_service_whose_deployment_is_done_is_scaled_in(control: Control) -> None:
    await control.call("UpdateService", service="shop", desiredCount=8)
    await complete(control)
    await control.pass_minutes(14, 5.0, 8)
    assert await control.desired() == 8
    await control.pass_minutes(1, 5.0, 8)
    assert await control.desired() == 2
    assert [one["Description"] for one in await control.activities()] == [
        "Setting desired count to 2."
    ]
    await control.pass_minutes(16, 5.0, 2)
    assert len(await control.activities()) == 1
    told = await control.activities(IncludeNotScaledActivities=True)
    (reason,) = told[0]["NotScaledReasons"]
    assert reason == {"Code": "AlreadyAtMinCapacity", "MinCapacity": 2, "CurrentCapacity": 2}


async def test_without_figures_nothing_happens(control: Control) -> None:
    await complete(control)
    await control.pass_minutes(10, 5.0)
    await control.pass_minutes(3, None)
    await control.pass_minutes(12, 5.0)
    assert await control.desired() == 4
    await control.pass_minutes(3, 5.0)
    assert await control.desired() == 2


async def test_an_alarm_starts_step_scaling(control: Control) -> None:
    await control.call("DeleteScalingPolicy", **SHOP, PolicyName="cpu")
    steps = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 3}]
    made = await control.call(
        "PutScalingPolicy",
        **SHOP,
        PolicyName="more",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": steps,
        },
    )
    assert made["Alarms"] == []
    await control.call("PutMetricAlarm", **HOT, AlarmActions=[made["PolicyARN"]])
    await control.pass_minutes(1, 90.0)
    assert await control.desired() == 4
    await control.pass_minutes(1, 90.0)
    assert await control.desired() == 7
    (told,) = await control.activities()
    assert told["Cause"] == "monitor alarm hot in state ALARM triggered policy more"
    (shown,) = (await control.call("DescribeScalingPolicies", ServiceNamespace="ecs"))[
        "ScalingPolicies"
    ]
    assert [one["AlarmName"] for one in shown["Alarms"]] == ["hot"]
    await control.pass_minutes(4, 90.0)
    assert await control.desired() == 7, "the cooldown"
    await control.call(
        "PutMetricAlarm", **HOT, AlarmActions=[made["PolicyARN"]], ActionsEnabled=False
    )
    await control.pass_minutes(10, 90.0)
    assert await control.desired() == 7


async def test_an_alarm_that_is_set_starts_step_scaling_once(control: Control) -> None:
    await control.call("DeleteScalingPolicy", **SHOP, PolicyName="cpu")
    steps = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 3}]
    adjustment = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": steps}
    more = {"PolicyName": "more", "StepScalingPolicyConfiguration": adjustment}
    made = await control.call("PutScalingPolicy", **SHOP, **more)
    await control.call("PutMetricAlarm", **HOT, AlarmActions=[made["PolicyARN"]])
    drill = {"AlarmName": "hot", "StateValue": "ALARM", "StateReason": "a drill"}
    await control.call("SetAlarmState", **drill)
    await control.pass_minutes(1, 10.0)
    assert await control.desired() == 4, "without a figure, no step matches"
    await control.call("SetAlarmState", **drill, StateReasonData='{"recentDatapoints": [5, 90.0]}')
    await control.pass_minutes(1, 10.0)
    assert await control.desired() == 7
    await control.pass_minutes(10, 10.0)
    assert await control.desired() == 7, "and not again after the cooldown"
    for data in ("{", "\ud800", "[" * 4000):
        with pytest.raises(InvalidFormatFault):
            await control.call("SetAlarmState", **drill, StateReasonData=data)
    for data in ("[]", '{"recentDatapoints": [null]}', '{"recentDatapoints": 3}'):
        await control.call("SetAlarmState", **drill, StateReasonData=data)
    with pytest.raises(ResourceNotFound):
        await control.call("SetAlarmState", **(drill | {"AlarmName": "cold"}))


async def test_two_controls_and_a_restart_act_once(control: Control) -> None:
    other = Control(control.store)
    other.minute = control.minute
    await other.open()
    for _ in range(3):
        control.minute += 1
        other.minute += 1
        await control.fill(100.0, 4)
        await other.fill(100.0, 4)
        await asyncio.gather(control.loop.decide(control.minute), other.loop.decide(other.minute))
    again = ScalingLoop(control.parts, control.metrics)
    await again.decide(control.minute)
    assert await control.desired() == 8
    assert len(await control.activities()) == 1
    await other.metrics.close()


async def test_the_target_of_a_deleted_service_goes_with_it(control: Control) -> None:
    await control.call("DeleteService", service="shop", force=True)
    await control.pass_minutes(1, None)
    assert (await control.call("DescribeScalableTargets", ServiceNamespace="ecs"))[
        "ScalableTargets"
    ] == []


async def test_it_wakes_when_a_minute_is_closed(control: Control) -> None:
    running = asyncio.create_task(control.loop.run())
    changes = control.store.watch(records.SERVICES, after_revision=control.store.revision)
    for _ in range(3):
        control.minute += 1
        await control.fill(100.0, 4)
        await control.metrics.close_minutes()
    async with asyncio.timeout(40), changes:
        async for batch in changes:
            if batch.events:
                break
    assert await control.desired() == 8
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
