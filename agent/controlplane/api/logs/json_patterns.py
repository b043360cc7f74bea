"""Filter patterns about JSON: ``{ $.level = "error" && ($.took > 100 || $.user NOT EXISTS) }``. Pure.

A comparison holds only for a field that is there. Values are numbers, words, or texts in quotes, in which
``*`` stands for anything. A message that is not JSON matches nothing.

Source: the user guide of CloudWatch Logs, "Filter pattern syntax".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from agent.errors import BAD_JSON, AgentError


class PatternRefused(AgentError):
    """A pattern is invalid, or of a kind that is not served; the text says why."""


class _Token(NamedTuple):
    kind: str
    text: str


Matches = Callable[[Any], bool]
"""Tells whether a JSON document matches."""

_DEEPEST: Final = 20
_TOKEN: Final = re.compile(
    r"""\s*(?:
    (?P<selector>\$(?:\.[\w-]+ | \.?\["[^"]*"\] | \[\d{1,6}\])+)
  | (?P<sign>&&|\|\||[()])
  | (?P<compare>!=|<=|>=|=|<|>)
  | "(?P<text>(?:[^"\\]|\\.)*)"
  | (?P<word>[^\s()\[\]"&|=<>!%$]+)
)""",
    re.VERBOSE,
)
_STEP: Final = re.compile(r'\.([\w-]+)|\.?\["([^"]*)"\]|\[(\d+)\]')
_COMPARE: Final = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_MISSING: Final = object()


def parse(pattern: str) -> Callable[[str], bool]:
    """Return the predicate of a pattern in braces.

    Raises:
        PatternRefused: it is invalid, or of a kind that is not served.
    """
    if not pattern.endswith("}"):
        raise PatternRefused("a pattern that begins with { must end with }")
    parser = _Parser(_tokens(pattern[1:-1]))
    holds = parser.either(0)
    parser.end()

    def matches(message: str) -> bool:
        if message.lstrip()[:1] not in ("{", "["):
            return False
        try:
            document = msgspec.json.decode(message)
        except BAD_JSON:
            return False
        return holds(document)

    return matches


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            rest = text[at : at + 32].strip()
            if rest.startswith("%"):
                raise PatternRefused("regular expressions (%...%) are not supported")
            raise PatternRefused(f"the pattern cannot be read from {rest!r} on")
        tokens.append(_Token(found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return tokens


class _Parser:
    """Reads tokens from left to right."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def either(self, depth: int) -> Matches:
        """Read terms with ``||`` between them."""
        parts = [self._all(depth)]
        while self._take("sign", "||"):
            parts.append(self._all(depth))
        return lambda document: any(part(document) for part in parts)

    def end(self) -> None:
        """Raise ``PatternRefused`` when something is left."""
        if self._at < len(self._tokens):
            raise PatternRefused(
                f"the pattern has {self._tokens[self._at].text!r} where it should end"
            )

    def _all(self, depth: int) -> Matches:
        parts = [self._one(depth)]
        while self._take("sign", "&&"):
            parts.append(self._one(depth))
        return lambda document: all(part(document) for part in parts)

    def _one(self, depth: int) -> Matches:
        if self._take("sign", "("):
            if depth == _DEEPEST:
                raise PatternRefused(f"the pattern has more than {_DEEPEST} levels of parentheses")
            inner = self.either(depth + 1)
            if not self._take("sign", ")"):
                raise PatternRefused("a parenthesis is not closed")
            return inner
        steps = _steps(self._expect("selector", "a field such as $.level"))
        if sign := self._take("compare"):
            return _comparison(steps, sign.text, self._value())
        return _state(steps, self._words())

    def _value(self) -> _Token:
        value = self._take("text") or self._take("word")
        if value is None:
            raise PatternRefused("a comparison needs a number, a word or a text in quotes")
        return value

    def _words(self) -> str:
        words = []
        while word := self._take("word"):
            words.append(word.text.upper())
        return " ".join(words)

    def _expect(self, kind: str, what: str) -> str:
        token = self._take(kind)
        if token is None:
            given = self._tokens[self._at].text if self._at < len(self._tokens) else "its end"
            raise PatternRefused(f"the pattern has {given!r} where {what} should be")
        return token.text

    def _take(self, kind: str, text: str | None = None) -> _Token | None:
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind == kind and text in (None, token.text):
                self._at += 1
                return token
        return None


def _steps(selector: str) -> list[str | int]:
    return [
        int(index) if index else name or quoted
        for name, quoted, index in _STEP.findall(selector.removeprefix("$"))
    ]


def _state(steps: list[str | int], words: str) -> Matches:
    match words:
        case "NOT EXISTS":
            return lambda document: _found(document, steps) is _MISSING
        case "EXISTS":
            return lambda document: _found(document, steps) is not _MISSING
        case "IS NULL":
            return lambda document: _found(document, steps) is None
        case "IS TRUE" | "IS FALSE":
            wanted = words == "IS TRUE"
            return lambda document: _found(document, steps) is wanted
        case _:
            raise PatternRefused(
                "a field is followed by a comparison, IS NULL, IS TRUE, IS FALSE, EXISTS or NOT EXISTS"
            )


def _comparison(steps: list[str | int], sign: str, value: _Token) -> Matches:
    number = _number(value.text) if value.kind == "word" else None
    if sign in _COMPARE:
        if number is None:
            raise PatternRefused(f"{sign} compares with a number, not with {value.text!r}")
        compare = _COMPARE[sign]

        def ordered(document: Any) -> bool:
            found = _found(document, steps)
            return _is_number(found) and bool(compare(found, number))

        return ordered
    wanted = re.sub(r"\\(.)", r"\1", value.text) if value.kind == "text" else value.text

    def equal(document: Any) -> bool:
        found = _found(document, steps)
        if found is _MISSING or isinstance(found, dict | list):
            return False
        if number is not None and _is_number(found):
            is_equal = bool(found == number)
        else:
            is_equal = _like(_shown(found), wanted)
        return is_equal is (sign == "=")

    return equal


def _found(document: Any, steps: list[str | int]) -> Any:
    """Return what a selector finds, or ``_MISSING``."""
    for step in steps:
        if isinstance(step, int):
            if not isinstance(document, list) or step >= len(document):
                return _MISSING
            document = document[step]
        else:
            if not isinstance(document, dict) or step not in document:
                return _MISSING
            document = document[step]
    return document


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str) -> float | None:
    return (
        float(text)
        if re.fullmatch(r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?", text)
        else None
    )


def _like(text: str, wanted: str) -> bool:
    """Tell whether a text is what is wanted, in which ``*`` stands for anything; linear."""
    first, *rest = wanted.split("*")
    if not rest:
        return text == wanted
    if not text.startswith(first):
        return False
    at = len(first)
    *middle, last = rest
    for part in middle:
        place = text.find(part, at)
        if place < 0:
            return False
        at = place + len(part)
    return len(text) - at >= len(last) and text.endswith(last)
