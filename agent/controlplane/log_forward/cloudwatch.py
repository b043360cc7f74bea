"""CloudWatch Logs as a destination: PutLogEvents, with groups and streams made when they are missing.

Calls are signed with the keys that ``agent.aws`` finds for control's process. Several streams are written
side by side, each in the order of its events.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.log_forward.chunks import Chunk, Refusal, Sent
from agent.controlplane.log_store import rules
from agent.controlplane.log_store.blocks import OVERHEAD_BYTES
from agent.errors import AwsFailure, AwsRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.aws.api import JsonApi
    from agent.controlplane.log_store.contract import Event

TARGET: Final = "Logs_20140328"
_AT_ONCE: Final = 8
_MISSING: Final = "ResourceNotFoundException"
_EXISTS: Final = "ResourceAlreadyExistsException"
_FINAL: Final = frozenset(
    {"InvalidParameterException", "ValidationException", "SerializationException"}
)
"""Codes that the same events would get again."""
_REJECTED: Final = {
    "tooNewLogEventStartIndex": "too new",
    "tooOldLogEventEndIndex": "too old",
    "expiredLogEventEndIndex": "expired",
}


class CloudWatch:
    """See ``chunks.Destination``."""

    def __init__(self, name: str, api: JsonApi) -> None:
        """``api`` speaks to CloudWatch Logs."""
        self.name = name
        self._api = api
        self._lanes = asyncio.Semaphore(_AT_ONCE)

    async def send(self, chunks: list[Chunk]) -> Sent:
        """Deliver chunks side by side."""
        results = await asyncio.gather(*(self._send(chunk) for chunk in chunks))
        return Sent(
            [chunk for result in results for chunk in result.again],
            next((result.trouble for result in results if result.trouble), ""),
            [refusal for result in results for refusal in result.refusals],
        )

    async def _send(self, chunk: Chunk) -> Sent:
        refusals: list[Refusal] = []
        async with self._lanes:
            left = chunk.events
            for batch in batches(chunk.events):
                try:
                    refusals += await self._put(chunk, batch)
                except AwsRefused as error:
                    if error.code not in _FINAL:
                        return Sent([Chunk(chunk.group, chunk.stream, left)], str(error), refusals)
                    refusals.append(Refusal(chunk, len(batch), str(error)))
                except AwsFailure as error:
                    return Sent([Chunk(chunk.group, chunk.stream, left)], str(error), refusals)
                left = left[len(batch) :]
        return Sent([], refusals=refusals)

    async def _put(self, chunk: Chunk, batch: list[Event]) -> list[Refusal]:
        request = {
            "logGroupName": chunk.group,
            "logStreamName": chunk.stream,
            "logEvents": [{"timestamp": e.timestamp_ms, "message": e.message} for e in batch],
        }
        try:
            answer = await self._api.call("PutLogEvents", request)
        except AwsRefused as error:
            if error.code != _MISSING:
                raise
            await self._make(chunk)
            answer = await self._api.call("PutLogEvents", request)
        return list(_rejected(chunk, len(batch), answer.get("rejectedLogEventsInfo")))

    async def _make(self, chunk: Chunk) -> None:
        """Make group and stream; that one is there already is fine."""
        group = {"logGroupName": chunk.group}
        for operation, request in (
            ("CreateLogGroup", group),
            ("CreateLogStream", group | {"logStreamName": chunk.stream}),
        ):
            try:
                await self._api.call(operation, request)
            except AwsRefused as error:
                if error.code != _EXISTS:
                    raise


def batches(events: list[Event]) -> Iterator[list[Event]]:
    """Yield events, which are in order, in batches as PutLogEvents takes them. Pure."""
    start = size_bytes = 0
    for place, event in enumerate(events):
        more_bytes = len(event.message.encode()) + OVERHEAD_BYTES
        if place > start and (
            size_bytes + more_bytes > rules.BATCH_BYTES
            or place - start == rules.BATCH_EVENTS
            or event.timestamp_ms - events[start].timestamp_ms > rules.SPAN_MS
        ):
            yield events[start:place]
            start, size_bytes = place, 0
        size_bytes += more_bytes
    if start < len(events):
        yield events[start:]


def _rejected(chunk: Chunk, count: int, info: Any) -> Iterator[Refusal]:
    """Yield what an answer says of events that are out of time."""
    for name, words in _REJECTED.items():
        index = info.get(name) if isinstance(info, dict) else None
        if isinstance(index, int):
            yield Refusal(chunk, count - index if "Start" in name else index, words)
