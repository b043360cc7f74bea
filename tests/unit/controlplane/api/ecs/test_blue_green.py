"""BLUE_GREEN deployments as operators see them: stages, hooks, bake time, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane.api.ecs import deployment_settings
from agent.controlplane.front.errors import InvalidParameterException
from tests.unit.controlplane.services.conftest import deployment, service

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.service_shop import Shop

PAUSE = {"targetType": "PAUSE", "lifecycleStages": ["POST_SCALE_UP"]}
BLUE_GREEN = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 10, "lifecycleHooks": [PAUSE]}


async def newest(shop: Shop) -> dict[str, Any]:
    """Return the newest service deployment."""
    call = shop.endpoint.call
    listed = await call("list_service_deployments", service="shop")
    arn = listed["serviceDeployments"][0]["serviceDeploymentArn"]
    found = await call("describe_service_deployments", serviceDeploymentArns=[arn])
    return dict(found["serviceDeployments"][0])


async def decide(shop: Shop, action: str) -> None:
    """Continue or roll back the newest deployment at its hook."""
    shown = await newest(shop)
    arn, hook = shown["serviceDeploymentArn"], shown["lifecycleHookDetails"][-1]["hookId"]
    call = shop.endpoint.call
    answer = await call(
        "continue_service_deployment", serviceDeploymentArn=arn, hookId=hook, action=action
    )
    assert answer["serviceDeploymentArn"] == arn


async def test_a_deployment_pauses_bakes_and_completes(shop: Shop) -> None:
    made = await shop.create(deploymentConfiguration=BLUE_GREEN)
    assert {name: made["deploymentConfiguration"][name] for name in BLUE_GREEN} == BLUE_GREEN
    await shop.settle(41)
    await decide(shop, "CONTINUE")
    await shop.settle(601)
    assert (await newest(shop))["status"] == "SUCCESSFUL"
    blue = {task["taskArn"] for task in await shop.tasks()}

    await shop.endpoint.call("update_service", service="shop", forceNewDeployment=True)
    await shop.loop.settle()
    assert (await newest(shop))["lifecycleStage"] == "SCALE_UP"
    await shop.settle(41)
    shown = await newest(shop)
    assert (shown["status"], shown["lifecycleStage"]) == ("IN_PROGRESS", "POST_SCALE_UP")
    (hook,) = shown["lifecycleHookDetails"]
    assert (hook["targetType"], hook["status"], hook["timeoutAction"]) == (
        "PAUSE",
        "AWAITING_ACTION",
        "ROLLBACK",
    )
    assert hook["expiresAt"].timestamp() == shop.endpoint.now[0] + 1440 * 60
    assert hook["hookId"] in (await shop.messages())[0], "an event says what it waits for"
    described = await shop.describe()
    assert [d["runningCount"] for d in described["deployments"]] == [2, 2]

    await decide(shop, "CONTINUE")
    await shop.settle(599)
    assert (await newest(shop))["lifecycleStage"] == "BAKE_TIME"
    assert blue < {task["taskArn"] for task in await shop.tasks()}
    await shop.settle(1)
    shown = await newest(shop)
    assert (shown["status"], shown["lifecycleStage"]) == ("SUCCESSFUL", "CLEAN_UP")
    assert shown["lifecycleHookDetails"][0]["status"] == "SUCCEEDED"
    assert not blue & {task["taskArn"] for task in await shop.tasks()}
    described = await shop.describe()
    assert [d["rolloutState"] for d in described["deployments"]] == ["COMPLETED"]


@pytest.mark.parametrize("how", ["hook", "timeout", "stop"])
async def test_a_deployment_goes_back(shop: Shop, how: str) -> None:
    await shop.create()
    await shop.settle(41)
    blue = {task["taskArn"] for task in await shop.tasks()}
    hook = {**PAUSE, "timeoutConfiguration": {"timeoutInMinutes": 5, "action": "ROLLBACK"}}
    await shop.endpoint.call(
        "update_service",
        service="shop",
        forceNewDeployment=True,
        deploymentConfiguration={**BLUE_GREEN, "lifecycleHooks": [hook]},
    )
    await shop.settle(41)
    if how == "hook":
        await decide(shop, "ROLLBACK")
    elif how == "stop":
        arn = (await newest(shop))["serviceDeploymentArn"]
        await shop.endpoint.call("stop_service_deployment", serviceDeploymentArn=arn)
    await shop.settle(300)
    shown = await newest(shop)
    assert (shown["status"], shown["statusReason"]) == (
        "ROLLBACK_SUCCESSFUL",
        {
            "hook": "Service deployment rolled back because an operator did not continue it at POST_SCALE_UP.",
            "timeout": "Service deployment rolled back because POST_SCALE_UP pause hook timed out.",
            "stop": "Service deployment rolled back because an operator stopped it.",
        }[how],
    )
    status = {"hook": "FAILED", "timeout": "TIMED_OUT", "stop": "AWAITING_ACTION"}[how]
    assert [one["status"] for one in shown["lifecycleHookDetails"]] == [status]
    assert {task["taskArn"] for task in await shop.tasks()} == blue
    code, text = await shop.endpoint.refused(
        "continue_service_deployment",
        serviceDeploymentArn=shown["serviceDeploymentArn"],
        hookId=shown["lifecycleHookDetails"][0]["hookId"],
    )
    assert (code, "in terminal states" in text) == ("InvalidParameterException", True)


async def test_only_a_hook_that_waits_is_continued(shop: Shop) -> None:
    await shop.create(deploymentConfiguration=BLUE_GREEN)
    await shop.loop.settle()
    arn = (await newest(shop))["serviceDeploymentArn"]
    for hook, told in (
        ("pause-1", "Invalid hookId: hookId must follow the format: ecs-{hookType}-{id}"),
        ("ecs-PAUSE-1", "Provided hookId is either completed, unavailable, or not associated"),
    ):
        code, text = await shop.endpoint.refused(
            "continue_service_deployment", serviceDeploymentArn=arn, hookId=hook
        )
        assert (code, told in text) == ("InvalidParameterException", True)
    code, _ = await shop.endpoint.refused(
        "continue_service_deployment", serviceDeploymentArn=f"{arn}x", hookId="ecs-PAUSE-1"
    )
    assert code == "ServiceDeploymentNotFoundException"


async def test_a_service_that_rolls_again_forgets_its_hooks(shop: Shop) -> None:
    await shop.create(deploymentConfiguration=BLUE_GREEN)
    answer = await shop.endpoint.call(
        "update_service", service="shop", deploymentConfiguration={"strategy": "ROLLING"}
    )
    shown = answer["service"]["deploymentConfiguration"]
    assert (shown["strategy"], shown["bakeTimeInMinutes"]) == ("ROLLING", 0)
    assert not shown.get("lifecycleHooks")


@pytest.mark.parametrize(
    ("configuration", "code", "text"),
    [
        ({"lifecycleHooks": [PAUSE]}, "UnsupportedFeatureException", "lifecycleHooks"),
        ({"bakeTimeInMinutes": 1}, "UnsupportedFeatureException", "bakeTimeInMinutes"),
        (
            {**BLUE_GREEN, "lifecycleHooks": [{**PAUSE, "targetType": "AWS_LAMBDA"}]},
            "UnsupportedFeatureException",
            "AWS_LAMBDA is not supported",
        ),
        (
            {**BLUE_GREEN, "lifecycleHooks": [{"lifecycleStages": ["POST_SCALE_UP"]}]},
            "InvalidParameterException",
            "Invalid targetType. Valid values are: AWS_LAMBDA, PAUSE",
        ),
        (
            {
                **BLUE_GREEN,
                "lifecycleHooks": [{**PAUSE, "lifecycleStages": ["TEST_TRAFFIC_SHIFT"]}],
            },
            "InvalidParameterException",
            "Invalid lifecycle stage provided for Pause Hook",
        ),
        (
            {**BLUE_GREEN, "lifecycleHooks": [{**PAUSE, "lifecycleStages": []}]},
            "InvalidParameterException",
            "cannot be empty",
        ),
        ({**BLUE_GREEN, "bakeTimeInMinutes": 1441}, "InvalidParameterException", "1440"),
        (
            {
                **BLUE_GREEN,
                "lifecycleHooks": [{**PAUSE, "timeoutConfiguration": {"timeoutInMinutes": 20_161}}],
            },
            "InvalidParameterException",
            "timeoutInMinutes",
        ),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused_by_name(
    shop: Shop, configuration: dict[str, Any], code: str, text: str
) -> None:
    request = {"serviceName": "s", "taskDefinition": "web", "desiredCount": 1}
    found, told = await shop.endpoint.refused(
        "create_service", **request, deploymentConfiguration=configuration
    )
    assert (found, text in told) == (code, True), told


async def test_daemons_are_only_rolled(shop: Shop) -> None:
    _, told = await shop.endpoint.refused(
        "create_service",
        serviceName="s",
        taskDefinition="web",
        schedulingStrategy="DAEMON",
        deploymentConfiguration={"strategy": "BLUE_GREEN"},
    )
    assert told == (
        "The deployment strategy BLUE_GREEN is not supported with the daemon scheduling strategy."
    )


async def test_task_sets_are_not_rolled_out(shop: Shop) -> None:
    _, told = await shop.endpoint.refused(
        "create_service",
        serviceName="s",
        deploymentController={"type": "EXTERNAL"},
        deploymentConfiguration={"strategy": "BLUE_GREEN"},
    )
    assert told == (
        "The deployment strategy BLUE_GREEN is not supported with the deployment controller EXTERNAL."
    )


def test_load_balancers_need_a_second_target_group() -> None:
    balanced = deployment(1, load_balancers=[{"targetGroupArn": "arn"}])
    rolling = service(1, deployments=[balanced])
    configuration = rolling.deployment_configuration
    for strategy in ("ROLLING", "BLUE_GREEN"):
        told = configuration | {"strategy": strategy}
        checked = replace(rolling, deployment_configuration=told)
        if strategy == "ROLLING":
            deployment_settings.check(checked)
        else:
            with pytest.raises(InvalidParameterException, match="advancedConfiguration"):
                deployment_settings.check(checked)
