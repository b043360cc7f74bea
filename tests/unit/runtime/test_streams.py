"""Streams out of threads, frames out of streams, and the memory of the event feed."""

from __future__ import annotations

import asyncio
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.docker.events import RELIST, EventFeed, RecentEvents
from agent.runtime.docker.lanes import BlockingCall, CallAborted, Lane
from agent.runtime.docker.streams import demultiplex, frames, stamped_lines, stream
from agent.runtime.protocol import EngineEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.runtime.docker.client import EngineClient


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane("tests", 2)
    yield made
    assert await made.close() == 0


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
)
def test_frames_are_found_however_the_stream_is_cut(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(struct.pack(">BxxxL", kind, len(text)) + text for kind, text in frames)
    chunks, at = [], 0
    for index in range(len(wire)):
        size = cuts[index % len(cuts)]
        chunks.append(wire[at : at + size])
        at += size
    assert b"".join(demultiplex(chunks)) == b"".join(text for _, text in frames)


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_no_stream_is_too_strange(chunks: list[bytes]) -> None:
    list(demultiplex(chunks))


async def test_pieces_arrive_in_order(lane: Lane) -> None:
    pieces = stream(lane, lambda _: range(1000), operation="")
    assert [piece async for piece in pieces] == list(range(1000))


async def test_errors_come_after_the_pieces(lane: Lane) -> None:
    def produce(_: BlockingCall) -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    pieces = stream(lane, produce, operation="")
    assert await anext(pieces) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(pieces)


async def test_a_slow_reader_slows_the_thread(lane: Lane) -> None:
    made = []

    def produce(_: BlockingCall) -> Iterator[int]:
        for number in range(10_000):
            made.append(number)
            yield number

    reader = stream(lane, produce, operation="")
    assert await anext(reader) == 0
    await asyncio.sleep(0.05)
    assert 0 < len(made) < 100
    await reader.aclose()
    async with asyncio.timeout(1):
        while lane.lost:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.001)
    assert len(made) < 100


def _raw(at_ns: int, action: str = "die", container: str = "a") -> dict[str, object]:
    return {"Action": action, "Actor": {"ID": container}, "timeNano": at_ns}


def test_repeats_are_dropped_and_the_newest_time_is_kept() -> None:
    repeats = RecentEvents(since_ns=1_000_000_000)
    assert repeats.is_new(_raw(5_000_000_007))
    assert not repeats.is_new(_raw(5_000_000_007))
    assert repeats.is_new(_raw(5_000_000_007, "destroy"))
    assert repeats.is_new(_raw(5_000_000_007, container="b"))
    assert repeats.is_new(_raw(4_000_000_000))
    assert repeats.since() == "5.000000007"


@given(st.lists(st.integers(0, 2000), max_size=3000))
def test_the_memory_of_repeats_is_bounded(times: list[int]) -> None:
    repeats = RecentEvents(since_ns=0)
    for at in times:
        repeats.is_new(_raw(at))
    assert len(repeats._known) == len(repeats._order) <= 512


async def test_a_reader_that_falls_behind_is_told_to_list_anew() -> None:
    asked, gone = threading.Event(), threading.Event()

    def client() -> EngineClient:
        asked.set()
        gone.wait()
        raise CallAborted

    feed = EventFeed(client, limit=10)
    await asyncio.to_thread(asked.wait)

    def push() -> None:
        for number in range(25):
            feed.push(EngineEvent(action="die", container_id=str(number)))

    await asyncio.to_thread(push)
    reader = aiter(feed)
    seen = [await anext(reader) for _ in range(5)]
    assert seen[0] == RELIST
    assert [e.container_id for e in seen[1:]] == ["21", "22", "23", "24"]
    feed.stop()
    gone.set()
    assert [event async for event in reader] == []
    await asyncio.to_thread(feed.thread.join)


def frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(payload)) + payload


def test_frames_are_whole_however_they_are_cut() -> None:
    wire = frame(1, b"one\n") + frame(2, b"") + frame(2, b"two\n") + frame(1, b"cut")[:-1]
    for size in range(1, len(wire) + 1):
        chunks = [wire[at : at + size] for at in range(0, len(wire), size)]
        assert list(frames(chunks)) == [(1, b"one\n"), (2, b""), (2, b"two\n"), (1, b"cu")]


def test_a_long_line_has_its_time_once() -> None:
    entries = [
        (1, b"T1 begin"),
        (2, b"T2 other\n"),
        (1, b"T3 middle"),
        (1, b"T4 end\n"),
        (1, b"T5 r"),
    ]
    assert list(stamped_lines(entries)) == [b"T2 other\n", b"T1 beginmiddleend\n", b"T5 r"]


def test_a_line_without_an_end_is_cut() -> None:
    piece = b"T " + bytes(600_000)
    cut, rest = stamped_lines([(1, piece), (1, piece), (1, b"T end\n")])
    assert len(cut) == 1_200_003
    assert rest == b"T end\n"
