"""Log events: taking them, and reading them by stream or by group."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.logs import patterns
from agent.controlplane.api.logs.errors import InvalidOperationException
from agent.controlplane.api.logs.naming import (
    checked_stream,
    group_name,
    group_named,
    stream_name,
)
from agent.controlplane.api.logs.patterns import PatternRefused
from agent.controlplane.api.logs.streams import sequence_token
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.front.pages import start_after, token
from agent.controlplane.log_store import rules
from agent.controlplane.log_store.changes import Batch
from agent.controlplane.log_store.contract import (
    BEFORE_ALL,
    BEHIND_ALL,
    LAST_MS,
    Event,
    Position,
)
from agent.controlplane.log_store.paging import PAGE_EVENTS, Ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.log_store.paging import Page
    from agent.controlplane.parts import Handlers, Parts

_TOKEN: Final = re.compile(r"([fb])/([0-9]{28})([0-9]{28})")
_NOT_OF_A_PAGE: Final = frozenset({"limit", "startFromHead", "interleaved", "unmask"})
"""What may differ between the pages of one reading."""


async def put_log_events(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Take a batch of events; they are on the disk when it is answered."""
    store = parts.logs()
    name, stream = group_name(request), stream_name(request)
    group = await store.group(name)
    events = request["logEvents"]
    times = [event["timestamp"] for event in events]
    messages = [event["message"] for event in events]
    judged = rules.judge(times, messages, int(store.clock() * 1000), store.kept_since_ms(group))
    taken = await store.append(
        Batch(
            group=name,
            stream=stream,
            times=times[judged.first : judged.end],
            messages=messages[judged.first : judged.end],
        )
    )
    rejected = {
        "tooOldLogEventEndIndex": judged.too_old_end or None,
        "expiredLogEventEndIndex": judged.expired_end or None,
        "tooNewLogEventStartIndex": judged.too_new_start,
    }
    return {
        "nextSequenceToken": sequence_token(taken.next_sequence),
        "rejectedLogEventsInfo": rejected
        if any(v is not None for v in rejected.values())
        else None,
    }


async def get_log_events(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of a stream, the newest one unless it is told otherwise; tokens lead both ways."""
    group, stream = group_named(parts.names, request), stream_name(request)
    given = request.get("nextToken")
    forward = request.get("startFromHead", False) if given is None else given.startswith("f")
    at = _position(given) if given else BEFORE_ALL if forward else BEHIND_ALL
    ask = Ask(
        at,
        start_ms=request.get("startTime", 0),
        end_ms=min(request.get("endTime", LAST_MS), LAST_MS) - 1,
        forward=forward,
        most_events=request.get("limit", PAGE_EVENTS),
    )
    page = (await parts.logs().page(group, ask, streams=[stream])).page
    before, behind = _ends(ask, page)
    return {
        "events": [
            {
                "timestamp": event.timestamp_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
            }
            for event in page.events
        ],
        "nextForwardToken": f"f/{_digits(behind)}",
        "nextBackwardToken": f"b/{_digits(before)}",
    }


async def filter_log_events(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of a group's events that match, those of all its streams in one order."""
    group = group_named(parts.names, request)
    names, prefix = request.get("logStreamNames"), request.get("logStreamNamePrefix", "")
    if names is not None and prefix:
        raise InvalidParameterException(
            "logStreamNames and logStreamNamePrefix are mutually exclusive parameters."
        )
    for name in names or ():
        checked_stream(name, "logStreamNames")
    try:
        matches = patterns.parse(request.get("filterPattern", ""))
    except PatternRefused as error:
        raise InvalidParameterException(f"Invalid filter pattern: {error}.") from None
    filters = {name: value for name, value in request.items() if name not in _NOT_OF_A_PAGE}
    place = start_after("FilterLogEvents", filters)
    forward = request.get("startFromHead", True) if place is None else place.startswith("f")
    ask = Ask(
        _position(place) if place else BEFORE_ALL if forward else BEHIND_ALL,
        start_ms=request.get("startTime", 0),
        end_ms=min(request.get("endTime", LAST_MS), LAST_MS),
        forward=forward,
        most_events=request.get("limit", PAGE_EVENTS),
        matches=matches,
    )
    found = await parts.logs().page(group, ask, streams=names, prefix=prefix)
    page = found.page
    shown = [_show(event, found.names) for event in page.events]
    answer: dict[str, Any] = {
        "events": shown if forward else shown[::-1],
        "searchedLogStreams": [],
    }
    if not page.is_last:
        last = f"{'f' if forward else 'b'}/{_digits(page.at)}"
        answer["nextToken"] = token("FilterLogEvents", filters, last)
    return answer


async def start_live_tail(_parts: Parts, _request: dict[str, Any]) -> dict[str, Any]:
    """Say what to use in place of it."""
    raise InvalidOperationException(
        "StartLiveTail is not supported by this control endpoint; use `aws logs tail GROUP --follow`, or "
        "FilterLogEvents."
    )


def _ends(ask: Ask, page: Page) -> tuple[Position, Position]:
    """Return where the page before one ends, and where the one behind it begins.

    A page that is read in one direction and is empty leads on from where it was, so that its token
    for that direction is the one it came by.
    """
    if page.events:
        before, behind = page.events[0].position, page.events[-1].position
        # A page that was cut short of what it looked through goes on from there.
        return (before, max(behind, page.at)) if ask.forward else (min(before, page.at), behind)
    if ask.forward:
        return Position(page.at.timestamp_ms, page.at.sequence + 1), page.at
    if page.at == BEHIND_ALL:
        return page.at, BEFORE_ALL
    return page.at, Position(page.at.timestamp_ms, page.at.sequence - 1)


def _position(text: str) -> Position:
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise InvalidParameterException("The specified nextToken is invalid.")
    return Position(int(found[2]) - 1, int(found[3]) - 1)


def _digits(position: Position) -> str:
    """Return a position as clients know tokens; one added, since it may be before all."""
    return f"{position.timestamp_ms + 1:028d}{max(position.sequence, -1) + 1:028d}"


def _show(event: Event, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "logStreamName": names[event.stream_id],
        "timestamp": event.timestamp_ms,
        "message": event.message,
        "ingestionTime": event.ingested_ms,
        "eventId": _digits(event.position),
    }


HANDLERS: Handlers = {
    "PutLogEvents": put_log_events,
    "GetLogEvents": get_log_events,
    "FilterLogEvents": filter_log_events,
    "StartLiveTail": start_live_tail,
}
