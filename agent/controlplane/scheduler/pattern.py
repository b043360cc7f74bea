r"""Regular expressions from clients, matched in time linear in the text.

The cluster query language matches attributes against regular expressions (``=~``). A backtracking
matcher such as ``re`` would let one request block the process for hours (``(a+)+$``), and no timeout
can interrupt it. So patterns run on a Thompson automaton: all alternatives advance together, one step
per character of the text, and the automaton has at most ``MAX_STATES`` states. The cost of a match is
at most ``MAX_STATES`` x length of the text for any pattern. Steps are cached, so that matching many
instances costs little more than matching one.

Supported: literals, ``.``, classes (``[a-z]``, ``[^...]``), ``\d \D \w \W \s \S`` and escaped
punctuation, groups (``(...)``, ``(?:...)``), ``|``, ``* + ? {m} {m,} {m,n}`` (also lazy: laziness
does not change whether the whole text matches), ``^`` and ``$``. Backreferences, look-around and
flags are refused, because they cannot be matched in linear time.

Pure. Fails only with ``PatternError``.

Tests: ``tests/unit/controlplane/scheduler/test_query.py``.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.errors import AgentError

MAX_LENGTH = 128
"""Longest pattern, in characters: the limit that ECS puts on an argument."""
MAX_STATES = 1000
MAX_DEPTH = 32
_REMEMBERED_STEPS = 2048

_CharTest = Callable[[str], bool]


class PatternError(AgentError):
    """A pattern is invalid or too large; the text says what is wrong and where."""


def _is_word(char: str) -> bool:
    return char == "_" or (char.isascii() and char.isalnum())


def _is_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_space(char: str) -> bool:
    return char in string.whitespace


_CLASSES: dict[str, _CharTest] = {
    "d": _is_digit,
    "D": lambda char: not _is_digit(char),
    "w": _is_word,
    "W": lambda char: not _is_word(char),
    "s": _is_space,
    "S": lambda char: not _is_space(char),
}
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


@dataclass(slots=True, eq=False)
class _State:
    """One state: consumes a character (``test``), leads to several others, or is the end."""

    test: _CharTest | None = None
    anchor: str = ""
    out: list[_State] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Node:
    """One piece of a parsed pattern."""

    kind: str
    """``char``, ``anchor``, ``seq``, ``alt`` or ``repeat``."""
    test: _CharTest | None = None
    anchor: str = ""
    parts: tuple[_Node, ...] = ()
    low: int = 0
    high: int | None = None


class Pattern:
    """A compiled pattern; ``matches`` tests whether the whole text matches, as ECS does."""

    __slots__ = ("_end", "_start", "_steps", "source")

    def __init__(self, source: str) -> None:
        """Compile.

        Raises:
            PatternError: the pattern is malformed, uses something unsupported, or is too large.
        """
        if len(source) > MAX_LENGTH:
            raise PatternError(f"regular expression is longer than {MAX_LENGTH} characters")
        self.source = source
        builder = _Builder()
        self._end = builder.state()
        self._start = builder.link(_Parser(source).parse(), self._end)
        self._steps: dict[tuple[frozenset[_State], str, bool], frozenset[_State]] = {}

    def matches(self, text: str) -> bool:
        """Return whether the whole text matches."""
        last = len(text) - 1
        current = _closure([self._start], at_start=True, at_end=not text)
        for index, char in enumerate(text):
            current = self._step(current, char, at_end=index == last)
            if not current:
                return False
        return self._end in current

    def _step(self, states: frozenset[_State], char: str, *, at_end: bool) -> frozenset[_State]:
        key = (states, char, at_end)
        known = self._steps.get(key)
        if known is None:
            after = [s.out[0] for s in states if s.test is not None and s.test(char)]
            known = _closure(after, at_start=False, at_end=at_end)
            if len(self._steps) < _REMEMBERED_STEPS:
                self._steps[key] = known
        return known


def _closure(states: list[_State], *, at_start: bool, at_end: bool) -> frozenset[_State]:
    """Return the states reachable without consuming a character."""
    seen: set[_State] = set()
    pending = states
    while pending:
        state = pending.pop()
        if state in seen:
            continue
        if (state.anchor == "^" and not at_start) or (state.anchor == "$" and not at_end):
            continue
        seen.add(state)
        if state.test is None:
            pending.extend(state.out)
    return frozenset(seen)


class _Builder:
    """Turns nodes into states, from the end to the beginning."""

    def __init__(self) -> None:
        self._count = 0

    def _count_one(self) -> None:
        self._count += 1
        if self._count > MAX_STATES:
            raise PatternError(f"regular expression needs more than {MAX_STATES} states")

    def state(self, *out: _State, test: _CharTest | None = None, anchor: str = "") -> _State:
        self._count_one()
        return _State(test=test, anchor=anchor, out=list(out))

    def link(self, node: _Node, after: _State) -> _State:
        """Return the first state of ``node``, which leads to ``after``."""
        if node.kind == "char":
            return self.state(after, test=node.test)
        if node.kind == "anchor":
            return self.state(after, anchor=node.anchor)
        # Empty sequences count too: repeating nothing a billion times must not be free.
        self._count_one()
        if node.kind == "seq":
            for part in reversed(node.parts):
                after = self.link(part, after)
            return after
        if node.kind == "alt":
            return self.state(*(self.link(part, after) for part in node.parts))
        return self._repeat(node, after)

    def _repeat(self, node: _Node, after: _State) -> _State:
        inner = node.parts[0]
        if node.high is None:
            loop = self.state(after)
            loop.out.append(self.link(inner, loop))
            first = loop
        else:
            first = after
            for _ in range(node.high - node.low):
                first = self.state(after, self.link(inner, first))
        for _ in range(node.low):
            first = self.link(inner, first)
        return first


class _Parser:
    """Recursive descent over the pattern's text."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._depth = 0

    def parse(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._source):
            raise self._error("unmatched ')'")
        return node

    def _error(self, what: str) -> PatternError:
        return PatternError(f"regular expression {self._source!r}: {what} at {self._at}")

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise self._error("unexpected end")
        self._at += 1
        return char

    def _skip(self, text: str) -> bool:
        if self._source.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _alternatives(self) -> _Node:
        parts = [self._sequence()]
        while self._skip("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Node("alt", parts=tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._repeated(self._atom()))
        return _Node("seq", parts=tuple(parts))

    def _repeated(self, atom: _Node) -> _Node:
        node = atom
        while bounds := self._bounds():
            if node.kind == "repeat" and node.parts[0].kind == "repeat":
                raise self._error("nested repetition")
            node = _Node("repeat", parts=(node,), low=bounds[0], high=bounds[1])
            if not self._skip("?"):
                self._skip("+")
        return node

    def _bounds(self) -> tuple[int, int | None] | None:
        if self._skip("*"):
            return 0, None
        if self._skip("+"):
            return 1, None
        if self._skip("?"):
            return 0, 1
        if self._skip("{"):
            return self._counted()
        return None

    def _counted(self) -> tuple[int, int | None]:
        low = self._number()
        high: int | None = low
        if self._skip(","):
            high = None if self._peek() == "}" else self._number()
        if not self._skip("}"):
            raise self._error("'}' expected")
        if high is not None and high < low:
            raise self._error("repetition bounds are the wrong way round")
        return low, high

    def _number(self) -> int:
        start = self._at
        while self._peek() and _is_digit(self._peek()):
            self._at += 1
        digits = self._source[start : self._at]
        if not digits or len(digits) > 4:
            raise self._error("a number of at most 4 digits expected")
        return int(digits)

    def _atom(self) -> _Node:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return _Node("char", test=self._class())
        if char == ".":
            return _Node("char", test=lambda c: c != "\n")
        if char in "^$":
            return _Node("anchor", anchor=char)
        if char == "\\":
            return _Node("char", test=self._escape())
        if char in "*+?{":
            raise self._error(f"nothing to repeat before {char!r}")
        return _Node("char", test=_equals(char))

    def _group(self) -> _Node:
        if self._skip("?") and not self._skip(":"):
            raise self._error("look-around, flags and named groups are not supported:")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"groups nested deeper than {MAX_DEPTH}")
        node = self._alternatives()
        self._depth -= 1
        if not self._skip(")"):
            raise self._error("')' expected")
        return node

    def _escape(self) -> _CharTest:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        return _equals(self._escaped_char(char))

    def _escaped_char(self, char: str) -> str:
        if char in _CONTROL:
            return _CONTROL[char]
        if char.isalnum():
            raise self._error(f"unsupported escape '\\{char}'")
        return char

    def _class(self) -> _CharTest:
        negated = self._skip("^")
        tests: list[_CharTest] = []
        first = True
        while first or self._peek() != "]":
            first = False
            tests.append(self._class_item())
        self._at += 1

        def test(char: str) -> bool:
            return any(t(char) for t in tests) is not negated

        return test

    def _class_item(self) -> _CharTest:
        low = self._take()
        if low == "\\":
            low = self._take()
            if low in _CLASSES:
                return _CLASSES[low]
            low = self._escaped_char(low)
        following = self._source[self._at + 1 : self._at + 2]
        if self._peek() != "-" or following in {"]", ""}:
            return _equals(low)
        self._at += 1
        high = self._take()
        if high == "\\":
            high = self._escaped_char(self._take())
        if high < low:
            raise self._error(f"class range {low}-{high} is the wrong way round")
        return _between(low, high)


def _equals(wanted: str) -> _CharTest:
    return lambda char: char == wanted


def _between(low: str, high: str) -> _CharTest:
    return lambda char: low <= char <= high
