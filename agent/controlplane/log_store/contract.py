"""What the log store takes and gives: values, bounds and errors. Pure.

Words are those of CloudWatch Logs: an **event** is one message with a time, a **stream** the events
of one source, a **group** the streams that share a retention. Times are milliseconds since 1970, as
in that API. Each event has a **sequence**, a number that grows with every event taken; time and
sequence together are its **position**, and no two events have the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Struct, field

from agent.controlplane.store.contract import StoreFailure, StoreUnavailable
from agent.errors import AgentError

MIB: Final = 1024 * 1024
DAY_MS: Final = 24 * 3600 * 1000
LAST_MS: Final = 2**53
"""Later than any event."""


class LogStoreFailure(StoreFailure):
    """The log store cannot be used."""


class LogStoreBusy(StoreUnavailable):
    """More is waiting to be written than may wait: nothing was done, the same again may succeed."""

    def __init__(self) -> None:
        super().__init__("more log events wait to be written than may wait; send them again later")


class LogStoreFull(StoreUnavailable):
    """The disk is full: nothing was done."""


class LogStoreDown(StoreUnavailable):
    """Logs are to be kept, and their store could not be opened; the text says why."""


class LogStoreOff(LogStoreFailure):
    """This control keeps no logs; the text says why."""


class GroupMissing(AgentError):
    """There is no such group."""


class StreamMissing(AgentError):
    """There is no such stream in its group."""


class GroupExists(AgentError):
    """There is a group of that name already."""


class StreamExists(AgentError):
    """There is a stream of that name in the group already."""


class Position(NamedTuple):
    """Where an event stands among all others: by time, then in the order they were taken."""

    timestamp_ms: int
    sequence: int


BEFORE_ALL: Final = Position(-1, -1)
BEHIND_ALL: Final = Position(LAST_MS, LAST_MS)


class Event(NamedTuple):
    """One log event as it is kept. Sorts by its position."""

    timestamp_ms: int
    sequence: int
    stream_id: int
    ingested_ms: int
    message: str

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.timestamp_ms, self.sequence)


class Group(Struct, frozen=True):
    """A log group."""

    id: int
    """Never given again."""
    name: str
    created_ms: int
    retention_days: int | None = None
    """None for the store's own."""
    tags: dict[str, str] = field(default_factory=dict)
    stored_bytes: int = 0
    """Of its compressed events that are in segments."""


class Stream(Struct, frozen=True):
    """A log stream."""

    id: int
    """Never given again."""
    group_id: int
    name: str
    created_ms: int
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    last_ingested_ms: int | None = None


class Run(Struct, frozen=True, array_like=True):
    """The events of one batch as the journal holds them: of one stream, in the order they came."""

    group_id: int
    stream_id: int
    group: str
    stream: str
    first_sequence: int
    count: int
    least_ms: int
    most_ms: int
    ingested_ms: int
    batch: bytes
    """Digest of the batch's id; empty for one without."""
    body: bytes
    """MessagePack of the times and the messages, two lists."""

    def events(self) -> list[Event]:
        """Return the events, in the order they came."""
        times, messages = _body.decode(self.body)
        return [
            Event(time, self.first_sequence + place, self.stream_id, self.ingested_ms, message)
            for place, (time, message) in enumerate(zip(times, messages, strict=True))
        ]


class Bounds(Struct, frozen=True, kw_only=True):
    """What the store may take of the machine."""

    most_bytes: int = 2048 * MIB
    """Of the disk, compressed; beyond it the oldest events go."""
    retention_days: int | None = None
    """Of groups without a policy of their own; None to keep until the size is reached."""
    keep_free_bytes: int = 512 * MIB
    """Of the disk, for others: the oldest events go before it is less, new ones are refused at half."""
    journal_bytes: int = 8 * MIB
    """Of events in memory, beyond which they are made a segment. Twice that may be there meanwhile."""
    journal_age_s: float = 24 * 3600.0
    """After which events are made a segment, few as they are."""
    block_bytes: int = 128 * 1024
    """Of messages in a block; what is read at once."""
    waiting_bytes: int = 16 * MIB
    """Of events that wait to be written, beyond which more are refused."""


_body: msgspec.msgpack.Decoder[tuple[list[int], list[str]]] = msgspec.msgpack.Decoder(
    tuple[list[int], list[str]]
)


def body_of(times: list[int], messages: list[str]) -> bytes:
    """Return the body of a run."""
    return msgspec.msgpack.encode((times, messages))
