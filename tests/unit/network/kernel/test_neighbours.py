"""The kernel's list of IPv6 neighbours, as bytes."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.kernel import neighbours
from agent.network.kernel.neighbours import Neighbour


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def _entry(link: int, state: int, address: str, mac: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = struct.pack("=BBHiHBB", family, 0, 0, link, state, 0, 1)
    for kind, value in ((1, packed), (2, mac)):
        body += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return _message(28, body)


def test_only_permanent_ones_are_kept() -> None:
    found: set[Neighbour] = set()
    mac = bytes([10, 88, 0, 0, 0, 5])
    data = _entry(7, 0x80, "fd00::5", mac) + _entry(7, 0x02, "fd00::6", mac)
    assert not neighbours.read(data + _entry(7, 0x80, "10.0.0.1", mac), found)
    assert neighbours.read(_message(3, bytes(4)), found)
    assert found == {Neighbour(7, "fd00::5", "0a:58:00:00:00:05")}


def test_a_refusal_is_raised() -> None:
    with pytest.raises(OSError, match="not permitted"):
        neighbours.read(_message(2, struct.pack("=i", -1)), set())


@given(st.binary(max_size=200))
def test_any_bytes_end(data: bytes) -> None:
    try:
        neighbours.read(data, set())
    except OSError:
        return
