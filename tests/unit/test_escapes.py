from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import escapes

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("\x00", r"\x00"),
        ("\n", r"\n"),
        ("\t", r"\t"),
        ("\x1b", r"\x1b"),
        ("\x7f", r"\x7f"),
        ("\x9b", r"\x9b"),
        ("\u202e", r"\u202e"),
        ("\u2066", r"\u2066"),
        ("\u2028", r"\u2028"),
        ("\u200b", r"\u200b"),
        ("\udc9b", r"\udc9b"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_a_control_character_is_shown(character: str, shown: str) -> None:
    assert escapes.shown(f"a{character}b") == f"a{shown}b"
    assert not escapes.is_plain(character)


@pytest.mark.parametrize(
    "text", ["", "büro\xa0名前 \u3000שלג", "\N{FAMILY}\u200d", r"C:\new", "a" * 1000]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert escapes.shown(text) == text
    assert escapes.is_plain(text)


@given(ANY_TEXT)
def test_nothing_that_could_command_a_terminal_is_left(text: str) -> None:
    shown = escapes.shown(text)
    assert escapes.is_plain(shown)
    assert {unicodedata.category(c) for c in shown}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert {unicodedata.bidirectional(c) for c in shown}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )
    shown.encode()


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_keeps_its_value_and_holds_no_control_character(value: object) -> None:
    document = escapes.in_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    assert escapes.is_plain(document)


def test_a_text_that_is_cut_says_so() -> None:
    assert escapes.clipped("abc", 3) == "abc"
    assert escapes.clipped("abcdef", 3) == "abc… (3 more characters)"
