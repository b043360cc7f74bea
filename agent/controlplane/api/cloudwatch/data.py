"""GetMetricData: metrics, and expressions of them, a page at a time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.controlplane.api.cloudwatch import dimensions, expressions, labels, listing, search
from agent.controlplane.api.cloudwatch.errors import InvalidNextToken, ValidationException
from agent.controlplane.api.cloudwatch.expressions import Node, Series
from agent.controlplane.api.cloudwatch.series import STATISTICS, Window, in_periods, is_period
from agent.controlplane.front import pages
from agent.controlplane.metric_store import catalogue
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from agent.controlplane.api.cloudwatch.expressions import Asked, Value
    from agent.controlplane.metric_store.catalogue import Metric
    from agent.controlplane.metric_store.scopes import Scope
    from agent.controlplane.parts import Handlers, Parts

QUERIES_MOST: Final = 500
POINTS_MOST: Final = 100_800
"""Of one page. Both as on CloudWatch."""
SEARCHED_MOST: Final = 500
"""Metrics that a search returns."""
_ID: Final = re.compile(r"[a-z][A-Za-z0-9_]*")
_SHOWN: Final = 64
_place = msgspec.json.Decoder(tuple[int, int | None])
_FILTERS: Final[tuple[str, ...]] = (
    "MetricDataQueries",
    "StartTime",
    "EndTime",
    "ScanBy",
    "LabelOptions",
)


class Query(Struct, frozen=True, kw_only=True):
    """One query of a request."""

    id: str
    label: str
    is_returned: bool
    stat: dict[str, Any] | None = None
    """The ``MetricStat``; else there is an expression."""
    expression: Node | None = None
    text: str = ""


async def get_metric_data(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the queries of a request; empty for metrics that nobody has."""
    window = Window.of(request)
    if window.start >= window.end:
        raise ValidationException(
            "The parameter StartTime must be less than the parameter EndTime."
        )
    most = request.get("MaxDatapoints", POINTS_MOST)
    if not 1 <= most <= POINTS_MOST:
        raise ValidationException(f"MaxDatapoints must be between 1 and {POINTS_MOST}.")
    queries = _queries(parts, request)
    asked = {name: request[name] for name in _FILTERS if name in request}
    page = _Page(
        most,
        is_ascending=request.get("ScanBy") == "TimestampAscending",
        after=_after(asked, request.get("NextToken")),
    )
    values = await _Evaluation(parts, window, queries).values()
    for query in queries:
        if query.is_returned:
            page.add(query, values[query.id])
    answer: dict[str, Any] = {"MetricDataResults": page.results, "Messages": []}
    if page.last is not None:
        place = msgspec.json.encode(page.last).decode()
        answer["NextToken"] = pages.token("GetMetricData", asked, place)
    return answer


class _Page:
    """Fills a page of results, which goes on where the last one ended."""

    def __init__(self, most: int, *, is_ascending: bool, after: tuple[int, int | None]) -> None:
        self.results: list[dict[str, Any]] = []
        self.last: tuple[int, int | None] | None = None
        """The result, and the time in it, that are the last of this page; None if all are there."""
        self._left = most
        self._is_ascending = is_ascending
        self._after = after
        self._number = 0
        """Of the result, among those of all pages."""

    def add(self, query: Query, value: Value) -> None:
        """Add the results of a query; raises ``ValidationException`` if it is not a metric."""
        if isinstance(value, float):
            raise ValidationException(
                f"The expression of {query.id} is a number, but a query must return metrics."
            )
        for series in [value] if isinstance(value, Series) else value:
            self._add(query, series)
            self._number += 1

    def _add(self, query: Query, series: Series) -> None:
        first, time = self._after
        if self._number < first or self.last is not None:
            return
        moments = sorted(series.values, reverse=not self._is_ascending)
        if self._number == first and time is not None:
            moments = [at for at in moments if (at > time if self._is_ascending else at < time)]
            if not moments:
                return
        shown, rest = moments[: self._left], moments[self._left :]
        self._left -= len(shown)
        if rest:
            self.last = (
                self._number,
                shown[-1] if shown else time if self._number == first else None,
            )
            if not shown:
                return
        default = series.label or query.text or query.id
        ordered = [series.values[at] for at in sorted(series.values)]
        self.results.append(
            {
                "Id": query.id,
                "Label": labels.resolved(query.label, default, series.properties, ordered)
                if query.label
                else default,
                "Timestamps": shown,
                "Values": [series.values[at] for at in shown],
                "StatusCode": "PartialData" if rest else "Complete",
            }
        )


