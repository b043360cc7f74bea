"""The last minutes of the services that policies are about.

Each minute is read from the metric store once, when it is closed, and a service that is new with all of its last
minutes. Nothing else is kept: after a restart of control the minutes are read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from agent.controlplane.metric_store import catalogue, scopes
from agent.controlplane.scaling.tracking import LOW_MINUTES, Minute

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from agent.controlplane.metric_store.catalogue import Metric
    from agent.controlplane.metric_store.roll_up import Row
    from agent.controlplane.metric_store.scopes import Scope
    from agent.controlplane.scaling.target import Policy
    from agent.model.statistics import StatisticSet

KEPT: Final = LOW_MINUTES + 1
"""Minutes: one more than a row, because a minute is compared with the one before."""
PREDEFINED: Final[Mapping[str, Metric]] = {
    "ECSServiceAverageCPUUtilization": catalogue.CPU_UTILIZATION,
    "ECSServiceAverageMemoryUtilization": catalogue.MEMORY_UTILIZATION,
}
"""The metrics of target tracking, by ``PredefinedMetricType``."""
STATISTICS: Final = ("Average", "Minimum", "Maximum", "Sum", "SampleCount")


class Values(NamedTuple):
    """All values of a metric in one minute."""

    values: StatisticSet
    is_whole: bool
    """Whether they are of all tasks that ran."""


class MinuteReader(Protocol):
    """Reads closed minutes (``metric_store.store.MetricStore``)."""

    async def minute(self, wanted: Collection[Scope], at: int) -> dict[Scope, Row]:
        """Return the points of these scopes in one minute."""


class Figures:
    """The last minutes of services; for one event loop."""

    def __init__(self, reader: MinuteReader) -> None:
        self._reader = reader
        self._rows: dict[Scope, dict[int, Row]] = {}
        self._read_to = 0

    async def read(self, wanted: Iterable[Scope], at: int) -> None:
        """Have the last minutes of these services, up to one; forget all others."""
        scopes_ = set(wanted)
        first = at - KEPT + 1
        if self._read_to > at:
            self._rows.clear()  # the clock was set back
        known = {scope: rows for scope, rows in self._rows.items() if scope in scopes_}
        fresh = scopes_ - known.keys()
        for minute in range(first, at + 1):
            asked = scopes_ if minute > self._read_to else fresh
            found = await self._reader.minute(asked, minute) if asked else {}
            for scope, row in found.items():
                known.setdefault(scope, {})[minute] = row
        for scope in scopes_:
            rows = known.setdefault(scope, {})
            for minute in [each for each in rows if each < first]:
                del rows[minute]
        self._rows, self._read_to = known, at

    def of(self, scope: Scope, policy: Policy) -> dict[int, Minute]:
        """Return the figures that a policy is about, by minute."""
        metric, statistic = measure(policy)
        return minutes(self._rows.get(scope, {}), metric, statistic)

    def values(self, scope: Scope, metric: Metric) -> dict[int, Values]:
        """Return the figures of a metric, by minute."""
        return values_of(self._rows.get(scope, {}), metric)


def minutes(rows: Mapping[int, Row], metric: Metric, statistic: str) -> dict[int, Minute]:
    """Return the figures of a metric in rows of one service. Pure."""
    return {
        at: Minute(value_of(one.values, statistic), one.is_whole)
        for at, one in values_of(rows, metric).items()
    }


def values_of(rows: Mapping[int, Row], metric: Metric) -> dict[int, Values]:
    """Return the figures of a metric in rows of one service, by minute. Pure."""
    return {
        at: Values(values, _is_whole(rows, at, values.count))
        for at, row in rows.items()
        if (values := row.get(metric.number)) is not None
    }


def _is_whole(rows: Mapping[int, Row], at: int, had_figures: int) -> bool:
    """Tell whether all tasks had figures that ran in a minute and in the one before.

    A task that began to run in the minute may not have told anything yet.
    """
    running = [
        int(values.sum)
        for minute in (at - 1, at)
        if (values := rows.get(minute, {}).get(catalogue.RUNNING_TASKS.number)) is not None
    ]
    return not running or had_figures >= min(running)


def value_of(values: StatisticSet, statistic: str) -> float:
    """Return one statistic of a set. Pure."""
    match statistic:
        case "Minimum":
            return values.min
        case "Maximum":
            return values.max
        case "Sum":
            return values.sum
        case "SampleCount":
            return float(values.count)
        case _:
            return values.average


def measure(policy: Policy) -> tuple[Metric, str]:
    """Return the metric and the statistic that a target tracking policy is about. Pure."""
    given: Mapping[str, Any] = policy.configuration
    predefined = given.get("PredefinedMetricSpecification")
    if predefined is not None:
        return PREDEFINED[predefined["PredefinedMetricType"]], "Average"
    custom = given["CustomizedMetricSpecification"]
    metric = catalogue.named(custom["Namespace"], custom["MetricName"])
    if metric is None:
        raise ValueError(f"policy {policy.name} is about a metric that does not exist")
    return metric, custom["Statistic"]


def scope(cluster: str, service: str) -> Scope:
    """Return the scope of a service's figures."""
    return scopes.service(cluster, service)
