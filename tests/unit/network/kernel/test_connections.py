"""Requests for tracked connections, and their answers, as bytes."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from agent.network.kernel import connections
from agent.network.kernel.raw_messages import messages

TASK = "10.207.0.5"


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def listed(source: str, *more: bytes) -> bytes:
    """Return the body of an answer that holds one connection."""
    ends = attribute(1, socket.inet_aton(source)) + attribute(2, socket.inet_aton("192.0.2.9"))
    ports = attribute(1, b"\x11") + attribute(2, b"\0\7") + attribute(3, b"\0\x09")
    original = attribute(0x8001, attribute(0x8001, ends) + attribute(0x8002, ports))
    return struct.pack("=BBH", socket.AF_INET, 0, 0) + original + b"".join(more)


def test_a_connection_is_named_as_the_kernel_named_it() -> None:
    zone = attribute(18, b"\0\x05")
    body = listed(TASK, attribute(3, bytes(4)), zone)
    named = connections.tuples_of(body, TASK)
    assert named == body[4:][: len(named) - len(zone)] + zone
    assert connections.tuples_of(listed("10.207.0.6"), TASK) == b""


def test_a_listing_names_the_address_and_filters_by_it() -> None:
    ((kind, body),) = messages(connections.listing(TASK))
    assert kind == 0x101
    assert attribute(1, socket.inet_aton(TASK)) in body
    assert attribute(1, struct.pack("=I", 1)) in body


def test_a_removal_never_goes_out_without_a_name() -> None:
    """The kernel takes one without for the order to remove all connections of the host."""
    body = listed(TASK)
    ((kind, sent),) = messages(connections.removal(1, connections.tuples_of(body, TASK)))
    assert kind == 0x102
    assert sent == body


@given(st.binary(max_size=300))
def test_no_answer_breaks_the_reader(data: bytes) -> None:
    list(messages(data))
    connections.tuples_of(data, TASK)
