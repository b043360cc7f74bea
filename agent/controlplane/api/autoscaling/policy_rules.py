"""What a scaling policy may be. Pure.

What cannot be done here is refused by its name. All functions raise ``ValidationException``.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.autoscaling.errors import ValidationException
from agent.controlplane.metric_store import catalogue
from agent.controlplane.metric_store.scopes import Kind
from agent.controlplane.scaling.figures import PREDEFINED, STATISTICS
from agent.controlplane.scaling.steps import ADJUSTMENTS, EXACT, PERCENT, bounds
from agent.controlplane.scaling.target import STEPS, TRACKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIGURATIONS: Final = {
    TRACKING: "TargetTrackingScalingPolicyConfiguration",
    STEPS: "StepScalingPolicyConfiguration",
}
"""The member of a request that has the configuration, by the type of policy."""
PREDICTIVE: Final = "PredictiveScalingPolicyConfiguration"
STEPS_MOST: Final = 20
"""Of one policy; the quota of AWS."""
COOLDOWNS: Final = ("ScaleOutCooldown", "ScaleInCooldown")


def configuration(
    kind: str, request: Mapping[str, Any], *, where: tuple[str, str]
) -> dict[str, Any]:
    """Return the configuration of a policy as it is stored.

    Args:
        kind: the type of the policy.
        request: a PutScalingPolicy request.
        where: the cluster and the service of the target.
    """
    if kind not in CONFIGURATIONS:
        raise ValidationException(
            f"The policy type {kind} is not supported by this control endpoint"
        )
    own = CONFIGURATIONS[kind]
    others = [
        name for name in (*CONFIGURATIONS.values(), PREDICTIVE) if name != own and name in request
    ]
    if others:
        raise ValidationException(f"{others[0]} does not go with the policy type {kind}")
    given: dict[str, Any] | None = request.get(own)
    if not given:
        raise ValidationException(f"{own} is required for the policy type {kind}")
    if kind == STEPS:
        _check_steps(given)
    else:
        _check_tracking(given, where)
    return given


def _check_steps(given: Mapping[str, Any]) -> None:
    kind = given.get("AdjustmentType")
    if kind not in ADJUSTMENTS:
        raise ValidationException(f"AdjustmentType must be one of {', '.join(ADJUSTMENTS)}")
    if given.get("MetricAggregationType", "Average") != "Average":
        raise ValidationException(
            "MetricAggregationType must be Average: the statistic of the alarm is what counts"
        )
    if given.get("Cooldown", 0) < 0:
        raise ValidationException("Cooldown must be at least 0")
    least = given.get("MinAdjustmentMagnitude")
    if least is not None and (kind != PERCENT or least < 1):
        raise ValidationException(
            f"MinAdjustmentMagnitude must be at least 1, and needs the AdjustmentType {PERCENT}"
        )
    steps = given.get("StepAdjustments") or []
    if not 1 <= len(steps) <= STEPS_MOST:
        raise ValidationException(f"StepAdjustments must have 1 to {STEPS_MOST} items")
    if kind == EXACT and any(step["ScalingAdjustment"] < 0 for step in steps):
        raise ValidationException(f"ScalingAdjustment must be at least 0 with {EXACT}")
    ends = sorted(bounds(step) for step in steps)
    if any(low >= high for low, high in ends):
        raise ValidationException("The lower bound of a step must be below its upper bound")
    if any(one[1] != other[0] for one, other in itertools.pairwise(ends)):
        raise ValidationException("The steps of StepAdjustments must not overlap or leave gaps")


def _check_tracking(given: Mapping[str, Any], where: tuple[str, str]) -> None:
    if given["TargetValue"] <= 0:
        raise ValidationException("TargetValue must be above 0")
    for name in COOLDOWNS:
        if given.get(name, 0) < 0:
            raise ValidationException(f"{name} must be at least 0")
    predefined = given.get("PredefinedMetricSpecification")
    custom = given.get("CustomizedMetricSpecification")
    if (predefined is None) == (custom is None):
        raise ValidationException(
            "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification is required"
        )
    if predefined is not None:
        kind = predefined["PredefinedMetricType"]
        if kind not in PREDEFINED:
            raise ValidationException(
                f"The metric {kind} is not supported by this control endpoint; it has "
                f"{' and '.join(PREDEFINED)}"
            )
        if "ResourceLabel" in predefined:
            raise ValidationException(f"The metric {kind} takes no ResourceLabel")
    else:
        _check_custom(given["CustomizedMetricSpecification"], where)


def _check_custom(given: Mapping[str, Any], where: tuple[str, str]) -> None:
    if "Metrics" in given:
        raise ValidationException(
            "Metric math (CustomizedMetricSpecification.Metrics) is not supported by this control endpoint"
        )
    missing = [n for n in ("Namespace", "MetricName", "Statistic", "Dimensions") if n not in given]
    if missing:
        raise ValidationException(f"CustomizedMetricSpecification.{missing[0]} is required")
    metric = catalogue.named(given["Namespace"], given["MetricName"])
    if metric is None or Kind.SERVICE not in metric.kinds:
        raise ValidationException(
            f"No service has the metric {given['MetricName'][:255]} of {given['Namespace'][:255]}; "
            "list-metrics of CloudWatch shows those that exist"
        )
    if given["Statistic"] not in STATISTICS:
        raise ValidationException(f"Statistic must be one of {', '.join(STATISTICS)}")
    if given.get("Unit") not in (None, metric.unit):
        raise ValidationException(f"The unit of {metric.name} is {metric.unit}")
    named = {each["Name"]: each["Value"] for each in given["Dimensions"]}
    wanted = dict(zip(("ClusterName", "ServiceName"), where, strict=True))
    if named != wanted or len(given["Dimensions"]) != len(wanted):
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        raise ValidationException(
            f"CustomizedMetricSpecification.Dimensions must be those of the scaled service: {told}"
        )
