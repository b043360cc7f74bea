"""What is forwarded: events of one stream, and what became of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct

from agent.controlplane.log_store.contract import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.log_store.reading import Window


class Chunk(Struct, frozen=True):
    """Events of one stream, by time."""

    group: str
    stream: str
    events: list[Event]


class Refusal(NamedTuple):
    """Events that a destination will never take."""

    chunk: Chunk
    events: int
    """How many."""
    text: str


class Sent(NamedTuple):
    """What became of some chunks."""

    again: list[Chunk]
    """Those that were not delivered and are to be sent again."""
    trouble: str = ""
    """Why, for a person."""
    refusals: Sequence[Refusal] = ()


class Destination(Protocol):
    """Where events go."""

    @property
    def name(self) -> str:
        """Names the destination and its cursor; holds no secret."""

    async def send(self, chunks: list[Chunk]) -> Sent:
        """Deliver chunks; never raises but for cancellation."""


def chunks_of(window: Window) -> list[Chunk]:
    """Return the chunks of a window."""
    by_stream: dict[int, list[Event]] = {}
    for event in window.events:
        by_stream.setdefault(event.stream_id, []).append(event)
    return [
        Chunk(*window.streams[stream_id], sorted(events)) for stream_id, events in by_stream.items()
    ]
