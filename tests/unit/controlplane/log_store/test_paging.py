"""Paging both ways gives every event once and in order, however blocks overlap."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.log_store import paging
from agent.controlplane.log_store.contract import BEFORE_ALL, BEHIND_ALL, Event, Position
from agent.controlplane.log_store.paging import Ask


class Piece(NamedTuple):
    events: tuple[Event, ...]

    @property
    def least_ms(self) -> int:
        return min(event.timestamp_ms for event in self.events)

    @property
    def most_ms(self) -> int:
        return max(event.timestamp_ms for event in self.events)


@st.composite
def stores(draw: st.DrawFn) -> list[Piece]:
    """Blocks of few distinct times, so that they overlap and times repeat."""
    groups = draw(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6), max_size=8))
    sequence = iter(range(1, 1000))
    return [
        Piece(tuple(sorted(Event(t, next(sequence), 1, 0, "m" * (t % 5)) for t in times)))
        for times in groups
    ]


def read_all(pieces: list[Piece], ask: Ask) -> list[Event]:
    """Turn pages until there is nothing more, and hold each page to its bounds."""
    found: list[Event] = []
    if ask.forward:
        ordered = sorted(pieces, key=lambda piece: piece.least_ms)
    else:
        ordered = sorted(pieces, key=lambda piece: -piece.most_ms)
    for _ in range(500):
        page = paging.page(ask, ordered, lambda piece: piece.events)
        assert page.events == sorted(page.events)
        assert len(page.events) <= ask.most_events
        found = found + page.events if ask.forward else page.events + found
        if page.is_last:
            return found
        assert page.at != ask.at, "a page that does not get on"
        ask = ask._replace(at=page.at)
    raise AssertionError("pages without end")


@given(stores(), st.integers(1, 7), st.integers(1, 200), st.sampled_from([0, 60, 10**9]))
def test_every_event_once_and_in_order(
    pieces: list[Piece], most_events: int, most_bytes: int, look_bytes: int
) -> None:
    everything = sorted(event for piece in pieces for event in piece.events)
    for at, forward in ((BEFORE_ALL, True), (BEHIND_ALL, False)):
        ask = Ask(
            at,
            forward=forward,
            most_events=most_events,
            most_bytes=most_bytes,
            look_bytes=look_bytes,
        )
        assert read_all(pieces, ask) == everything


@given(stores(), st.integers(-1, 13), st.integers(-1, 13), st.integers(0, 40), st.booleans())
def test_from_any_position_within_any_times(
    pieces: list[Piece], start_ms: int, end_ms: int, sequence: int, forward: bool
) -> None:
    at = Position(start_ms + 2, sequence)
    wanted = sorted(
        event
        for piece in pieces
        for event in piece.events
        if start_ms <= event.timestamp_ms <= end_ms
        and (event.position > at if forward else event.position < at)
        and event.message != "mm"
    )
    ask = Ask(
        at,
        start_ms,
        end_ms,
        forward=forward,
        most_events=3,
        matches=lambda message: message != "mm",
    )
    assert read_all(pieces, ask) == wanted


def test_a_piece_that_is_found_twice_counts_once() -> None:
    piece = Piece((Event(1, 1, 1, 0, "a"), Event(2, 2, 1, 0, "b")))
    assert read_all([piece, piece], Ask(BEFORE_ALL)) == list(piece.events)


def test_an_event_larger_than_a_page_is_a_page() -> None:
    piece = Piece((Event(1, 1, 1, 0, "x" * 100), Event(2, 2, 1, 0, "y" * 100)))
    first = paging.page(Ask(BEFORE_ALL, most_bytes=10), [piece], lambda piece: piece.events)
    assert [event.sequence for event in first.events] == [1]


def test_reading_ends_where_the_page_does() -> None:
    pieces = [Piece((Event(t, t, 1, 0, "m"),)) for t in range(1, 101)]
    loaded: list[Piece] = []

    def load(piece: Piece) -> tuple[Event, ...]:
        loaded.append(piece)
        return piece.events

    ask = Ask(BEHIND_ALL, forward=False, most_events=3)
    page = paging.page(ask, list(reversed(pieces)), load)
    assert [event.timestamp_ms for event in page.events] == [98, 99, 100]
    assert len(loaded) <= 5
