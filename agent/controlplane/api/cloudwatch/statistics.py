"""GetMetricStatistics: one metric, in periods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.cloudwatch import dimensions
from agent.controlplane.api.cloudwatch.errors import (
    InvalidParameterCombinationException,
    InvalidParameterValueException,
    MissingRequiredParameterException,
)
from agent.controlplane.api.cloudwatch.series import STATISTICS, Window, in_periods, is_period
from agent.controlplane.metric_store import catalogue

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts

POINTS_MOST: Final = 1440
"""As on CloudWatch."""


async def get_metric_statistics(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return statistics of a metric; empty for a metric that nobody has."""
    _refuse(request)
    asked = request.get("Statistics") or []
    if not asked:
        raise MissingRequiredParameterException(
            "At least one of the parameters Statistics and ExtendedStatistics must be specified."
        )
    period_s, window = request["Period"], Window.of(request)
    if not is_period(period_s):
        raise InvalidParameterValueException(
            "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60, up to 86400."
        )
    if window.start >= window.end:
        raise InvalidParameterValueException(
            "The parameter StartTime must be less than the parameter EndTime."
        )
    if window.points(period_s) > POINTS_MOST:
        raise InvalidParameterCombinationException(
            f"You have requested up to {window.points(period_s)} datapoints, which exceeds the limit "
            f"of {POINTS_MOST}. You may reduce the datapoints requested by increasing Period, or "
            "decreasing the time range."
        )
    metric = catalogue.named(request["Namespace"], request["MetricName"])
    scope = dimensions.scope_of(dimensions.read(request.get("Dimensions") or []))
    answer: dict[str, Any] = {"Label": request["MetricName"], "Datapoints": []}
    if metric is None or scope is None or request.get("Unit", metric.unit) != metric.unit:
        return answer
    points = await parts.metric_store().points(scope, metric, window.start, window.end)
    answer["Datapoints"] = [
        {"Timestamp": at, "Unit": metric.unit} | {name: STATISTICS[name](values) for name in asked}
        for at, values in in_periods(points, window, period_s).items()
    ]
    return answer


def _refuse(request: dict[str, Any]) -> None:
    extended = request.get("ExtendedStatistics") or []
    if extended:
        raise InvalidParameterValueException(
            f"The value {extended[0][:64]} for parameter ExtendedStatistics is not supported: "
            "percentiles need every value, but only minimum, maximum, sum and count are kept. Use Statistics."
        )


HANDLERS: Handlers = {"GetMetricStatistics": get_metric_statistics}
