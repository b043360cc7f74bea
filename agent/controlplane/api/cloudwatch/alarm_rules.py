"""What an alarm may be. Pure; what cannot be done here is refused by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.cloudwatch import dimensions
from agent.controlplane.api.cloudwatch.errors import (
    InvalidParameterCombinationException,
    InvalidParameterValueException,
    MissingRequiredParameterException,
)
from agent.controlplane.metric_store import catalogue
from agent.controlplane.metric_store.scopes import Kind
from agent.controlplane.scaling.alarm import (
    BREACHING,
    COMPARISONS,
    MINUTES_MOST,
    MISSING,
    NOT_BREACHING,
    AlarmRecord,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEEDED: Final = (
    *("MetricName", "Namespace", "Statistic", "Dimensions", "Period", "EvaluationPeriods"),
    *("Threshold", "ComparisonOperator"),
)
_REFUSED: Final = (
    *("ExtendedStatistic", "EvaluateLowSampleCountPercentile", "Metrics", "ThresholdMetricId"),
    *("OKActions", "InsufficientDataActions", "EvaluationWindow", "WarmUpConfiguration"),
    *("EvaluationCriteria", "EvaluationInterval", "ActionConfiguration"),
)
_ACTION: Final = re.compile(
    r"arn:[a-z-]+:autoscaling:[a-z0-9-]+:[0-9]{12}:scalingPolicy:[0-9a-f-]{36}:resource/ecs/.+"
)
_MINUTE_S: Final = 60


def read(request: Mapping[str, Any], now: float) -> AlarmRecord:
    """Return the alarm of a PutMetricAlarm request.

    Raises:
        ApiError: it is incomplete, contradicts itself, or needs what there is not here.
    """
    refused = [name for name in _REFUSED if request.get(name)]
    if refused:
        raise InvalidParameterValueException(
            f"The parameter {refused[0]} is not supported by this control endpoint."
        )
    missing = [name for name in _NEEDED if name not in request]
    if missing:
        raise MissingRequiredParameterException(f"The parameter {missing[0]} is required.")
    _check_actions(request.get("AlarmActions", ()))
    cluster, service = _service(request)
    alarm = AlarmRecord(
        name=request["AlarmName"],
        cluster=cluster,
        service=service,
        namespace=request["Namespace"],
        metric=request["MetricName"],
        statistic=request["Statistic"],
        period_s=request["Period"],
        periods=request["EvaluationPeriods"],
        datapoints=request.get("DatapointsToAlarm"),
        threshold=request["Threshold"],
        comparison=request["ComparisonOperator"],
        treat_missing=request.get("TreatMissingData", MISSING),
        actions=list(dict.fromkeys(request.get("AlarmActions", ()))),
        is_enabled=request.get("ActionsEnabled", True),
        description=request.get("AlarmDescription", ""),
        unit=request.get("Unit", ""),
        tags={tag["Key"]: tag["Value"] for tag in request.get("Tags", ())},
        updated_at=now,
    )
    _check(alarm)
    return alarm


def _check_actions(actions: Any) -> None:
    for arn in actions:
        if not _ACTION.fullmatch(arn):
            raise InvalidParameterValueException(
                f"The action {arn[:255]} is not supported: AlarmActions are ARNs of scaling policies of "
                "services, as PutScalingPolicy returns them."
            )


def _service(request: Mapping[str, Any]) -> tuple[str, str]:
    metric = catalogue.named(request["Namespace"], request["MetricName"])
    scope = dimensions.scope_of(dimensions.read(request["Dimensions"]))
    if scope is None or scope.kind is not Kind.SERVICE:
        raise InvalidParameterValueException(
            "Alarms are about one service here: the Dimensions are ClusterName and ServiceName."
        )
    if metric is None or Kind.SERVICE not in metric.kinds:
        raise InvalidParameterValueException(
            f"No service has the metric {request['MetricName'][:255]} of {request['Namespace'][:255]}."
        )
    if request.get("Unit", metric.unit) != metric.unit:
        raise InvalidParameterValueException(f"The unit of {metric.name} is {metric.unit}.")
    return scope.cluster, scope.name


def _check(alarm: AlarmRecord) -> None:
    if alarm.comparison not in COMPARISONS:
        raise InvalidParameterValueException(
            f"The ComparisonOperator {alarm.comparison} is not supported: it is for anomaly detection."
        )
    if alarm.treat_missing not in (MISSING, BREACHING, NOT_BREACHING):
        raise InvalidParameterValueException(
            f"The TreatMissingData {alarm.treat_missing[:64]} is not supported: use {MISSING}, {BREACHING} or "
            f"{NOT_BREACHING}."
        )
    if alarm.period_s < _MINUTE_S or alarm.period_s % _MINUTE_S:
        raise InvalidParameterValueException("The Period must be a multiple of 60.")
    if alarm.periods < 1 or alarm.period_s // _MINUTE_S * alarm.periods > MINUTES_MOST:
        raise InvalidParameterCombinationException(
            f"Period times EvaluationPeriods must be at least a minute and at most {MINUTES_MOST}."
        )
    if not 1 <= alarm.datapoints_needed <= alarm.periods:
        raise InvalidParameterValueException(
            "DatapointsToAlarm must be between 1 and EvaluationPeriods."
        )
