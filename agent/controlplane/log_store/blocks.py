"""Blocks: some events of one stream, sorted and compressed, as segments hold them. Pure.

Times, sequences and times of taking are written as differences, which compress to almost nothing.
"""

from __future__ import annotations

import zlib
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from agent.controlplane.log_store.contract import Event, LogStoreFailure
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SPAN_MS: Final = 3600 * 1000
"""Between the first and the last event of a block, so that what overlaps a moment is found quickly."""
OVERHEAD_BYTES: Final = 26
"""What an event counts beside its message, as in CloudWatch Logs."""
_LEVEL: Final = 5
_INFLATED_MOST: Final = 64 * 1024 * 1024


class _Columns(Struct, frozen=True, array_like=True):
    stream_id: int
    times: list[int]
    sequences: list[int]
    ingested: list[int]
    messages: list[str]


_columns = msgspec.msgpack.Decoder(_Columns)


class BlockBroken(LogStoreFailure):
    """A block is not what was written."""


def split(events: Sequence[Event], most_bytes: int) -> Iterator[Sequence[Event]]:
    """Yield sorted events in pieces of about so many bytes, none longer than ``SPAN_MS``."""
    start = size = 0
    for place, event in enumerate(events):
        is_far = event.timestamp_ms - events[start].timestamp_ms > SPAN_MS
        if place > start and (is_far or size >= most_bytes):
            yield events[start:place]
            start, size = place, 0
        size += len(event.message) + OVERHEAD_BYTES
    if start < len(events):
        yield events[start:]


def encode(events: Sequence[Event]) -> bytes:
    """Return events of one stream, at least one, as they are kept."""
    columns = _Columns(
        events[0].stream_id,
        _differences([event.timestamp_ms for event in events]),
        _differences([event.sequence for event in events]),
        _differences([event.ingested_ms for event in events]),
        [event.message for event in events],
    )
    return zlib.compress(msgspec.msgpack.encode(columns), _LEVEL)


def decode(data: bytes) -> list[Event]:
    """Return the events of a block.

    Raises:
        BlockBroken: it is not a block.
    """
    try:
        columns = _columns.decode(inflate(data, _INFLATED_MOST))
    except (*BAD_JSON, zlib.error) as error:
        raise BlockBroken(f"a block cannot be read: {error}") from None
    return [
        Event(time, sequence, columns.stream_id, ingested, message)
        for time, sequence, ingested, message in zip(
            accumulate(columns.times),
            accumulate(columns.sequences),
            accumulate(columns.ingested),
            columns.messages,
            strict=False,
        )
    ]


def inflate(data: bytes, most_bytes: int) -> bytes:
    """Return what was compressed; raises ``zlib.error`` for more than so much, or none of it."""
    work = zlib.decompressobj()
    plain = work.decompress(data, most_bytes)
    if not work.eof:
        raise zlib.error("it is cut off or too large")
    return plain


def _differences(numbers: list[int]) -> list[int]:
    return [numbers[0], *(after - before for before, after in pairwise(numbers))]
