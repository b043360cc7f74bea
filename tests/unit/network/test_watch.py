"""News from the kernel, read as bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.watch import harms_bridge, harms_table

BRIDGE = 7
UP = 1


def message(kind: int, body: bytes) -> bytes:
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + body + bytes(-length % 4)


def link(kind: int, index: int, flags: int) -> bytes:
    return message(kind, struct.pack("=BBHiII", 0, 0, 1, index, flags, 0) + b"attributes")


def address(kind: int, index: int) -> bytes:
    return message(kind, struct.pack("=BBBBI", 2, 24, 0, 0, index))


def rule(kind: int, table: str) -> bytes:
    name = table.encode() + b"\0"
    return message(10 << 8 | kind, b"\1\0\0\0" + struct.pack("=HH", 4 + len(name), 1) + name)


@pytest.mark.parametrize(
    ("news", "harm"),
    [
        (link(17, BRIDGE, UP), True),
        (link(16, BRIDGE, 0), True),
        (link(16, BRIDGE, UP), False),
        (link(17, 8, UP), False),
        (link(16, 8, 0), False),
        (address(21, BRIDGE), True),
        (address(20, BRIDGE), False),
        (address(21, 8), False),
        (link(16, 8, UP) + link(17, BRIDGE, 0), True),
        (b"", False),
    ],
)
def test_what_happens_to_the_bridge(news: bytes, *, harm: bool) -> None:
    assert harms_bridge(news, BRIDGE) is harm


@pytest.mark.parametrize("kind", [2, 5, 8, 11, 14])
def test_what_is_removed_from_our_table(kind: int) -> None:
    assert harms_table(rule(kind, "ecs_agent"), "ecs_agent")
    assert harms_table(rule(6, "filter") + rule(kind, "ecs_agent"), "ecs_agent")
    assert not harms_table(rule(kind, "filter"), "ecs_agent")
    assert not harms_table(rule(kind - 1, "ecs_agent"), "ecs_agent")
    assert not harms_table(rule(kind, "ecs_agent2"), "ecs_agent")


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    harms_bridge(data, BRIDGE)
    harms_table(data, "ecs_agent")
