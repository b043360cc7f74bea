"""ListMetrics: the metrics that have points, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agent.controlplane.api.cloudwatch import dimensions
from agent.controlplane.api.cloudwatch.errors import InvalidParameterValueException
from agent.controlplane.front import pages
from agent.controlplane.metric_store import catalogue
from agent.controlplane.metric_store.scopes import Kind, Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.controlplane.metric_store.catalogue import Metric
    from agent.controlplane.metric_store.file import Listed
    from agent.controlplane.metric_store.store import MetricStore
    from agent.controlplane.parts import Handlers, Parts

PAGE: Final = 500
"""As on CloudWatch."""
RECENT_S: Final = 3 * 3600
_SCOPES: Final = 500
_place = msgspec.json.Decoder(tuple[int, str, str, str, int])
_FILTERS: Final[tuple[str, ...]] = ("Namespace", "MetricName", "Dimensions", "RecentlyActive")


class Found(NamedTuple):
    """One metric of one scope."""

    metric: Metric
    scope: Scope

    def place(self) -> str:
        """Return its place in the list, for a token."""
        return msgspec.json.encode((*self.scope, self.metric.number)).decode()


async def list_metrics(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return metrics of a namespace, name and dimensions, as far as the request names them."""
    if request.get("OwningAccount", parts.names.account) != parts.names.account:
        return {"Metrics": []}
    asked = {name: request[name] for name in _FILTERS if name in request}
    try:
        place = pages.start_after("ListMetrics", asked | {"nextToken": request.get("NextToken")})
        after = None if place is None else _decoded(place)
    except (pages.InvalidToken, ValueError):  # a digest has no key: anybody can make one that fits
        raise InvalidParameterValueException("The parameter NextToken is not valid.") from None
    since = int(parts.clock() - RECENT_S) // 60 if "RecentlyActive" in request else 0
    found: list[Found] = []
    more = None
    async for one in every(parts.metric_store(), after, since=since):
        if not _is_wanted(one, request):
            continue
        if len(found) == PAGE:
            more = pages.token("ListMetrics", asked, found[-1].place())
            break
        found.append(one)
    answer: dict[str, Any] = {"Metrics": [_shown(one) for one in found], "NextToken": more}
    if request.get("IncludeLinkedAccounts"):
        answer["OwningAccounts"] = [parts.names.account] * len(found)
    return answer


def _decoded(place: str) -> tuple[Scope, int]:
    """Return what ``Found.place`` was made of; raises ``ValueError`` for anything else."""
    kind, *names, number = _place.decode(place)
    return Scope(Kind(kind), *names), number


async def every(
    store: MetricStore, after: tuple[Scope, int] | None = None, *, since: int = 0
) -> AsyncIterator[Found]:
    """Yield all metrics that have points, in order.

    Args:
        store: has them.
        after: scope and number of the one before the first.
        since: the minute since which they must have had some.
    """
    first, number = after or (None, 0)
    scope, done = first, None
    while page := [one for one in await store.listed(scope, _SCOPES) if one.scope != done]:
        for one in page:
            for metric in _metrics(one) if one.last >= since else ():
                if one.scope != first or metric.number > number:
                    yield Found(metric, one.scope)
        scope = done = page[-1].scope


def _metrics(listed: Listed) -> list[Metric]:
    return [
        metric
        for metric in catalogue.ALL
        if listed.metrics >> metric.number & 1 and listed.scope.kind in metric.kinds
    ]


def _is_wanted(found: Found, request: dict[str, Any]) -> bool:
    if request.get("Namespace", found.metric.namespace) != found.metric.namespace:
        return False
    if request.get("MetricName", found.metric.name) != found.metric.name:
        return False
    values = dimensions.of(found.scope)
    return all(
        each["Name"] in values and each.get("Value", values[each["Name"]]) == values[each["Name"]]
        for each in request.get("Dimensions") or []
    )


def _shown(found: Found) -> dict[str, Any]:
    return {
        "Namespace": found.metric.namespace,
        "MetricName": found.metric.name,
        "Dimensions": dimensions.shown(dimensions.of(found.scope)),
    }


HANDLERS: Handlers = {"ListMetrics": list_metrics}
