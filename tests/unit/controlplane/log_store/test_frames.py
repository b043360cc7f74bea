"""Frames: every tail is cut, every good frame is read, whatever stands between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.log_store import frames

PAYLOADS = st.lists(st.binary(max_size=200), max_size=8)


@given(PAYLOADS, st.binary(max_size=40))
def test_a_torn_tail_is_found_wherever_it_is_torn(payloads: list[bytes], more: bytes) -> None:
    whole = b"".join(frames.frame(payload) for payload in payloads)
    last = frames.frame(b"last" + more)
    for length in range(len(last)):
        found = frames.scan(whole + last[:length])
        assert found == frames.Scan(payloads, len(whole), 0)


@given(PAYLOADS.filter(bool), st.data())
def test_a_damaged_byte_costs_its_frame_alone(payloads: list[bytes], data: st.DataObject) -> None:
    framed = [frames.frame(payload) for payload in payloads]
    broken = data.draw(st.integers(0, len(framed) - 1))
    place = data.draw(st.integers(0, len(framed[broken]) - 1))
    bad = bytearray(framed[broken])
    bad[place] ^= data.draw(st.integers(1, 255))
    end = frames.frame(b"end")
    found = frames.scan(b"".join([*framed[:broken], bytes(bad), *framed[broken + 1 :], end]))
    assert found.payloads == [*payloads[:broken], *payloads[broken + 1 :], b"end"]
    assert found.damaged_bytes == len(bad)
    assert frames.payload_of(bytes(bad)) is None


@given(st.binary(max_size=2000))
def test_anything_can_be_scanned(data: bytes) -> None:
    found = frames.scan(data)
    assert found.end + 0 <= len(data)
