"""Blocks: what goes in comes out, in pieces of the right size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.log_store import blocks
from agent.controlplane.log_store.blocks import SPAN_MS, BlockBroken
from agent.controlplane.log_store.contract import Event

EVENTS = st.lists(
    st.builds(
        Event,
        timestamp_ms=st.integers(0, 3 * SPAN_MS),
        sequence=st.integers(1, 2**50),
        stream_id=st.just(7),
        ingested_ms=st.integers(0, 2**45),
        message=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    ),
    unique_by=lambda event: event.sequence,
    min_size=1,
    max_size=40,
).map(sorted)


@given(EVENTS)
def test_a_block_gives_back_its_events(events: list[Event]) -> None:
    assert blocks.decode(blocks.encode(events)) == events


@given(EVENTS, st.integers(1, 500))
def test_pieces_are_all_of_it_and_short(events: list[Event], most_bytes: int) -> None:
    pieces = list(blocks.split(events, most_bytes))
    assert [event for piece in pieces for event in piece] == events
    for piece in pieces:
        assert piece[-1].timestamp_ms - piece[0].timestamp_ms <= SPAN_MS
        assert sum(len(event.message) + 26 for event in piece[:-1]) < most_bytes


@given(st.binary(max_size=100))
def test_what_is_no_block_is_refused(data: bytes) -> None:
    with pytest.raises(BlockBroken):
        blocks.decode(data)


def test_a_block_that_is_cut_off_is_refused() -> None:
    whole = blocks.encode([Event(1, 1, 1, 1, "x" * 1000)])
    for length in range(len(whole)):
        with pytest.raises(BlockBroken):
            blocks.decode(whole[:length])
