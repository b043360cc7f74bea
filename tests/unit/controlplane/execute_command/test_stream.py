"""Order and repetition: over a connection that loses, repeats and reorders, everything arrives once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.execute_command import frames, stream
from agent.controlplane.execute_command.frames import Frame
from agent.controlplane.execute_command.stream import Incoming, Outgoing

if TYPE_CHECKING:
    import random


@given(st.lists(st.binary(max_size=20), max_size=60), st.randoms(use_true_random=False))
def test_everything_arrives_once_and_in_order(pieces: list[bytes], rng: random.Random) -> None:
    outgoing, incoming = Outgoing(), Incoming()
    wire = [outgoing.send(frames.DATA, piece, 0.0) for piece in pieces]
    arrived: list[bytes] = []
    now = 0.0
    while not outgoing.is_empty:
        rng.shuffle(wire)
        for data in wire:
            if rng.random() < 0.4:
                continue  # lost
            frame = frames.decode(data)
            is_taken, ready = incoming.take(frame)
            arrived += [one.payload for one in ready]
            if is_taken and rng.random() < 0.6:
                outgoing.acknowledge(frame.sequence, now)
        now += stream.LONGEST_S
        again, wait_s = outgoing.due(now)
        assert 0 < wait_s <= stream.LONGEST_S
        wire = [again] if again is not None else []
    assert arrived == pieces


@given(st.lists(st.integers(-5, 400), max_size=80))
def test_any_acknowledgement_is_taken(sequences: list[int]) -> None:
    outgoing = Outgoing()
    for _ in range(stream.IN_FLIGHT_MOST):
        outgoing.send(frames.DATA, b"", 0.0)
    assert outgoing.is_full
    news = sum(outgoing.acknowledge(sequence, 0.1) for sequence in sequences)
    assert news == len({one for one in sequences if 0 <= one < stream.IN_FLIGHT_MOST})


def test_the_oldest_is_sent_again_after_its_time_alone() -> None:
    outgoing = Outgoing()
    first = outgoing.send(frames.DATA, b"1", 10.0)
    outgoing.send(frames.DATA, b"2", 10.0)
    assert outgoing.due(10.1)[0] is None
    assert outgoing.due(10.0 + stream.FIRST_S)[0] == first
    assert outgoing.due(10.0 + stream.FIRST_S)[0] is None
    outgoing.acknowledge(1, 11.0)
    assert outgoing.due(12.0)[0] == first
    outgoing.acknowledge(0, 12.0)
    assert outgoing.is_empty
    assert outgoing.due(20.0)[0] is None


def test_slow_round_trips_are_waited_for() -> None:
    outgoing = Outgoing()
    for number in range(50):
        outgoing.send(frames.DATA, b"", float(number))
        outgoing.acknowledge(number, number + 0.6)
    assert 0.5 < outgoing.limit_s <= stream.LONGEST_S


def test_what_is_far_ahead_is_not_kept() -> None:
    incoming = Incoming()
    far = Frame(kind=frames.INPUT, sequence=stream.AHEAD_MOST + 1)
    assert incoming.take(far) == (False, ())
    assert incoming.is_new(far)
    assert incoming.take(Frame(kind=frames.INPUT, sequence=-1)) == (True, ())
