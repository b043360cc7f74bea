"""Deployments that watch alarms, as operators see them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.metric_store.store import MetricStore
from agent.controlplane.services.view import ServiceKey
from tests.unit.controlplane.api.ecs.alarm_figures import WATCHED, AlarmFigures
from tests.unit.controlplane.api.ecs.test_blue_green import newest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.controlplane.api.ecs.conftest import Endpoint
    from tests.unit.controlplane.api.ecs.service_shop import Shop


@pytest.fixture
async def figures(endpoint: Endpoint) -> AsyncIterator[AlarmFigures]:
    opened = await AlarmFigures.open(endpoint)
    yield opened
    await opened.close()


async def begin(shop: Shop, figures: AlarmFigures, **alarms: Any) -> None:
    """Have a steady service without alarms, and begin a deployment with them."""
    await figures.put_alarm()
    await shop.create()
    await shop.settle(41)
    for _ in range(3):
        await figures.pass_minute(20.0)
    answer = await shop.endpoint.call(
        "update_service",
        service="shop",
        forceNewDeployment=True,
        deploymentConfiguration={"alarms": WATCHED | alarms},
    )
    assert answer["service"]["deploymentConfiguration"]["alarms"] == WATCHED | alarms


async def test_a_deployment_bakes_and_completes(shop: Shop, figures: AlarmFigures) -> None:
    await begin(shop, figures)
    await shop.settle(41)
    shown = await newest(shop)
    assert (shown["status"], shown["lifecycleStage"]) == ("IN_PROGRESS", "BAKE_TIME")
    assert shown["alarms"] == {
        "status": "MONITORING",
        "alarmNames": ["hot"],
        "triggeredAlarmNames": [],
    }
    (described,) = (await shop.describe())["deployments"][:1]
    assert (described["rolloutState"], described["runningCount"]) == ("IN_PROGRESS", 2)
    assert len(await shop.tasks()) == 2, "the old tasks are gone"
    for _ in range(2):
        await figures.pass_minute(20.0)
        await shop.settle()
        assert (await newest(shop))["status"] == "IN_PROGRESS"
    await figures.pass_minute(20.0)
    await shop.settle()
    shown = await newest(shop)
    assert (shown["status"], shown["alarms"]["status"]) == ("SUCCESSFUL", "MONITORING_COMPLETE")
    assert [d["rolloutState"] for d in (await shop.describe())["deployments"]] == ["COMPLETED"]


async def test_an_alarm_rolls_back(shop: Shop, figures: AlarmFigures) -> None:
    await begin(shop, figures)
    before = (await shop.describe())["deployments"][1]
    await shop.settle(41)
    await figures.pass_minute(90.0)
    await shop.settle()
    assert (await newest(shop))["status"] == "IN_PROGRESS", "one of two minutes"
    await figures.pass_minute(90.0)
    await shop.settle()
    messages = await shop.messages()
    assert any("deployment failed: alarm detected." in each for each in messages)
    assert f"(service shop) rolling back to deployment {before['id']}." in messages
    shown = await newest(shop)
    assert (shown["status"], shown["alarms"]) == (
        "ROLLBACK_IN_PROGRESS",
        {"status": "TRIGGERED", "alarmNames": ["hot"], "triggeredAlarmNames": ["hot"]},
    )
    assert "alarm" in shown["statusReason"]
    again, failed = (await shop.describe())["deployments"]
    assert (again["id"], again["rolloutState"]) == (before["id"], "IN_PROGRESS")
    assert "alarm detected, rolling back" in again["rolloutStateReason"]
    assert (failed["rolloutState"], failed["rolloutStateReason"]) == (
        "FAILED",
        "ECS deployment failed: alarm detected.",
    )
    await figures.pass_minute(90.0)
    await shop.settle(41)
    assert (await newest(shop))["status"] == "ROLLBACK_SUCCESSFUL"
    assert (await newest(shop))["alarms"]["status"] == "TRIGGERED"


async def test_an_alarm_that_somebody_sets_rolls_back_and_is_itself_again(
    shop: Shop, figures: AlarmFigures
) -> None:
    await begin(shop, figures)
    await shop.settle(41)
    asked = {"AlarmName": "hot", "StateValue": "ALARM", "StateReason": "a drill"}
    await figures.call("SetAlarmState", **asked)
    (shown,) = (await figures.call("DescribeAlarms", StateValue="ALARM"))["MetricAlarms"]
    assert shown["StateReason"] == "a drill"
    await figures.pass_minute(20.0)
    await shop.settle()
    assert (await newest(shop))["status"] == "ROLLBACK_IN_PROGRESS"
    for _ in range(2):
        await figures.pass_minute(20.0)
    (shown,) = (await figures.call("DescribeAlarms"))["MetricAlarms"]
    assert shown["StateValue"] == "OK"


async def test_a_deployment_that_begins_in_alarm_watches_none(
    shop: Shop, figures: AlarmFigures
) -> None:
    await begin(shop, figures)
    await shop.settle(41)
    for _ in range(2):
        await figures.pass_minute(90.0)
    await shop.endpoint.call("update_service", service="shop", forceNewDeployment=True)
    await shop.settle(41)
    shown = await newest(shop)
    assert (shown["status"], shown["alarms"]) == (
        "SUCCESSFUL",
        {"status": "DISABLED", "alarmNames": ["hot"], "triggeredAlarmNames": []},
    )
    assert any("(alarm hot)" in each for each in await shop.messages())


async def test_an_alarm_may_be_made_after_the_service(shop: Shop, figures: AlarmFigures) -> None:
    await shop.create(deploymentConfiguration={"alarms": WATCHED})
    await shop.settle()
    await figures.pass_minute(None)
    await shop.settle()
    assert any("alarms that do not exist: (alarm hot)" in each for each in await shop.messages())
    await figures.put_alarm()
    for _ in range(2):
        await figures.pass_minute(90.0)
    await shop.settle()
    shown = await newest(shop)
    assert (shown["status"], shown["alarms"]["status"]) == ("STOPPED", "TRIGGERED")
    assert [d["rolloutState"] for d in (await shop.describe())["deployments"]] == ["FAILED"]


async def test_only_a_change_that_matters_wakes_the_loop(shop: Shop, figures: AlarmFigures) -> None:
    await begin(shop, figures)
    await shop.settle(41)
    view, key, woken = shop.endpoint.parts.services, ServiceKey("default", "shop"), shop.loop._woken
    for cpu, changed, why in (
        (20.0, set(), "the alarm is as it was"),
        (90.0, set(), "one of two minutes"),
        (20.0, {key}, "it has baked"),
    ):
        woken.clear()
        await figures.pass_minute(cpu)
        assert (view.take_changes().services, woken.is_set()) == (changed, bool(changed)), why
    await shop.endpoint.call("update_service", service="shop", forceNewDeployment=True)
    await shop.settle()
    await figures.pass_minute(90.0)
    await shop.loop.settle()
    woken.clear()
    await figures.pass_minute(90.0)
    assert woken.is_set(), "the alarm has gone off"
    await shop.settle()
    assert (await newest(shop))["alarms"]["status"] == "TRIGGERED"


@pytest.mark.parametrize(
    ("alarms", "more", "text"),
    [
        ({"alarmNames": []}, {}, "alarmNames cannot be empty"),
        ({"alarmNames": ["a"] * 101}, {}, "at most 100"),
        ({"alarmNames": [""]}, {}, "1 to 255 characters"),
        ({}, {"deploymentController": {"type": "EXTERNAL"}}, "controller EXTERNAL"),
    ],
)
async def test_what_cannot_be_watched_is_refused(
    shop: Shop, figures: AlarmFigures, alarms: dict[str, Any], more: dict[str, Any], text: str
) -> None:
    request: dict[str, Any] = {
        "serviceName": "shop",
        "deploymentConfiguration": {"alarms": WATCHED | alarms},
        **more,
    }
    if not more:
        request |= {"taskDefinition": "web", "desiredCount": 1}
    code, told = await shop.endpoint.refused("create_service", **request)
    assert (code, text in told) == ("InvalidParameterException", True)


async def test_a_control_without_figures_refuses_alarms(shop: Shop) -> None:
    code, _ = await shop.endpoint.refused(
        "create_service",
        serviceName="shop",
        taskDefinition="web",
        desiredCount=1,
        deploymentConfiguration={"alarms": WATCHED},
    )
    assert code == "UnsupportedFeatureException"
    await shop.create(deploymentConfiguration={"alarms": WATCHED | {"enable": False}})
    await shop.settle(41)
    assert (await newest(shop))["alarms"]["status"] == "DISABLED"


async def test_a_closed_minute_reaches_the_services(shop: Shop, figures: AlarmFigures) -> None:
    await begin(shop, figures)
    await shop.settle(41)
    closing = asyncio.create_task(figures.loop.run())
    view, metrics = shop.endpoint.parts.services, figures.metrics
    assert isinstance(metrics, MetricStore)
    try:
        for _ in range(3):
            shop.endpoint.now[0] += 60
            await metrics.close_minutes()
        async with asyncio.timeout(30):
            while view._alarms.at < shop.endpoint.now[0] - 130:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert list(view._alarms.alarms) == ["hot"]
    finally:
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
