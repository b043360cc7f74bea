"""The calls of Application Auto Scaling as AWS's SDK sees them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import Endpoint, control_endpoint, definition
from tests.unit.controlplane.scaling.conftest import HOT, SHOP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ERRORS = frozenset({"TooManyTagsException", "UnsupportedFeatureException"})
KIND = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}
CPU: dict[str, Any] = {
    "TargetValue": 60.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        await running.call("CreateCluster")
        await running.call("RegisterTaskDefinition", **definition())
        await running.call(
            "CreateService", serviceName="shop", taskDefinition="web", desiredCount=3
        )
        yield running


@pytest.fixture
async def scaling(endpoint: Endpoint) -> AsyncIterator[AwsClient]:
    client = await AwsClient.of(endpoint, "application-autoscaling", unlisted=ERRORS)
    yield client
    client.close()


async def registered(scaling: AwsClient, **more: Any) -> str:
    request = {**SHOP, "MinCapacity": 1, "MaxCapacity": 10} | more
    arn: str = (await scaling.call("register_scalable_target", **request))["ScalableTargetARN"]
    return arn


async def tracked(scaling: AwsClient, name: str = "cpu", **more: Any) -> dict[str, Any]:
    return await scaling.call(
        "put_scaling_policy",
        **SHOP,
        PolicyName=name,
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=CPU | more,
    )


async def targets(scaling: AwsClient, **more: Any) -> list[dict[str, Any]]:
    answer = await scaling.call("describe_scalable_targets", ServiceNamespace="ecs", **more)
    found: list[dict[str, Any]] = answer["ScalableTargets"]
    return found


async def policies(scaling: AwsClient, **more: Any) -> list[dict[str, Any]]:
    answer = await scaling.call("describe_scaling_policies", ServiceNamespace="ecs", **more)
    found: list[dict[str, Any]] = answer["ScalingPolicies"]
    return found


async def desired(endpoint: Endpoint) -> int:
    (service,) = (await endpoint.call("DescribeServices", services=["shop"]))["services"]
    count: int = service["desiredCount"]
    return count


async def test_a_target_is_registered_shown_changed_and_gone(scaling: AwsClient) -> None:
    arn = await registered(scaling, Tags={"team": "web"})
    assert arn.startswith(
        "arn:aws:application-autoscaling:us-east-1:000000000000:scalable-target/0ec5"
    )
    assert await registered(scaling) == arn
    (shown,) = await targets(scaling, ResourceIds=[SHOP["ResourceId"]])
    assert shown.pop("CreationTime").timestamp() > 0
    assert shown == {
        **SHOP,
        "MinCapacity": 1,
        "MaxCapacity": 10,
        "RoleARN": (
            "arn:aws:iam::000000000000:role/aws-service-role/ecs.application-autoscaling.amazonaws.com"
            "/AWSServiceRoleForApplicationAutoScaling_ECSService"
        ),
        "SuspendedState": {
            "DynamicScalingInSuspended": False,
            "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": False,
        },
        "ScalableTargetARN": arn,
    }
    suspended = {"DynamicScalingInSuspended": True}
    request = {**SHOP, "MaxCapacity": 7, "SuspendedState": suspended}
    await scaling.call("register_scalable_target", **request)
    (shown,) = await targets(scaling)
    assert (shown["MinCapacity"], shown["MaxCapacity"]) == (1, 7)
    assert shown["SuspendedState"]["DynamicScalingInSuspended"]
    assert await targets(scaling, ResourceIds=["service/default/blog"]) == []
    await scaling.call("deregister_scalable_target", **SHOP)
    assert await targets(scaling) == []
    code, text = await scaling.refused("deregister_scalable_target", **SHOP)
    assert (code, text) == (
        "ObjectNotFoundException",
        (
            "No scalable target registered for service namespace: ecs, resource ID: "
            "service/default/shop, scalable dimension: ecs:service:DesiredCount"
        ),
    )


async def test_a_count_beyond_the_limits_is_moved_at_once(
    endpoint: Endpoint, scaling: AwsClient
) -> None:
    await registered(scaling, MinCapacity=5)
    assert await desired(endpoint) == 5
    await registered(scaling, MinCapacity=0, MaxCapacity=2)
    assert await desired(endpoint) == 2
    answer = await scaling.call("describe_scaling_activities", **SHOP)
    told = [(one["Cause"], one["Description"]) for one in answer["ScalingActivities"]]
    assert told == [
        ("maximum capacity was set to 2", "Setting desired count to 2."),
        ("minimum capacity was set to 5", "Setting desired count to 5."),
    ]
    assert [one["StatusCode"] for one in answer["ScalingActivities"]] == [
        "InProgress",
        "Overridden",
    ]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"ServiceNamespace": "dynamodb"}, "Unsupported service namespace"),
        ({"ScalableDimension": "ec2:spot-fleet-request:TargetCapacity"}, "Unsupported scalable"),
        ({"ResourceId": "service/shop"}, "is not service/CLUSTER/SERVICE"),
        ({"ResourceId": "service/default/blog"}, "ECS service doesn't exist: service/default/blog"),
        ({"MinCapacity": 11}, "Maximum capacity (10) cannot be less than minimum capacity (11)"),
        ({"MinCapacity": -1}, "must be between 0 and 5000"),
        ({"Tags": {"aws:x": "y"}}, "are reserved"),
    ],
)
async def test_targets_that_are_refused(
    scaling: AwsClient, request_: dict[str, Any], text: str
) -> None:
    given = {**SHOP, "MinCapacity": 1, "MaxCapacity": 10} | request_
    code, told = await scaling.refused("register_scalable_target", **given)
    assert (code, text in told) == ("ValidationException", True), told


async def test_what_a_target_needs(endpoint: Endpoint, scaling: AwsClient) -> None:
    code, text = await scaling.refused("register_scalable_target", **SHOP, MinCapacity=1)
    assert (code, "are required" in text) == ("ValidationException", True)
    daemon = {"serviceName": "logs", "taskDefinition": "web", "schedulingStrategy": "DAEMON"}
    await endpoint.call("CreateService", **daemon)
    request = {**SHOP, "ResourceId": "service/default/logs", "MinCapacity": 1, "MaxCapacity": 2}
    code, text = await scaling.refused("register_scalable_target", **request)
    assert (code, "daemon scheduling strategy" in text) == ("ValidationException", True)


async def test_tags(scaling: AwsClient) -> None:
    arn = await registered(scaling, Tags={"team": "web"})
    await scaling.call("tag_resource", ResourceARN=arn, Tags={"cost": "7", "team": "shop"})
    await scaling.call("untag_resource", ResourceARN=arn, TagKeys=["cost", "none"])
    answer = await scaling.call("list_tags_for_resource", ResourceARN=arn)
    assert answer["Tags"] == {"team": "shop"}
    many = {f"k{number}": "v" for number in range(51)}
    code, _ = await scaling.refused("tag_resource", ResourceARN=arn, Tags=many)
    assert code == "TooManyTagsException"
    code, _ = await scaling.refused("list_tags_for_resource", ResourceARN=f"{arn}0")
    assert code == "ResourceNotFoundException"


async def test_a_policy_is_put_shown_and_deleted(scaling: AwsClient) -> None:
    await registered(scaling)
    made = await tracked(scaling)
    assert await tracked(scaling) == made, "the same call again"
    high, low = [one["AlarmName"] for one in made["Alarms"]]
    assert high.startswith("TargetTracking-service/default/shop-AlarmHigh-")
    assert low == high.replace("High", "Low")
    assert made["Alarms"][0]["AlarmARN"].endswith(f":alarm:{high}")
    (shown,) = await policies(scaling, PolicyNames=["cpu"], ResourceId=SHOP["ResourceId"])
    assert shown.pop("CreationTime").timestamp() > 0
    assert shown == {
        **SHOP,
        **made,
        "PolicyName": "cpu",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": CPU,
    }
    assert shown["PolicyARN"].endswith(":resource/ecs/service/default/shop:policyName/cpu")
    out_only = await tracked(scaling, DisableScaleIn=True)
    assert [one["AlarmName"] for one in out_only["Alarms"]] == [high]
    request = {**SHOP, "PolicyName": "cpu"}
    await scaling.call("delete_scaling_policy", **request)
    assert await policies(scaling) == []
    code, _ = await scaling.refused("delete_scaling_policy", **request)
    assert code == "ObjectNotFoundException"


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"PolicyType": "PredictiveScaling"}, "PredictiveScaling is not supported"),
        ({"PolicyName": "a/b"}, "PolicyName"),
        ({"TargetTrackingScalingPolicyConfiguration": CPU | {"TargetValue": 0}}, "above 0"),
        ({"TargetTrackingScalingPolicyConfiguration": {"TargetValue": 5.0}}, "Exactly one of"),
        (
            {"TargetTrackingScalingPolicyConfiguration": CPU | {"ScaleInCooldown": -1}},
            "ScaleInCooldown must be",
        ),
        (
            {
                "TargetTrackingScalingPolicyConfiguration": {
                    "TargetValue": 5.0,
                    "PredefinedMetricSpecification": {
                        "PredefinedMetricType": "ALBRequestCountPerTarget"
                    },
                }
            },
            "The metric ALBRequestCountPerTarget is not supported",
        ),
        (
            {"PredictiveScalingPolicyConfiguration": {"MetricSpecifications": []}},
            "PredictiveScalingPolicyConfiguration does not go with the policy type TargetTracking",
        ),
    ],
)
async def test_policies_that_are_refused(
    scaling: AwsClient, request_: dict[str, Any], text: str
) -> None:
    await registered(scaling)
    given = {
        **SHOP,
        "PolicyName": "cpu",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": CPU,
    } | request_
    code, told = await scaling.refused("put_scaling_policy", **given)
    assert (code, text in told) == ("ValidationException", True), told


async def test_a_policy_needs_a_target(scaling: AwsClient) -> None:
    code, _ = await scaling.refused(
        "put_scaling_policy",
        **SHOP,
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=CPU,
    )
    assert code == "ObjectNotFoundException"


async def test_a_metric_of_the_service_itself(scaling: AwsClient) -> None:
    await registered(scaling)
    named = [
        {"Name": "ClusterName", "Value": "default"},
        {"Name": "ServiceName", "Value": "shop"},
    ]
    custom = {
        "Namespace": "ECS/ContainerInsights",
        "MetricName": "NetworkRxBytes",
        "Dimensions": named,
        "Statistic": "Sum",
    }

    async def put(**changed: Any) -> tuple[str, str]:
        given = {"TargetValue": 5.0, "CustomizedMetricSpecification": custom | changed}
        return await scaling.refused(
            "put_scaling_policy",
            **SHOP,
            PolicyName="own",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=given,
        )

    given = {"TargetValue": 5.0, "CustomizedMetricSpecification": custom}
    await scaling.call(
        "put_scaling_policy",
        **SHOP,
        PolicyName="own",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=given,
    )
    (shown,) = await policies(scaling)
    assert shown["TargetTrackingScalingPolicyConfiguration"] == given
    assert "No service has the metric" in (await put(MetricName="Requests"))[1]
    others = [named[0], {"Name": "ServiceName", "Value": "blog"}]
    assert "must be those of the scaled service" in (await put(Dimensions=others))[1]


async def test_pages(endpoint: Endpoint, scaling: AwsClient) -> None:
    for number in range(5):
        name = f"s{number}"
        await endpoint.call("CreateService", serviceName=name, taskDefinition="web", desiredCount=0)
        await registered(scaling, ResourceId=f"service/default/{name}")
    await registered(scaling)
    for name in ("a", "b", "c"):
        await tracked(scaling, name)

    def paged(operation: str, member: str) -> list[str]:
        client = boto3.client(
            "application-autoscaling",
            endpoint_url=endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="dummy",
            aws_secret_access_key="dummy",
        )
        pages = client.get_paginator(operation).paginate(
            ServiceNamespace="ecs", PaginationConfig={"PageSize": 2}
        )
        found = [one for page in pages for one in page[member]]
        client.close()
        return [one.get("PolicyName") or one["ResourceId"] for one in found]

    found = await asyncio.to_thread(paged, "describe_scalable_targets", "ScalableTargets")
    assert found == [f"service/default/{name}" for name in ("s0", "s1", "s2", "s3", "s4", "shop")]
    found = await asyncio.to_thread(paged, "describe_scaling_policies", "ScalingPolicies")
    assert found == ["a", "b", "c"]
    found = await asyncio.to_thread(paged, "describe_scaling_activities", "ScalingActivities")
    assert found == [f"service/default/s{number}" for number in reversed(range(5))]
    code, _ = await scaling.refused(
        "describe_scalable_targets", ServiceNamespace="ecs", NextToken="x"
    )
    assert code == "InvalidNextTokenException"


async def test_a_scheduled_action_is_put_shown_changed_and_deleted(scaling: AwsClient) -> None:
    await registered(scaling)
    day = {
        **SHOP,
        "ScheduledActionName": "day",
        "Schedule": "cron(0 8 ? * MON-FRI *)",
        "Timezone": "Europe/Berlin",
        "ScalableTargetAction": {"MinCapacity": 5},
    }
    await scaling.call("put_scheduled_action", **day)
    (shown,) = (await scaling.call("describe_scheduled_actions", ServiceNamespace="ecs"))[
        "ScheduledActions"
    ]
    assert shown.items() >= day.items()
    assert shown["ScheduledActionARN"].endswith(
        ":resource/ecs/service/default/shop:scheduledActionName/day"
    )
    change = {**SHOP, "ScheduledActionName": "day", "Schedule": "rate(2 hours)"}
    await scaling.call("put_scheduled_action", **change)
    (shown,) = (
        await scaling.call(
            "describe_scheduled_actions", ServiceNamespace="ecs", ScheduledActionNames=["day"]
        )
    )["ScheduledActions"]
    assert (shown["Schedule"], shown["ScalableTargetAction"]) == (
        "rate(2 hours)",
        {"MinCapacity": 5},
    )
    for changed, text in (
        ({"Schedule": "cron(0 8 * * *)"}, "Schedule: "),
        ({"Schedule": "at(2001-01-01T00:00:00)"}, "would never be due"),
        ({"Timezone": "Mars/Base"}, "Timezone: "),
        ({"ScalableTargetAction": {}}, "needs MinCapacity or MaxCapacity"),
        ({"ScalableTargetAction": {"MinCapacity": 5, "MaxCapacity": 4}}, "cannot be less than"),
        ({"StartTime": 2_000_000_000, "EndTime": 1_900_000_000}, "EndTime must be later"),
    ):
        code, told = await scaling.refused("put_scheduled_action", **(day | changed))
        assert (code, text in told) == ("ValidationException", True), told
    code, told = await scaling.refused("put_scheduled_action", **SHOP, ScheduledActionName="night")
    assert (code, "Schedule is required" in told) == ("ValidationException", True)
    gone = {**SHOP, "ScheduledActionName": "day"}
    await scaling.call("delete_scheduled_action", **gone)
    code, _ = await scaling.refused("delete_scheduled_action", **gone)
    assert code == "ObjectNotFoundException"


async def test_scheduled_actions_come_in_pages(endpoint: Endpoint, scaling: AwsClient) -> None:
    await registered(scaling)
    await endpoint.call("CreateService", serviceName="blog", taskDefinition="web", desiredCount=1)
    blog = KIND | {"ResourceId": "service/default/blog"}
    await scaling.call("register_scalable_target", **blog, MinCapacity=1, MaxCapacity=2)
    for of, name in ((SHOP, "b"), (SHOP, "a"), (blog, "c")):
        await scaling.call(
            "put_scheduled_action",
            **of,
            ScheduledActionName=name,
            Schedule="rate(1 day)",
            ScalableTargetAction={"MaxCapacity": 2},
        )
    found: list[str] = []
    more: dict[str, Any] = {}
    for _ in range(3):
        answer = await scaling.call(
            "describe_scheduled_actions", ServiceNamespace="ecs", MaxResults=1, **more
        )
        found += [one["ScheduledActionName"] for one in answer["ScheduledActions"]]
        more = {"NextToken": answer.get("NextToken")}
    assert (found, more["NextToken"]) == (["c", "a", "b"], None)
    of_shop = await scaling.call(
        "describe_scheduled_actions", ServiceNamespace="ecs", ResourceId=SHOP["ResourceId"]
    )
    assert [one["ScheduledActionName"] for one in of_shop["ScheduledActions"]] == ["a", "b"]


STEPS: dict[str, Any] = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [
        {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 10.0, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 10.0, "ScalingAdjustment": 2},
    ],
}


async def test_a_step_policy_and_its_alarm(endpoint: Endpoint, scaling: AwsClient) -> None:
    await registered(scaling)
    request = {**SHOP, "PolicyName": "more", "StepScalingPolicyConfiguration": STEPS}
    arn = (await scaling.call("put_scaling_policy", **request))["PolicyARN"]
    # What clients that knew the query protocol make of its errors.
    unlisted = frozenset(
        {"InvalidParameterValue", "InvalidParameterCombination", "ResourceNotFound"}
    )
    metrics = await AwsClient.of(endpoint, "cloudwatch", unlisted=unlisted)
    tags = [{"Key": "team", "Value": "web"}]
    await metrics.call("put_metric_alarm", **HOT, AlarmActions=[arn], Tags=tags)
    (shown,) = (await metrics.call("describe_alarms", AlarmNames=["hot"]))["MetricAlarms"]
    assert shown.items() >= (HOT | {"AlarmActions": [arn], "ActionsEnabled": True}).items()
    assert shown["StateValue"] == "INSUFFICIENT_DATA"
    assert "DatapointsToAlarm" not in shown, "it is shown as it was given"
    answer = await metrics.call("list_tags_for_resource", ResourceARN=shown["AlarmArn"])
    assert answer["Tags"] == tags
    (policy,) = await policies(scaling)
    assert policy["Alarms"] == [{"AlarmName": "hot", "AlarmARN": shown["AlarmArn"]}]
    for state, names in (("INSUFFICIENT_DATA", ["hot"]), ("ALARM", [])):
        answer = await metrics.call("describe_alarms", StateValue=state)
        assert [one["AlarmName"] for one in answer["MetricAlarms"]] == names
    for changed, text in (
        ({"AlarmActions": ["arn:aws:sns:us-east-1:000000000000:ops"]}, "is not supported"),
        ({"OKActions": [arn]}, "OKActions is not supported"),
        ({"Period": 90}, "multiple of 60"),
        ({"EvaluationPeriods": 16}, "at most 15"),
        ({"DatapointsToAlarm": 3}, "DatapointsToAlarm"),
        ({"TreatMissingData": "ignore"}, "TreatMissingData ignore is not supported"),
        ({"MetricName": "Latency"}, "No service has the metric"),
        ({"Dimensions": HOT["Dimensions"][:1]}, "ClusterName and ServiceName"),
    ):
        _, told = await metrics.refused("put_metric_alarm", **(HOT | changed))
        assert text in told
    code, _ = await metrics.refused("delete_alarms", AlarmNames=["hot", "cold"])
    assert code == "ResourceNotFound"
    await metrics.call("delete_alarms", AlarmNames=["hot"])
    assert (await metrics.call("describe_alarms"))["MetricAlarms"] == []
    metrics.close()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"StepAdjustments": []}, "StepAdjustments must have 1 to 20"),
        ({"MinAdjustmentMagnitude": 2}, "MinAdjustmentMagnitude"),
        ({"MetricAggregationType": "Maximum"}, "MetricAggregationType must be Average"),
        (
            {"StepAdjustments": [*STEPS["StepAdjustments"], STEPS["StepAdjustments"][1]]},
            "must not overlap",
        ),
    ],
)
async def test_step_policies_that_are_refused(
    scaling: AwsClient, changed: dict[str, Any], text: str
) -> None:
    await registered(scaling)
    code, told = await scaling.refused(
        "put_scaling_policy",
        **SHOP,
        PolicyName="more",
        StepScalingPolicyConfiguration=STEPS | changed,
    )
    assert (code, text in told) == ("ValidationException", True), told


async def test_what_is_not_served(scaling: AwsClient) -> None:
    code, text = await scaling.refused(
        "get_predictive_scaling_forecast",
        **SHOP,
        PolicyName="p",
        StartTime=0,
        EndTime=1,
    )
    assert (code, "GetPredictiveScalingForecast is not supported" in text) == (
        "UnsupportedFeatureException",
        True,
    )
