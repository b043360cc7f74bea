"""Filter patterns: what they match, and what is refused by name."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.api.logs import patterns
from agent.controlplane.api.logs.patterns import PatternRefused


def matches(pattern: str, message: str) -> bool:
    predicate = patterns.parse(pattern)
    return predicate is None or predicate(message)


@pytest.mark.parametrize(
    ("pattern", "message", "is_match"),
    [
        ("", "anything", True),
        ("  ", "anything", True),
        ("ERROR", "[ERROR] x", True),
        ("ERROR", "error", False),
        ("ERROR disk", "disk ERROR", True),
        ("ERROR disk", "ERROR net", False),
        ('"disk full"', "the disk full of", True),
        ('"disk full"', "disk is full", False),
        (r'"say \"no\""', 'say "no"', True),
        ("-ERROR", "fine", True),
        ("-ERROR", "an ERROR", False),
        ('- "health check"', "health check", False),
        ("ERROR -net", "ERROR net", False),
        ("?WARN ?ERROR", "an ERROR", True),
        ("?WARN ?ERROR", "fine", False),
        ("?WARN ?ERROR disk", "WARN disk", True),
        ("?WARN ?ERROR disk", "disk", False),
        ('{ $.a = "x" }', '{"a": "x"}', True),
        ('{ $.a = "x" }', '{"a": "y"}', False),
        ('{ $.a = "x" }', "no json", False),
        ('{ $.a = "x" }', '{"a": ', False),
        ("{ $.a = x* }", '{"a": "xyz"}', True),
        ('{ $.a = "*y*" }', '{"a": "xyz"}', True),
        ('{ $.a = "*x" }', '{"a": "xyz"}', False),
        ('{ $.a != "x" }', '{"a": "y"}', True),
        ('{ $.a != "x" }', '{"b": "y"}', False),
        ("{ $.ip = 10.0.0.1 }", '{"ip": "10.0.0.1"}', True),
        ("{ $.n = 404 }", '{"n": 404}', True),
        ("{ $.n = 404 }", '{"n": 404.0}', True),
        ("{ $.n != 404 }", '{"n": 404}', False),
        ("{ $.n > 1e2 }", '{"n": 101}', True),
        ("{ $.n >= 5 && $.n <= 6.5 }", '{"n": 6}', True),
        ("{ $.n < -1 }", '{"n": -2}', True),
        ("{ $.n > 1 }", '{"n": "2"}', False),
        ("{ $.n > 1 }", '{"n": true}', False),
        ("{ $.a.b[1].c = 1 }", '{"a": {"b": [0, {"c": 1}]}}', True),
        ("{ $.a.b[2].c = 1 }", '{"a": {"b": [0, {"c": 1}]}}', False),
        ('{ $.["a.b"] = 1 }', '{"a.b": 1}', True),
        ("{ $[0] = 1 }", "[1]", True),
        ("{ $.a IS NULL }", '{"a": null}', True),
        ("{ $.a IS NULL }", "{}", False),
        ("{ $.a is true }", '{"a": true}', True),
        ("{ $.a IS FALSE }", '{"a": 0}', False),
        ("{ $.a NOT EXISTS }", "{}", True),
        ("{ $.a NOT EXISTS }", '{"a": null}', False),
        ("{ $.a EXISTS }", '{"a": null}', True),
        ("{ $.a = true }", '{"a": true}', True),
        ("{ $.a = 1 || $.b = 1 && $.c = 1 }", '{"a": 1}', True),
        ("{ ($.a = 1 || $.b = 1) && $.c = 1 }", '{"a": 1}', False),
        ("{ ($.a = 1 || $.b = 1) && $.c = 1 }", '{"b": 1, "c": 1}', True),
    ],
)
def test_what_a_pattern_matches(pattern: str, message: str, is_match: bool) -> None:
    assert matches(pattern, message) is is_match


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("[ip, user]", "space-delimited"),
        ("%a+%", "regular expressions"),
        ('"open', "quotes"),
        ("{ $.a = 1", "must end with }"),
        ("{ }", "its end"),
        ("{ $.a }", "followed by"),
        ("{ $.a = }", "needs a number"),
        ("{ $.a > x }", "compares with a number"),
        ("{ $.a = %x% }", "regular expressions"),
        ("{ $.a = 1 $.b = 2 }", "should end"),
        ("{ ($.a = 1 }", "parenthesis"),
        ("{ $.a[*] = 1 }", "cannot be read"),
        ("{ a = 1 }", "a field"),
        ("{ " + "(" * 30 + "$.a = 1" + ")" * 30 + " }", "levels"),
    ],
)
def test_what_is_no_pattern_is_refused_by_name(pattern: str, words: str) -> None:
    with pytest.raises(PatternRefused, match=words):
        patterns.parse(pattern)


@given(st.text(alphabet='{}[]()$.ab01 "\\=<>!&|-?%*', max_size=40), st.text(max_size=20))
def test_any_pattern_is_read_or_refused(pattern: str, message: str) -> None:
    try:
        predicate = patterns.parse(pattern)
    except PatternRefused:
        return
    if predicate is not None:
        assert predicate(message) in (True, False)


def test_no_pattern_takes_long() -> None:
    hard = '{ $.a = "' + "*a" * 400 + 'b" }'
    predicate = patterns.parse(hard)
    assert predicate is not None
    began = time.process_time()
    assert not predicate('{"a": "' + "a" * 500_000 + '"}')
    for pattern in (
        '"' + "\\" * 1000,
        "{" * 1000 + "}",
        "{ $" + "[0]" * 300 + " = 1 }",
        "?" * 1000,
    ):
        try:
            patterns.parse(pattern)
        except PatternRefused:
            continue
    assert time.process_time() - began < 5
