"""Transactions on sets, as bytes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from agent.network.kernel import set_elements
from agent.network.kernel.set_elements import BRIDGE_FAMILY, Change


def headers(data: bytes) -> list[tuple[int, int, int]]:
    """Return kind, flags and number of each message."""
    found = []
    while data:
        length, kind, flags, number, _ = struct.unpack_from("=IHHII", data)
        found.append((kind, flags, number))
        data = data[(length + 3) & ~3 :]
    return found


def test_a_transaction_is_one_batch_whose_last_change_is_acknowledged() -> None:
    changes = [Change("ports", b"k" * 28), Change("addresses", b"addr", removed=True)]
    data = set_elements.encode(BRIDGE_FAMILY, "ecs_agent", changes, 7)
    assert headers(data) == [
        (0x10, 0x1, 7),
        (10 << 8 | 12, 0x401, 8),
        (10 << 8 | 14, 0x005, 9),
        (0x11, 0x1, 10),
    ]
    for part in (b"ecs_agent\0", b"ports\0", b"addresses\0", b"k" * 28, b"addr"):
        assert part in data


def answer(number: int, code: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, number, 0, -code) + bytes(16)


def test_answers_are_read_from_one_datagram_or_several() -> None:
    assert set_elements.errors(answer(8, 2) + answer(9, 0)) == [(8, 2), (9, 0)]
    assert set_elements.errors(b"") == []


@given(st.binary(max_size=200))
def test_no_answer_breaks_the_reader(data: bytes) -> None:
    set_elements.errors(data)
    set_elements.errors(answer(3, 17) + data)
