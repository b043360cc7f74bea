"""Targets, policies and figures of tests."""

from __future__ import annotations

from typing import Any

from agent.controlplane.scaling.target import TRACKING, Policy, ScalableTarget
from agent.controlplane.scaling.tracking import Minute

CPU = {"PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}}
SHOP = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/default/shop",
    "ScalableDimension": "ecs:service:DesiredCount",
}
HOT: dict[str, Any] = {
    "AlarmName": "hot",
    "Namespace": "AWS/ECS",
    "MetricName": "CPUUtilization",
    "Statistic": "Average",
    "Dimensions": [
        {"Name": "ClusterName", "Value": "default"},
        {"Name": "ServiceName", "Value": "shop"},
    ],
    "Period": 60,
    "EvaluationPeriods": 2,
    "Threshold": 70.0,
    "ComparisonOperator": "GreaterThanThreshold",
}
AT = 28_000_000
"""A minute."""
NOW = 60.0 * (AT + 1)


def policy(name: str = "cpu", value: float = 50.0, **more: Any) -> Policy:
    """A target tracking policy."""
    return Policy(
        name=name,
        id=name,
        type=TRACKING,
        configuration={"TargetValue": value, **CPU, **more},
        high_alarm=f"{name}-high",
        low_alarm=f"{name}-low",
    )


def target(*policies: Policy, low: int = 1, high: int = 20, **more: Any) -> ScalableTarget:
    """A target of a service ``shop``."""
    return ScalableTarget(
        cluster="default",
        service="shop",
        id="1",
        min_capacity=low,
        max_capacity=high,
        policies=list(policies) or [policy()],
        **more,
    )


def steady(value: float, minutes: int = 15, at: int = AT) -> dict[int, Minute]:
    """The same figure in the last minutes."""
    return {at - ago: Minute(value) for ago in range(minutes)}
