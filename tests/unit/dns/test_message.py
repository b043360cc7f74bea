"""Questions that are read and answers that are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dns import message
from agent.dns.message import NotForUs, address_of, read, response, service_of
from tests.support.dns_messages import A, query, read_response

LABELS = st.text("abcXYZ019-_", min_size=1, max_size=63)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join).filter(lambda n: len(n) < 250)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_question_or_not_for_us(data: bytes) -> None:
    try:
        question = read(data)
    except NotForUs:
        return
    assert question.wire in data


@given(NAMES, st.integers(1, 0xFFFF), st.sampled_from((0, 512, 1400, 4096)), st.data())
def test_a_question_is_read_and_its_parts_are_not(
    name: str, id_: int, edns_bytes: int, data: st.DataObject
) -> None:
    whole = query(name, A, id_=id_, edns_bytes=edns_bytes)
    question = read(whole)
    assert (question.id, question.name, question.type) == (id_, name.lower(), A)
    assert question.most_bytes == min(max(edns_bytes, 512), 1232)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(NotForUs):
        read(whole[:length])


@given(NAMES, st.sampled_from((0, 1232)), st.integers(0, 40))
def test_an_answer_is_never_longer_than_may_be(name: str, edns_bytes: int, count: int) -> None:
    question = read(query(name, A, edns_bytes=edns_bytes))
    answers = [address_of(question.name, 10, f"10.0.0.{n}") for n in range(count)]
    others = [address_of(f"{n}.x", 10, f"fd00::{n}") for n in range(count)]
    wire = response(question, message.NO_ERROR, answers, also=others)
    assert len(wire) <= max(512, edns_bytes)
    shown = read_response(wire)
    assert shown.code == 0
    assert [each.data for each in shown.answers] == [
        f"10.0.0.{n}" for n in range(len(shown.answers))
    ]
    if count <= 8:
        assert len(shown.answers) == count


def test_what_is_not_answered() -> None:
    good = query("web.shop.internal")
    for bad in (
        good[:2] + b"\x81" + good[3:],  # an answer
        good[:2] + b"\x28" + good[3:],  # an update
        good[:5] + b"\x02" + good[6:],  # two questions
        good[:-1] + b"\x03",  # of the class CHAOS
        good[:12] + b"\xc0\x0c" + good[14:],  # a name that points to itself
        good.replace(b"web", b"w.b"),
    ):
        with pytest.raises(NotForUs):
            read(bad)


def test_names_that_cannot_be() -> None:
    for name in ("a..b", "a" * 64, ".".join(["a" * 60] * 5)):
        with pytest.raises(ValueError, match="name of DNS"):
            service_of("web", 1, 80, name)
