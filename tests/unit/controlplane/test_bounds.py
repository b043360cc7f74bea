from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane import bounds
from agent.controlplane.agents import host_rules, report_rules, usage_rules
from agent.controlplane.agents.amazon import shapes
from agent.controlplane.bounds import LINE, Number, OutOfBounds, Pairs, Table, Text

if TYPE_CHECKING:
    from msgspec import Struct

TABLES = {"host": host_rules.HOST, "reports": report_rules.REPORTS, "usage": usage_rules.USAGE}
TABLES |= {"frames": shapes.FRAMES}

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=40,
)


def longest(value: Any) -> int:
    """Return the length of the longest list or object of a document."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = len(value) if isinstance(value, dict | list) else 0
    return max([own, *map(longest, inner)])


@pytest.mark.parametrize(
    ("table", "kind"),
    [(t, kind) for t in TABLES.values() for kind in t.rules],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_every_field_of_every_message_has_a_rule(table: Table, kind: type[Struct]) -> None:
    assert [f.name for f in msgspec.structs.fields(kind)] == list(table.rules[kind])


@given(_JSON, st.integers(1, 8))
def test_the_look_agrees_with_what_decoding_would_build(value: Any, most: int) -> None:
    body = msgspec.json.encode(value)
    try:
        bounds.look(body, most_items=most, most_values=10_000)
    except OutOfBounds:
        assert longest(value) > most
    else:
        assert longest(value) <= most


@given(st.binary(max_size=200) | st.text('"\\[]{},a').map(str.encode))
def test_the_look_ends_for_any_bytes(body: bytes) -> None:
    try:
        bounds.look(body, most_items=2, most_values=5)
    except OutOfBounds:
        return


@pytest.mark.parametrize(
    "body",
    [
        b"[[" * 100_000,
        b"[" + b"[1]," * 100_000 + b"1]",
        b'{"a":' + b'{"b":1,"c":1,"d":1},' * 50_000,
        b'""' * 400_000,
        b'["a","b","c","d"]' * 100_000,
    ],
)
def test_the_look_stops_early(body: bytes) -> None:
    with pytest.raises(OutOfBounds):
        bounds.look(body, most_items=1000, most_values=100_000)


def test_what_stands_in_a_text_is_not_counted() -> None:
    body = msgspec.json.encode({"reason": '[{"\\",' * 500_000})
    bounds.look(body, most_items=10, most_values=100)


@pytest.mark.parametrize(
    ("rule", "value", "said"),
    [
        (Number(1, 65535), 2**63, "9223372036854775808 is not between 1 and 65535"),
        (Number(1, 65535), 0, "not between"),
        (Number(0, 1), math.nan, "nan is not between"),
        (Text(3), "abcd", "0 to 3 characters, but has 4"),
        (Text(3, least=1), "", "1 to 3 characters, but has 0"),
        (Text(3), "a\x1b", r"'a\x1b' may have no control characters"),
        (Text(9), "a\u202eb", r"'a\u202eb' may have no control characters"),
        (Pairs(1, Text(1), Text(1)), {"a": "b", "c": "d"}, "at most 1 items, but has 2"),
        (Pairs(1, Text(1), Text(1)), {"a": "bb"}, "has 2"),
        (Pairs(1, Text(1), Text(1)), {"aa": "b"}, "a name in field"),
    ],
)
def test_a_refusal_names_the_field_and_the_bound(
    rule: bounds.Rule, value: object, said: str
) -> None:
    with pytest.raises(OutOfBounds) as caught:
        rule.check(value, "field", report_rules.REPORTS)
    assert "field" in str(caught.value)
    assert said in str(caught.value)


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_a_refusal_is_short_and_plain(text: str) -> None:
    with pytest.raises(OutOfBounds) as caught:
        Text(10**6, least=31, form=LINE).check(text, "field", report_rules.REPORTS)
    assert str(caught.value).isprintable()
    with pytest.raises(OutOfBounds) as caught:
        Text(10**6).check(f"{text}\n" * 1000, "field", report_rules.REPORTS)
    assert str(caught.value).isascii() or len(str(caught.value)) < 1000
