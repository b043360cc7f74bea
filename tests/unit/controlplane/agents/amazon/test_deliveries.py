"""Every order is taken in the end, whatever is lost; nothing is sent twice without need."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.controlplane.agents.amazon.deliveries import (
    OPEN_MESSAGES,
    RESEND_LIMIT_S,
    RESEND_S,
    Deliveries,
    Taken,
)


def test_the_life_of_an_order() -> None:
    taken: Taken = {}
    deliveries = Deliveries(taken)
    assert deliveries.is_due("a", 5, 0.0)
    assert deliveries.next_at == float("inf")
    deliveries.sent("m1", [("a", 5), ("b", 6)], 0.0)
    assert not deliveries.is_due("a", 5, 1.0)
    assert deliveries.is_due("a", 7, 1.0)  # it changed
    assert deliveries.next_at == RESEND_S
    assert deliveries.is_due("a", 5, RESEND_S)
    deliveries.sent("m2", [("a", 5)], RESEND_S)
    assert deliveries.is_again("a", 5)
    assert not deliveries.is_due("a", 5, RESEND_S * 2.9)
    assert deliveries.acknowledged("m1")
    assert taken == {"b": 6}
    assert deliveries.acknowledged("m2")
    assert not deliveries.acknowledged("m2")
    assert taken == {"a": 5, "b": 6}
    assert Deliveries(taken).is_due("a", 8, 0.0)
    deliveries.keep_only({"b"})
    assert taken == {"b": 6}


def test_waits_grow_to_a_limit() -> None:
    deliveries = Deliveries({})
    now, waits = 0.0, []
    for number in range(7):
        deliveries.sent(f"m{number}", [("a", 1)], now)
        waits.append(deliveries.next_at - now)
        now = deliveries.next_at
    assert waits[:3] == [RESEND_S, 2 * RESEND_S, 4 * RESEND_S]
    assert waits[-1] == RESEND_LIMIT_S


def test_only_so_many_messages_wait() -> None:
    deliveries = Deliveries({})
    for number in range(OPEN_MESSAGES):
        assert not deliveries.is_full
        deliveries.sent(f"m{number}", [(f"t{number}", 1)], 0.0)
    assert deliveries.is_full
    deliveries.keep_only({"t1"})  # the others were stopped meanwhile
    assert not deliveries.is_full


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from("abc")),
        st.tuples(st.just("gone"), st.sampled_from("abc")),
        st.tuples(st.just("wait"), st.sampled_from((1.0, 31.0, 400.0))),
        st.tuples(st.just("send"), st.just("")),
        st.tuples(st.just("ack"), st.integers(0, 8)),
    ),
    max_size=40,
)


@given(_steps)
@settings(max_examples=200, deadline=None)
def test_all_are_taken_in_the_end(steps: list[tuple[str, object]]) -> None:
    taken: Taken = {}
    deliveries = Deliveries(taken)
    wanted: dict[str, int] = {}
    revision, numbers, now = itertools.count(1), itertools.count(), 0.0
    messages: list[str] = []

    def send() -> None:
        due = [(t, r) for t, r in wanted.items() if deliveries.is_due(t, r, now)]
        if due:
            messages.append(f"m{next(numbers)}")
            deliveries.sent(messages[-1], due, now)

    for kind, value in steps:
        if kind == "change":
            wanted[str(value)] = next(revision)
        elif kind == "gone":
            wanted.pop(str(value), None)
            deliveries.keep_only(wanted.keys())
        elif kind == "wait":
            now += float(str(value))
        elif kind == "send":
            send()
        elif messages:
            deliveries.acknowledged(messages[int(str(value)) % len(messages)])
        # What was taken was wanted then, and is never newer than what is wanted now.
        assert all(taken[t] <= wanted[t] for t in taken if t in wanted)
    now += 1000.0
    send()
    for message in messages:
        deliveries.acknowledged(message)
    deliveries.keep_only(wanted.keys())
    assert taken == wanted
    assert deliveries.next_at == float("inf")
    assert not deliveries.is_full
