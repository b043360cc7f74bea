"""Messages of the plugin: against a codec that was written apart, and with any bytes at all."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.execute_command import frames
from agent.controlplane.execute_command.frames import Frame, FrameInvalid
from tests.support import session_plugin

_ANY = st.builds(
    Frame,
    kind=st.sampled_from([frames.INPUT, frames.OUTPUT, frames.ACKNOWLEDGE, frames.CLOSED]),
    sequence=st.integers(0, 2**63 - 1),
    payload=st.binary(max_size=2000),
    payload_kind=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 2**64 - 1),
    id=st.uuids(),
    created_ms=st.integers(1, 2**64 - 1),
)


@given(_ANY)
def test_a_message_is_the_same_after_a_round_trip(frame: Frame) -> None:
    assert frames.decode(frames.encode(frame)) == frame


@given(_ANY)
def test_a_client_written_apart_reads_the_same(frame: Frame) -> None:
    read = session_plugin.unpacked(frames.encode(frame))
    assert read == (
        frame.kind,
        frame.sequence,
        frame.flags,
        frame.id,
        frame.payload_kind,
        frame.payload,
    )


@given(st.integers(0, 2**40), st.integers(0, 12), st.binary(max_size=1024))
def test_what_such_a_client_writes_is_read(sequence: int, kind: int, payload: bytes) -> None:
    data = session_plugin.packed("input_stream_data", sequence, kind, payload)
    read = frames.decode(data)
    assert (read.kind, read.sequence, read.payload_kind, read.payload) == (
        "input_stream_data",
        sequence,
        kind,
        payload,
    )


def test_the_bytes_are_where_the_protocol_has_them() -> None:
    frame_id = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    data = frames.encode(Frame(kind="output_stream_data", sequence=7, payload=b"hi", id=frame_id))
    assert data[:4] == (116).to_bytes(4, "big")
    assert data[4:36] == b"output_stream_data".ljust(32)
    assert data[48:56] == (7).to_bytes(8, "big")
    assert data[64:80].hex() == "8899aabbccddeeff0011223344556677"
    assert data[116:] == (2).to_bytes(4, "big") + b"hi"


@given(st.one_of(st.binary(max_size=300), st.binary(min_size=120, max_size=400)))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(FrameInvalid):
        frames.decode(data)


@given(_ANY, st.data())
def test_a_message_that_was_cut_or_changed_is_refused(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(frames.encode(frame))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:  # every byte of its length, of its payload and of the digest counts
        place = data.draw(st.integers(80, 111) | st.integers(116, len(raw) - 1) | st.integers(0, 3))
        if 80 <= place < 112 and not frame.payload:
            return
        raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameInvalid):
        frames.decode(bytes(raw))


@given(st.binary(max_size=200))
def test_an_acknowledgement_that_is_garbage_is_refused(payload: bytes) -> None:
    try:
        number = frames.acknowledged(Frame(kind=frames.ACKNOWLEDGE, payload=payload))
    except FrameInvalid:
        return
    assert isinstance(number, int)


def test_an_acknowledgement_names_what_arrived() -> None:
    arrived = Frame(kind=frames.INPUT, sequence=3, payload=b"x")
    told = frames.acknowledgement(arrived)
    assert json.loads(told.payload) == {
        "AcknowledgedMessageType": "input_stream_data",
        "AcknowledgedMessageId": str(arrived.id),
        "AcknowledgedMessageSequenceNumber": 3,
        "IsSequentialMessage": True,
    }
    assert frames.acknowledged(told) == 3
