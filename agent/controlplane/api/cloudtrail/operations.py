"""The operations of AWS CloudTrail that are served: looking up records of the audit trail.

Source of the rules: CloudTrail API reference, ``LookupEvents``.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.audit.reading import Place, Wanted, event_time, user_of
from agent.controlplane.front import pages
from agent.controlplane.front.errors import (
    ApiError,
    ServerException,
    UnsupportedFeatureException,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.audit.reading import Found
    from agent.controlplane.parts import Handlers, Parts

PAGE_MOST: Final = 50
_ONE_FILE: Final = "the audit trail is one file on the host of control; its settings are options of ecs-agent control"
REASONS: Final[Mapping[str, str]] = dict.fromkeys(
    ("CreateTrail", "DeleteTrail", "DescribeTrails", "GetTrailStatus", "ListTrails", "UpdateTrail"),
    _ONE_FILE,
)
"""Why other operations are not served."""
_PLACE: Final = re.compile(r"([1-9][0-9]{0,9}):([0-9]{1,15})")
_FIELDS: Final = {
    "EventId": "event_id",
    "EventName": "event",
    "EventSource": "source",
    "Username": "user",
    "AccessKeyId": "access_key",
    "ResourceName": "resource",
    "ResourceType": "resource_type",
}


class InvalidLookupAttributesException(ApiError):
    """There is more than one attribute, or its value is not valid."""


class InvalidTimeRangeException(ApiError):
    """The end of the range is before its beginning."""


class InvalidMaxResultsException(ApiError):
    """A page cannot have so many events."""


class InvalidNextTokenException(ApiError):
    """The token was not made for this request."""


class InvalidEventCategoryException(ApiError):
    """There are no events of the category."""


async def lookup_events(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return records, newest first."""
    trail = parts.audit
    if trail is None:
        raise UnsupportedFeatureException("this control endpoint keeps no audit trail (--no-audit)")
    if request.get("EventCategory"):
        raise InvalidEventCategoryException(
            "There are no Insights events here; leave EventCategory out."
        )
    most = request.get("MaxResults", PAGE_MOST)
    if not 1 <= most <= PAGE_MOST:
        raise InvalidMaxResultsException(f"MaxResults must be between 1 and {PAGE_MOST}.")
    wanted, start = _wanted(request), _start(request)
    try:
        page = await trail.page(wanted, start, most=most)
    except OSError as error:
        raise ServerException(f"The audit trail cannot be read: {error.strerror}.") from None
    answer: dict[str, Any] = {"Events": [_event(found) for found in page.records]}
    if page.next is not None:
        place = f"{page.next.number}:{page.next.offset}"
        answer["NextToken"] = pages.token("LookupEvents", _filters(request), place)
    return answer


def _wanted(request: dict[str, Any]) -> Wanted:
    attributes = request.get("LookupAttributes") or []
    if len(attributes) > 1:
        raise InvalidLookupAttributesException("Specify one lookup attribute at most.")
    since, until = _seconds(request.get("StartTime")), _seconds(request.get("EndTime"))
    if since is not None and until is not None and since > until:
        raise InvalidTimeRangeException("EndTime is before StartTime.")
    fields: dict[str, Any] = {"since": since, "until": until}
    for attribute in attributes:
        key, value = attribute["AttributeKey"], attribute["AttributeValue"]
        if key == "ReadOnly":
            if value not in ("true", "false"):
                raise InvalidLookupAttributesException(
                    "The value of ReadOnly must be true or false."
                )
            fields["read_only"] = value == "true"
        else:
            fields[_FIELDS[key]] = value
    return Wanted(**fields)


def _start(request: dict[str, Any]) -> Place | None:
    given = request.get("NextToken")
    if given is None:
        return None
    try:
        last = pages.start_after("LookupEvents", _filters(request) | {"nextToken": given})
    except pages.InvalidToken:
        last = None
    match = _PLACE.fullmatch(last or "")
    if match is None:
        raise InvalidNextTokenException("Invalid token.")
    return Place(int(match[1]), int(match[2]))


def _filters(request: dict[str, Any]) -> dict[str, Any]:
    """Return what must be the same on each page."""
    return {
        name: str(value)
        for name, value in request.items()
        if name not in ("NextToken", "MaxResults")
    }


def _seconds(given: Any) -> float | None:
    return given.timestamp() if isinstance(given, datetime) else given


def _event(found: Found) -> dict[str, Any]:
    record = found.record
    identity = record.get("userIdentity") or {}
    return {
        "EventId": record.get("eventID"),
        "EventName": record.get("eventName"),
        "ReadOnly": "true" if record.get("readOnly") else "false",
        "AccessKeyId": identity.get("accessKeyId"),
        "EventTime": event_time(record),
        "EventSource": record.get("eventSource"),
        "Username": user_of(record),
        "Resources": [
            {"ResourceType": each.get("type"), "ResourceName": each.get("ARN")}
            for each in record.get("resources") or ()
        ],
        "CloudTrailEvent": msgspec.json.encode(record).decode(),
    }


HANDLERS: Handlers = {"LookupEvents": lookup_events}


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return HANDLERS