class _Evaluation:
    """Computes the queries of one request, each once."""

    def __init__(self, parts: Parts, window: Window, queries: list[Query]) -> None:
        self._parts = parts
        self._store = parts.metric_store()
        self._window = window
        self._queries = queries
        self._values: dict[str, Value] = {}
        self._budget = expressions.Budget()

    async def values(self) -> dict[str, Value]:
        """Return the value of every query, by id; raises ``ValidationException``."""
        for query in self._queries:
            if query.stat is not None:
                self._values[query.id] = await self._of_stat(query.stat)
        metrics = [each for each in self._values.values() if isinstance(each, Series)]
        waiting = {q.id: q.expression for q in self._queries if q.expression is not None}
        while waiting:
            known = self._values.keys()
            ready = {id_: e for id_, e in waiting.items() if expressions.names_in(e) <= known}
            if not ready:
                raise ValidationException(
                    f"The expression of {next(iter(waiting))} names an id that does not exist, or depends on itself."
                )
            for id_, expression in ready.items():
                searches = expressions.searches_in(expression)
                found = {asked: await self._found(asked) for asked in searches}
                self._values[id_] = expressions.evaluated(
                    expression, self._values, found, metrics, self._budget
                )
                del waiting[id_]
        return self._values

    async def _of_stat(self, stat: dict[str, Any]) -> Series:
        asked = stat["Metric"]
        metric = catalogue.named(asked.get("Namespace", ""), asked.get("MetricName", ""))
        scope = dimensions.scope_of(dimensions.read(asked.get("Dimensions") or []))
        if metric is None or scope is None or stat.get("Unit", metric.unit) != metric.unit:
            return Series({}, str(asked.get("MetricName", "")))
        return await self._series(metric, scope, stat["Stat"], stat["Period"])

    async def _series(self, metric: Metric, scope: Scope, stat: str, period_s: int) -> Series:
        window = self._window
        points = await self._store.points(scope, metric, window.start, window.end)
        value_of = STATISTICS[stat]
        values = dimensions.of(scope)
        properties = {f"Dim.{name}": value for name, value in values.items()} | {
            "MetricName": metric.name,
            "Namespace": metric.namespace,
            "Stat": stat,
            "Period": str(period_s),
            "Region": self._parts.names.region,
            "AccountId": self._parts.names.account,
        }
        return Series(
            {at: value_of(each) for at, each in in_periods(points, window, period_s).items()},
            metric.name,
            properties,
        )

    async def _found(self, asked: Asked) -> list[Series]:
        _check_stat(asked.stat, asked.period_s)
        wanted = search.parsed(asked.term)
        account = self._parts.names.account
        found: list[Series] = []
        async for one in listing.every(self._store):
            if wanted.finds(one.metric, one.scope, account):
                series = await self._series(one.metric, one.scope, asked.stat, asked.period_s)
                self._budget.paid(series)
                found.append(msgspec.structs.replace(series, label=_search_label(one.scope)))
                if len(found) == SEARCHED_MOST:
                    break
        return found


def _search_label(scope: Scope) -> str:
    return " ".join(dimensions.of(scope).values())


def _queries(parts: Parts, request: dict[str, Any]) -> list[Query]:
    given = request["MetricDataQueries"]
    if not 1 <= len(given) <= QUERIES_MOST:
        raise ValidationException(f"A request must have 1 to {QUERIES_MOST} queries.")
    queries = [_query(parts, one) for one in given]
    if len({query.id for query in queries}) < len(queries):
        raise ValidationException(
            "The values for parameter id in MetricDataQueries are not unique."
        )
    if not any(query.is_returned for query in queries):
        raise ValidationException("No query of the request returns data (ReturnData).")
    return queries


def _query(parts: Parts, given: dict[str, Any]) -> Query:
    name, stat, text = given["Id"], given.get("MetricStat"), given.get("Expression")
    if not _ID.fullmatch(name):
        raise ValidationException(
            f"The value {name[:_SHOWN]} for parameter Id must begin with a lower-case letter, and have "
            "letters, digits and underscores."
        )
    if given.get("AccountId", parts.names.account) != parts.names.account:
        raise ValidationException(
            f"AccountId of {name}: this control only has the account {parts.names.account}."
        )
    if (stat is None) == (text is None):
        raise ValidationException(f"{name} needs one of MetricStat and Expression, and not both.")
    query = Query(id=name, label=given.get("Label", ""), is_returned=given.get("ReturnData", True))
    if stat is not None:
        _check_stat(stat["Stat"], stat["Period"])
        return msgspec.structs.replace(query, stat=stat)
    return msgspec.structs.replace(query, expression=expressions.parsed(text or ""), text=text)


def _check_stat(stat: str, period_s: int) -> None:
    if stat not in STATISTICS:
        raise ValidationException(
            f"The value {stat[:_SHOWN]} for parameter Stat is not supported: only minimum, maximum, sum "
            f"and count are kept. Use {', '.join(STATISTICS)}."
        )
    if not is_period(period_s):
        raise ValidationException(
            "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60, up to 86400."
        )


def _after(asked: dict[str, Any], token: str | None) -> tuple[int, int | None]:
    try:
        after = pages.start_after("GetMetricData", asked | {"nextToken": token})
    except pages.InvalidToken:
        raise InvalidNextToken("The NextToken is not one of this request.") from None
    try:
        return (0, None) if after is None else _place.decode(after)
    except BAD_JSON:  # its digest has no key: anybody can make one that fits
        raise InvalidNextToken("The NextToken is not one of this request.") from None


HANDLERS: Handlers = {"GetMetricData": get_metric_data}
