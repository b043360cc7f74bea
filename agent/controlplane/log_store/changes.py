"""The changes of the log store, as jobs of the writer. Each refuses before it changes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane.log_store.contract import (
    GroupMissing,
    LogStoreBusy,
    Run,
    Stream,
    StreamMissing,
    body_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.log_store.contract import Group
    from agent.controlplane.log_store.writer import Job, Turn, Writer


class Batch(Struct, frozen=True, kw_only=True):
    """Events of one stream that are taken together or not at all."""

    group: str
    stream: str
    times: Sequence[int]
    """Milliseconds since 1970, one for each message."""
    messages: Sequence[str]
    id: str = ""
    """Of a batch that may be sent again: it is taken once. Empty for one that may not."""
    make_group: bool = False
    """Whether a group that is missing is made."""
    make_stream: bool = False
    """Whether a stream that is missing is made."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return sum(len(message) + 50 for message in self.messages) + 500


class Taken(Struct, frozen=True):
    """What became of a batch."""

    next_sequence: int
    """Behind its last event."""
    is_again: bool = False
    """Whether it was taken before, and nothing was done now."""


def append(writer: Writer, batch: Batch) -> Job:
    """Take a batch; returns ``Taken``.

    Raises:
        GroupMissing: there is no such group, and none is to be made.
        StreamMissing: the same for the stream.
        LogStoreBusy: memory is full, since segments cannot be written quickly enough.
        LogStoreFull: the disk is full.
    """
    digest = hashlib.blake2b(batch.id.encode(), digest_size=16).digest() if batch.id else b""

    def job(turn: Turn) -> Taken:
        if digest and turn.has_batch(digest):
            return Taken(turn.next_sequence, is_again=True)
        if writer.is_behind:
            raise LogStoreBusy
        turn.check_room()
        stream = _stream(turn, batch)
        if batch.times:
            turn.take(_run(turn, batch, stream, digest))
        return Taken(turn.next_sequence)

    return job


def create_group(name: str, retention_days: int | None, tags: dict[str, str]) -> Job:
    """Make a group; raises ``GroupExists``."""
    return lambda turn: turn.catalogue.create_group(name, turn.now_ms, retention_days, tags)


def change_group(name: str, decide: Callable[[Group], Group]) -> Job:
    """Change retention and tags of a group; returns it as it is then.

    Raises:
        GroupMissing: there is no such group.
    """

    def job(turn: Turn) -> Group:
        group = decide(turn.catalogue.group(name))
        turn.catalogue.change_group(group)
        return group

    return job


def delete_group(name: str) -> Job:
    """Delete a group with all its events; raises ``GroupMissing``."""
    return lambda turn: turn.forget(turn.catalogue.delete_group(name))


def create_stream(group: str, name: str) -> Job:
    """Make a stream; raises ``GroupMissing`` and ``StreamExists``."""

    def job(turn: Turn) -> None:
        turn.catalogue.create_stream(turn.catalogue.group(group).id, name, turn.now_ms)

    return job


def ensure_stream(group: str, name: str, *, make_group: bool) -> Job:
    """Make a stream that is not there; raises ``GroupMissing`` unless the group is made, too."""
    batch = Batch(
        group=group, stream=name, times=(), messages=(), make_group=make_group, make_stream=True
    )
    return lambda turn: _stream(turn, batch)


def delete_stream(group: str, name: str) -> Job:
    """Delete a stream with its events; raises ``GroupMissing`` and ``StreamMissing``."""

    def job(turn: Turn) -> None:
        stream = turn.catalogue.stream(turn.catalogue.group(group).id, name)
        turn.catalogue.delete_stream(stream)
        turn.forget([stream.id])

    return job


def set_cursor(name: str, sequence: int) -> Job:
    """Keep how far a reader of all has come."""
    return lambda turn: turn.catalogue.set_cursor(name, sequence)


def retained(days: int | None) -> Callable[[Group], Group]:
    """Return the change of a group's retention."""
    return lambda group: replace(group, retention_days=days)


def _stream(turn: Turn, batch: Batch) -> Stream:
    """Return the stream of a batch, made where it may be."""
    catalogue = turn.catalogue
    try:
        group = catalogue.group(batch.group)
    except GroupMissing:
        if not batch.make_group:
            raise
        catalogue.create_group(batch.group, turn.now_ms, None, {})
        group = catalogue.group(batch.group)
    try:
        return catalogue.stream(group.id, batch.stream)
    except StreamMissing:
        if not batch.make_stream:
            raise
        return catalogue.create_stream(group.id, batch.stream, turn.now_ms)


def _run(turn: Turn, batch: Batch, stream: Stream, digest: bytes) -> Run:
    times, messages = list(batch.times), list(batch.messages)
    return Run(
        group_id=stream.group_id,
        stream_id=stream.id,
        group=batch.group,
        stream=batch.stream,
        first_sequence=turn.next_sequence,
        count=len(times),
        least_ms=min(times),
        most_ms=max(times),
        ingested_ms=turn.now_ms,
        batch=digest,
        body=body_of(times, messages),
    )
