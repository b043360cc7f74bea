"""Reading what the engine's log driver sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.awslogs import wire
from agent.awslogs.wire import LogsRefused, PackedEvents
from tests.support.log_driver import put


def packed(body: dict[str, Any], invocation: str = "") -> PackedEvents:
    return wire.read_put(json.dumps(body).encode(), invocation)


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_events_come_out_as_they_went_in(messages: list[str]) -> None:
    found = packed(put(*messages))
    assert (found.group, found.stream, found.events) == ("/ecs/web", "s/c/1", len(messages))
    plain = wire.unpacked(found.body)
    assert len(plain) == found.plain_bytes
    assert json.loads(plain) == [[1_700_000_000_000 + n, m] for n, m in enumerate(messages)]


def test_the_same_call_has_the_same_id_and_no_other() -> None:
    first = packed(put("a", "b"))
    assert packed(put("a", "b")).id == first.id
    others = [
        put("a", "c"),
        put("a", "b", at=5),
        put("a", "b", stream="other"),
        put("a", "b", group="other"),
        put("a", "b", token=first.id),  # the same lines in the same millisecond, once more
    ]
    assert len({first.id, *(packed(body).id for body in others)}) == 6
    assert packed(put("a", "b"), "call-1").id != packed(put("a", "b"), "call-2").id


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "SerializationException"),
        (b"{", "SerializationException"),
        (b"[" * 100_000, "SerializationException"),
        (b'{"logGroupName": "g", "logStreamName": "s"}', "SerializationException"),
        (json.dumps(put()).encode(), "InvalidParameterException"),
        (json.dumps(put("x", group="")).encode(), "InvalidParameterException"),
        (json.dumps(put("x", stream="s" * 513)).encode(), "InvalidParameterException"),
        (json.dumps(put(*["x"] * 10_001)).encode(), "InvalidParameterException"),
        (json.dumps(put("x" * 1_048_551)).encode(), "InvalidParameterException"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(body: bytes, kind: str) -> None:
    with pytest.raises(LogsRefused) as caught:
        wire.read_put(body)
    assert caught.value.kind == kind
    assert json.loads(wire.refusal(caught.value))["__type"] == kind


def test_a_full_batch_is_taken() -> None:
    assert packed(put("x" * 1_048_550)).events == 1
    assert packed(put(*["x"] * 10_000)).events == 10_000


def test_streams_and_groups() -> None:
    assert wire.read_stream(b'{"logGroupName":"g","logStreamName":"s"}') == ("g", "s")
    assert wire.read_group(b'{"logGroupName":"g","tags":{}}') == "g"
    with pytest.raises(LogsRefused):
        wire.read_stream(b'{"logGroupName":"g","logStreamName":""}')
