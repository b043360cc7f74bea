"""What the kernel reports of a traced packet, and what is made of it."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from agent.model.network_views import TraceStep
from agent.network.tracing.messages import TraceEvent, decode
from agent.network.tracing.steps import dropped_by, first_packet, steps_of, texts_of


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def report(family: int, kind: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BBH", family, 0, 0) + b"".join(attributes)
    body += attribute(4, struct.pack("!I", kind))
    return struct.pack("=IHHII", 16 + len(body), 10 << 8 | 17, 0, 0, 0) + body


RULE = report(
    1,
    3,
    attribute(1, b"t\0"),
    attribute(2, b"in\0"),
    attribute(3, struct.pack("!Q", 1 << 33)),
    attribute(5 | 0x8000, attribute(1, struct.pack("!i", -3)) + attribute(2, b"other\0")),
)
POLICY = report(
    7, 1, attribute(1, b"t\0"), attribute(2, b"fw\0"), attribute(16, struct.pack("!I", 0))
)


def test_rules_and_policies_are_decoded() -> None:
    assert decode(RULE + POLICY) == [
        TraceEvent("inet", "t", "in", "rule", 1 << 33, "jump other"),
        TraceEvent("bridge", "t", "fw", "policy", 0, "drop"),
    ]


def test_other_messages_are_skipped() -> None:
    other = struct.pack("=IHHII", 20, 10 << 8 | 15, 0, 0, 0) + bytes(4)
    assert decode(other + RULE)[0].chain == "in"


@given(st.binary(max_size=200), st.integers(0, len(RULE)))
def test_broken_datagrams_never_raise(noise: bytes, cut: int) -> None:
    decode(noise)
    decode(RULE[:cut])
    decode(RULE[:cut] + noise)


def event(table: str, chain: str, verdict: str = "accept", handle: int = 1) -> TraceEvent:
    kind = "rule" if handle else "policy"
    return TraceEvent("inet", table, chain, kind, handle, verdict)


def test_only_the_first_packet_counts() -> None:
    own = event("ours_trace", "prerouting", "continue")
    end = event("ours_trace", "prerouting", "continue", 0)
    events = [own, end, event("a", "x"), event("b", "y", "drop"), own, event("c", "z")]
    assert first_packet(events, "ours_trace") == events[2:4]


def test_rules_get_their_text_and_ours_their_comment() -> None:
    listing = """table inet ours { # handle 9
\tset pools { # handle 4
\t\ttype ipv4_addr # handle 5
\t}

\tchain between { # handle 2
\t\ttype filter hook forward priority -10; policy accept;
\t\tcounter packets 0 bytes 0 drop comment "into other networks 0123456789ab" # handle 3
\t}
}
"""
    texts = texts_of("inet", "ours", listing)
    assert list(texts) == [("inet", "ours", 3)]
    others = texts_of("inet", "fw", listing)
    events = [
        event("ours", "between", "drop", 3),
        event("fw", "between", "accept", 3),
        event("fw", "between", "continue", 3),
        event("gone", "chain", "accept", 7),
        event("fw", "between", "accept", 0),
    ]
    steps = steps_of(events, texts | others, "ours")
    assert [step.rule for step in steps] == [
        "into other networks",
        'counter packets 0 bytes 0 drop comment "into other networks 0123456789ab"',
        "handle 7",
        "policy",
    ]
    assert dropped_by(steps) == TraceStep(
        family="inet", table="ours", chain="between", rule="into other networks", verdict="drop"
    )
    assert dropped_by(steps[1:]) is None
