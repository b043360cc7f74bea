"""Segments: files of compressed blocks that are written once, whole, and never changed. Blocking.

::

    frame(block) ...  frame(footer)  trailer: where the footer begins, and a mark

Each block is a frame of its own, so that damage of one is known and costs that one. The footer lists
the blocks, and the groups and streams they are of: a catalogue that is lost is made anew from it.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from agent.controlplane.log_store import blocks, frames
from agent.controlplane.log_store.blocks import BlockBroken
from agent.controlplane.log_store.contract import Event, Group, LogStoreFailure, Stream
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

_TRAILER: Final = struct.Struct("<Q8s")
_MARK: Final = b"ECSLOGS1"
_FOOTER_MOST_BYTES: Final = 256 * 1024 * 1024


class Block(Struct, frozen=True, array_like=True):
    """Where a block is, and what it holds."""

    segment: int
    offset: int
    length: int
    """Of its frame."""
    group_id: int
    stream_id: int
    least_ms: int
    most_ms: int
    first_sequence: int
    last_sequence: int
    """The least and the greatest in it."""
    count: int


class GroupCopy(Struct, frozen=True, array_like=True):
    """What a segment knows of a group."""

    id: int
    name: str
    created_ms: int
    retention_days: int | None
    tags: dict[str, str]

    @classmethod
    def of(cls, group: Group) -> GroupCopy:
        """Return what is kept of it."""
        return cls(group.id, group.name, group.created_ms, group.retention_days, group.tags)


class StreamCopy(Struct, frozen=True, array_like=True):
    """What a segment knows of a stream."""

    id: int
    group_id: int
    name: str
    created_ms: int
    first_event_ms: int
    last_event_ms: int
    last_ingested_ms: int


class Footer(Struct, frozen=True, array_like=True):
    """All that a segment holds but the events."""

    number: int
    groups: list[GroupCopy]
    streams: list[StreamCopy]
    blocks: list[Block]


_footer = msgspec.msgpack.Decoder(Footer)


def write(
    path: Path,
    number: int,
    groups: Iterable[Group],
    streams: Mapping[int, Stream],
    events: Iterable[Sequence[Event]],
    block_bytes: int,
) -> Footer:
    """Write a segment, durably, whole or not at all.

    Args:
        path: where; its name says nothing.
        number: of the segment.
        groups: of the streams.
        streams: by id, those of the events.
        events: those of one stream after the other, each sorted by position, none empty.
        block_bytes: about how much of messages is in a block.

    Raises:
        OSError: the disk does not take it; nothing is left.
    """
    listed: list[Block] = []
    copies: list[StreamCopy] = []

    def frames_of_blocks() -> Iterable[bytes]:
        offset = 0
        for of_stream in events:
            stream = streams[of_stream[0].stream_id]
            copies.append(_copy(stream, of_stream))
            for piece in blocks.split(of_stream, block_bytes):
                framed = frames.frame(blocks.encode(piece))
                listed.append(_block(number, offset, len(framed), stream.group_id, piece))
                offset += len(framed)
                yield framed

    def footer() -> Footer:
        return Footer(number, [GroupCopy.of(group) for group in groups], copies, listed)

    return _put(path, frames_of_blocks(), footer)


def rewrite(path: Path, old: Path, footer: Footer, alive: Sequence[Block]) -> Footer:
    """Write a segment anew, durably, with some blocks of it alone.

    Raises:
        OSError: a file cannot be read or written; nothing is left.
    """
    kept: list[Block] = []
    streams = {block.stream_id for block in alive}
    groups = {block.group_id for block in alive}

    def frames_of_blocks() -> Iterable[bytes]:
        offset = 0
        with old.open("rb") as file:
            for block in alive:
                framed = os.pread(file.fileno(), block.length, block.offset)
                kept.append(msgspec.structs.replace(block, offset=offset))
                offset += len(framed)
                yield framed

    def what_is_kept() -> Footer:
        return Footer(
            footer.number,
            [group for group in footer.groups if group.id in groups],
            [stream for stream in footer.streams if stream.id in streams],
            kept,
        )

    return _put(path, frames_of_blocks(), what_is_kept)


def read_block(path: Path, block: Block) -> list[Event]:
    """Return the events of a block.

    Raises:
        BlockBroken: it is damaged.
        FileNotFoundError: the segment is gone.
        OSError: the disk does not give it.
    """
    with path.open("rb") as file:
        payload = frames.payload_of(os.pread(file.fileno(), block.length, block.offset))
    if payload is None:
        raise BlockBroken("its checksum is another")
    return blocks.decode(payload)


def read_footer(path: Path) -> Footer:
    """Return the footer of a segment.

    Raises:
        LogStoreFailure: it is damaged, or the file no segment.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - _TRAILER.size
        if end < 0:
            raise LogStoreFailure(f"{path} is not a segment: it is too short")
        offset, mark = _TRAILER.unpack(os.pread(file.fileno(), _TRAILER.size, end))
        if mark != _MARK or offset > end:
            raise LogStoreFailure(f"{path} is not a segment, or its end is damaged")
        payload = frames.payload_of(os.pread(file.fileno(), end - offset, offset))
    try:
        return _footer.decode(blocks.inflate(payload or b"", _FOOTER_MOST_BYTES))
    except (*BAD_JSON, zlib.error) as error:
        raise LogStoreFailure(f"the footer of {path} is damaged: {error}") from None


def _put(path: Path, framed: Iterable[bytes], footer: Callable[[], Footer]) -> Footer:
    fresh = path.with_name(f"{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            for one in framed:
                file.write(one)
            whole = footer()
            offset = file.tell()
            file.write(frames.frame(zlib.compress(msgspec.msgpack.encode(whole))))
            file.write(_TRAILER.pack(offset, _MARK))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        sync_directory(path.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return whole


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable; raises ``OSError``."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _block(number: int, offset: int, length: int, group_id: int, piece: Sequence[Event]) -> Block:
    sequences = [event.sequence for event in piece]
    return Block(
        segment=number,
        offset=offset,
        length=length,
        group_id=group_id,
        stream_id=piece[0].stream_id,
        least_ms=piece[0].timestamp_ms,
        most_ms=piece[-1].timestamp_ms,
        first_sequence=min(sequences),
        last_sequence=max(sequences),
        count=len(piece),
    )


def _copy(stream: Stream, events: Sequence[Event]) -> StreamCopy:
    first, last = events[0].timestamp_ms, events[-1].timestamp_ms
    return StreamCopy(
        id=stream.id,
        group_id=stream.group_id,
        name=stream.name,
        created_ms=stream.created_ms,
        first_event_ms=first
        if stream.first_event_ms is None
        else min(first, stream.first_event_ms),
        last_event_ms=max(last, stream.last_event_ms or 0),
        last_ingested_ms=max(event.ingested_ms for event in events),
    )
