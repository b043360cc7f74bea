"""Log streams: create, delete, describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.logs.groups import PAGE
from agent.controlplane.api.logs.naming import group_name, group_named, stream_arn, stream_name
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.front.pages import start_after, token

if TYPE_CHECKING:
    from agent.controlplane.log_store.contract import Stream
    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts


async def create_log_stream(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a log stream in a group that is there."""
    await parts.logs().create_stream(group_name(request), stream_name(request))
    return {}


async def delete_log_stream(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a log stream with its events."""
    await parts.logs().delete_stream(group_name(request), stream_name(request))
    return {}


async def describe_log_streams(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe streams of a group, by name or by the time of their last event, a page at a time."""
    group = group_named(parts.names, request)
    by_time = request.get("orderBy", "LogStreamName") == "LastEventTime"
    backwards, size = request.get("descending", False), request.get("limit", PAGE)
    prefix = request.get("logStreamNamePrefix", "")
    if by_time and prefix:
        raise InvalidParameterException("Cannot order by LastEventTime with a logStreamNamePrefix.")
    filters = {name: value for name, value in request.items() if name != "limit"}
    after = start_after("DescribeLogStreams", filters)
    store = parts.logs()
    if by_time:
        time, _, name = (after or "").partition(":")
        streams = await store.streams_by_time(
            group,
            after=(int(time), name) if after else None,
            most=size + 1,
            newest_first=backwards,
        )
    else:
        streams = await store.streams(
            group, prefix=prefix, after=after or "", most=size + 1, backwards=backwards
        )
    shown = streams[:size]
    answer: dict[str, Any] = {"logStreams": [_show(parts.names, group, one) for one in shown]}
    if len(streams) > size:
        last = shown[-1]
        place = f"{last.last_event_ms or 0}:{last.name}" if by_time else last.name
        answer["nextToken"] = token("DescribeLogStreams", filters, place)
    return answer


def sequence_token(sequence: int) -> str:
    """Return what clients of old send with their next batch; nobody looks at it."""
    return f"{sequence:056d}"


def _show(names: Names, group: str, stream: Stream) -> dict[str, Any]:
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "firstEventTimestamp": stream.first_event_ms,
        "lastEventTimestamp": stream.last_event_ms,
        "lastIngestionTime": stream.last_ingested_ms,
        "uploadSequenceToken": None
        if stream.last_ingested_ms is None
        else sequence_token(stream.last_ingested_ms),
        "arn": stream_arn(names, group, stream.name),
        "storedBytes": 0,  # As in CloudWatch Logs since 2019.
    }


HANDLERS: Handlers = {
    "CreateLogStream": create_log_stream,
    "DeleteLogStream": delete_log_stream,
    "DescribeLogStreams": describe_log_streams,
}
