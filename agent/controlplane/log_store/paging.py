"""Pages: some events next to a position, out of blocks that overlap in time. Pure but for ``load``.

Blocks come in the order of where they begin (or, backwards, end). A page is the best events so far; a
block is read, laid beside them, and forgotten. Reading ends when the next block begins behind the
last event of a full page. So at most two pages and one block are in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from agent.controlplane.log_store.blocks import OVERHEAD_BYTES
from agent.controlplane.log_store.contract import LAST_MS, Event, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PAGE_EVENTS: Final = 10_000
PAGE_BYTES: Final = 1024 * 1024
"""Of messages, and 26 for each event; both as in GetLogEvents and FilterLogEvents."""
LOOK_BYTES: Final = 16 * 1024 * 1024
"""Of messages that are looked through for one page; what is found until then is the page."""


class Piece(Protocol):
    """A block or a run: some events between two times."""

    @property
    def least_ms(self) -> int:
        """Time of its first event."""

    @property
    def most_ms(self) -> int:
        """Time of its last event."""


class Ask(NamedTuple):
    """What a page is asked for."""

    at: Position
    """The page begins behind it, or backwards, ends before it."""
    start_ms: int = 0
    end_ms: int = LAST_MS
    """The last time that counts."""
    forward: bool = True
    most_events: int = PAGE_EVENTS
    most_bytes: int = PAGE_BYTES
    look_bytes: int = LOOK_BYTES
    matches: Callable[[str], bool] | None = None
    """Chooses by the message; None for all."""

    def takes(self, event: Event) -> bool:
        """Tell whether an event may be on the page, or a later one."""
        if not self.start_ms <= event.timestamp_ms <= self.end_ms:
            return False
        is_there = event.position > self.at if self.forward else event.position < self.at
        return is_there and (self.matches is None or self.matches(event.message))


class Page(NamedTuple):
    """What was found."""

    events: list[Event]
    """In the order of their positions, whichever way was read."""
    at: Position
    """Where the next page begins (backwards, ends)."""
    is_last: bool
    """Whether nothing more was there to be read."""


Key = tuple[int, int]
"""A position as it is taken out of an event."""
PieceT = TypeVar("PieceT", bound=Piece)


def page(ask: Ask, pieces: Iterable[PieceT], load: Callable[[PieceT], Sequence[Event]]) -> Page:
    """Return the page next to a position.

    Args:
        ask: what is wanted.
        pieces: all that may hold some of it, by their beginning; backwards, by their end, the last
            one first.
        load: returns the events of a piece; none of one that is gone or damaged.
    """
    best = _Best(ask)
    looked_bytes = 0
    for piece in pieces:
        if best.is_behind(piece):
            break
        if looked_bytes > ask.look_bytes:
            edge = _edge(ask, piece)
            if edge > ask.at if ask.forward else edge < ask.at:
                return _up_to(ask, best, edge)
        for event in load(piece):
            looked_bytes += len(event.message) + OVERHEAD_BYTES
            if ask.takes(event):
                best.add(event)
    best.cut()
    events = best.events()
    if not events:
        return Page([], ask.at, is_last=True)
    return Page(events, events[-1 if ask.forward else 0].position, is_last=not best.was_cut)


class _Best:
    """The events next to the position, so far: at most two pages of them."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._events: dict[Key, Event] = {}
        self._size_bytes = 0
        self._edge: Key | None = None
        """Where a full page ended: what is beyond it is on a later one."""

    @property
    def was_cut(self) -> bool:
        """Whether there was more than a page holds."""
        return self._edge is not None

    def was_cut_at(self, position: Position) -> bool:
        """Tell whether what a page holds ended there, and more came behind it."""
        return self._edge == position

    def events(self) -> list[Event]:
        """Return them in order."""
        return [self._events[key] for key in sorted(self._events)]

    def add(self, event: Event) -> None:
        """Add an event, unless it is beyond the edge."""
        key = event[:2]
        if self._edge is not None and (key > self._edge) is self._ask.forward:
            return
        if key not in self._events:
            self._events[key] = event
            self._size_bytes += _size_bytes(event)
            if self._exceeds(2):
                self.cut()

    def is_behind(self, piece: Piece) -> bool:
        """Tell whether a piece, and all that come after it, begin behind a full page."""
        if self._edge is None and self._exceeds(1):
            self.cut()
        if self._edge is None:
            return False
        if self._ask.forward:
            return piece.least_ms > self._edge[0]
        return piece.most_ms < self._edge[0]

    def cut(self) -> None:
        """Leave as many as a page holds; one is always left."""
        if not self._exceeds(1):
            return
        kept: dict[Key, Event] = {}
        size_bytes = 0
        for key in sorted(self._events, reverse=not self._ask.forward):
            more_bytes = size_bytes + _size_bytes(self._events[key])
            if kept and (len(kept) == self._ask.most_events or more_bytes > self._ask.most_bytes):
                self._edge = next(reversed(kept))
                break
            kept[key] = self._events[key]
            size_bytes = more_bytes
        self._events, self._size_bytes = kept, size_bytes

    def _exceeds(self, pages: int) -> bool:
        return (
            len(self._events) > pages * self._ask.most_events
            or self._size_bytes > pages * self._ask.most_bytes
        )


def _edge(ask: Ask, piece: Piece) -> Position:
    """Return up to where everything was read, when a piece is the next one."""
    if ask.forward:
        return Position(piece.least_ms - 1, LAST_MS)
    return Position(piece.most_ms + 1, -1)


def _up_to(ask: Ask, best: _Best, edge: Position) -> Page:
    """Return what was found when no more is to be looked through: what is beyond may not be next."""
    best.cut()
    found = [event for event in best.events() if (event.position < edge) is ask.forward]
    if found and best.was_cut_at(found[-1 if ask.forward else 0].position):
        edge = found[-1 if ask.forward else 0].position
    return Page(found, edge, is_last=False)


def _size_bytes(event: Event) -> int:
    return len(event.message.encode()) + OVERHEAD_BYTES
