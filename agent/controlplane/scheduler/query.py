r"""The cluster query language: which container instances an expression selects.

::

    expression  = and-terms joined by ``or`` / ``||``
    and-terms   = terms joined by ``and`` / ``&&``
    term        = ("not" | "!") term | "(" expression ")" | condition
    condition   = subject operator [argument]
    subject     = agentConnected | agentVersion | attribute:NAME | ec2InstanceId | registeredAt
                | runningTasksCount | task:group
    operator    = == equals | != not_equals | > >= < <= and their names | exists | !exists
                | in | !in | =~ matches | !~ not_matches
    argument    = text | "text" | 'text' | [text, ...]

Source of the rules: the Amazon ECS developer guide, "Cluster query language". An expression has at
most 2000 characters and an argument at most 128. A negative operator is the exact opposite of its
positive one, so it holds for an instance without the attribute. ``task:group == x`` holds if at least
one task of group x runs. Numbers compare as numbers, versions by their parts, times as times,
everything else as text.

Regular expressions match the whole value, in linear time (see ``pattern``). The length and the nesting
of the expression limit the cost of parsing. Pure; fails only with ``QueryError``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, NoReturn

from agent.controlplane.scheduler.instance import Instance
from agent.controlplane.scheduler.pattern import Pattern, PatternError
from agent.errors import AgentError

MAX_LENGTH = 2000
MAX_ARGUMENT = 128
MAX_DEPTH = 40

Matcher = Callable[[Instance], bool]
"""A compiled expression: returns whether an instance is selected; never raises."""


class QueryError(AgentError):
    """An expression is invalid. The text is that of ECS's InvalidParameterException."""


class Query(NamedTuple):
    """A compiled expression."""

    matcher: Matcher
    subjects: frozenset[str]
    """What it is about, such as ``attribute:rack``; never empty."""


def parse(expression: str) -> Matcher:
    """Compile an expression.

    Raises:
        QueryError: the expression is malformed or too long; the text names the place.
    """
    return read(expression).matcher


def read(expression: str) -> Query:
    """Compile an expression, and return what it is about, too.

    Raises:
        QueryError: the expression is malformed or too long; the text names the place.
    """
    if len(expression) > MAX_LENGTH:
        raise QueryError(f"Invalid expression: it is longer than {MAX_LENGTH} characters.")
    parser = _Parser(expression)
    return Query(parser.parse(), frozenset(parser.subjects))


class _Subject(NamedTuple):
    """A property of an instance; ``values`` is empty if it has none."""

    name: str
    values: Callable[[Instance], tuple[str, ...]]


_SUBJECTS: dict[str, Callable[[Instance], tuple[str, ...]]] = {
    "agentConnected": lambda i: ("true" if i.agent_connected else "false",),
    "agentVersion": lambda i: (i.agent_version,) if i.agent_version else (),
    "ec2InstanceId": lambda i: (i.ec2_instance_id,) if i.ec2_instance_id else (),
    "registeredAt": lambda i: (datetime.fromtimestamp(i.registered_at, UTC).isoformat(),),
    "runningTasksCount": lambda i: (str(i.running_tasks),),
    "task:group": lambda i: tuple(group for group, count in i.task_groups.items() if count > 0),
}

# Longest first: ">=" must be seen before ">".
_SYMBOLS = ("==", "!=", ">=", "<=", "=~", "!~", ">", "<")
_WORDS = {
    "equals": "==",
    "not_equals": "!=",
    "greater_than": ">",
    "greater_than_equal": ">=",
    "less_than": "<",
    "less_than_equal": "<=",
    "exists": "exists",
    "!exists": "!exists",
    "not_exists": "!exists",
    "in": "in",
    "!in": "!in",
    "not_in": "!in",
    "matches": "=~",
    "not_matches": "!~",
}
_OPPOSITES = {"!=": "==", "!~": "=~", "!in": "in", "!exists": "exists"}

_SUBJECT = re.compile(r"[A-Za-z0-9_.:/\\-]+")
_OPERATOR = re.compile(r"!?[A-Za-z_]+")
_PLAIN = re.compile(r"[^\s()\[\],&|\"']+")
_KEYWORD = re.compile(r"(and|or|not)(?![A-Za-z0-9_.:/\\-])", re.IGNORECASE)
_VERSION = re.compile(r"v?\d{1,9}(\.\d{1,9}){1,3}")
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,9})?")


class _Parser:
    """Recursive descent on the text itself: the form of an argument depends on its position."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self.subjects: set[str] = set()

    def parse(self) -> Matcher:
        matcher = self._any_of()
        if self._peek():
            self._fail(f"unexpected {self._peek()!r}")
        return matcher

    def _fail(self, what: str) -> NoReturn:
        raise QueryError(f"Invalid expression: {what} at position {self._at}.")

    def _peek(self) -> str:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _skip(self, symbol: str) -> bool:
        self._peek()
        if self._text.startswith(symbol, self._at):
            self._at += len(symbol)
            return True
        return False

    def _skip_keyword(self, word: str) -> bool:
        self._peek()
        found = _KEYWORD.match(self._text, self._at)
        if found is None or found[1].lower() != word:
            return False
        self._at = found.end()
        return True

    def _any_of(self) -> Matcher:
        matchers = [self._all_of()]
        while self._skip("||") or self._skip_keyword("or"):
            matchers.append(self._all_of())
        if len(matchers) == 1:
            return matchers[0]
        return lambda instance: any(matcher(instance) for matcher in matchers)

    def _all_of(self) -> Matcher:
        matchers = [self._term()]
        while self._skip("&&") or self._skip_keyword("and"):
            matchers.append(self._term())
        if len(matchers) == 1:
            return matchers[0]
        return lambda instance: all(matcher(instance) for matcher in matchers)

    def _term(self) -> Matcher:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH}")
        try:
            if self._skip("!") or self._skip_keyword("not"):
                return _opposite(self._term())
            if self._skip("("):
                matcher = self._any_of()
                if not self._skip(")"):
                    self._fail("')' expected")
                return matcher
            return self._condition()
        finally:
            self._depth -= 1

    def _condition(self) -> Matcher:
        subject = self._subject()
        self.subjects.add(subject.name)
        operator = self._operator()
        positive = _OPPOSITES.get(operator, operator)
        matcher = self._positive(subject, positive)
        return matcher if positive == operator else _opposite(matcher)

    def _positive(self, subject: _Subject, operator: str) -> Matcher:
        values = subject.values
        if operator == "exists":
            return lambda instance: bool(values(instance))
        if operator == "in":
            tests = [_equals(argument) for argument in self._list()]
            return lambda i: any(equals(v) for v in values(i) for equals in tests)
        if operator == "=~":
            return self._regex(subject)
        argument = self._argument()
        if operator == "==":
            equals = _equals(argument)
            return lambda i: any(equals(v) for v in values(i))
        return _ordered(subject, operator, argument)

    def _subject(self) -> _Subject:
        self._peek()
        found = _SUBJECT.match(self._text, self._at)
        if found is None:
            self._fail("a subject (for example attribute:ecs.instance-type) expected")
        name = found[0]
        if name.startswith("attribute:") and len(name) > len("attribute:"):
            attribute = name.removeprefix("attribute:")
            if len(attribute) > MAX_ARGUMENT:
                self._fail(f"attribute name longer than {MAX_ARGUMENT} characters")
            self._at = found.end()
            return _Subject(name, lambda i: _attribute(i, attribute))
        if name not in _SUBJECTS:
            self._fail(f"unknown subject {name[:MAX_ARGUMENT]!r}")
        self._at = found.end()
        return _Subject(name, _SUBJECTS[name])

    def _operator(self) -> str:
        self._peek()
        for symbol in _SYMBOLS:
            if self._skip(symbol):
                return symbol
        found = _OPERATOR.match(self._text, self._at)
        operator = _WORDS.get(found[0].lower()) if found else None
        if found is None or operator is None:
            self._fail("an operator expected")
        self._at = found.end()
        return operator

    def _list(self) -> list[str]:
        if not self._skip("["):
            return [self._argument()]
        items = [self._argument()]
        while self._skip(","):
            items.append(self._argument())
        if not self._skip("]"):
            self._fail("']' expected")
        return items

    def _argument(self) -> str:
        if self._peek() in {'"', "'"}:
            return self._bounded(self._quoted())
        found = _PLAIN.match(self._text, self._at)
        if found is None:
            self._fail("an argument expected")
        self._at = found.end()
        return self._bounded(found[0])

    def _quoted(self) -> str:
        quote = self._text[self._at]
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            self._fail(f"closing {quote} expected")
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return text

    def _bounded(self, argument: str) -> str:
        if len(argument) > MAX_ARGUMENT:
            self._fail(f"argument longer than {MAX_ARGUMENT} characters")
        return argument

    def _regex(self, subject: _Subject) -> Matcher:
        source = self._quoted() if self._peek() in {'"', "'"} else self._bare_regex()
        try:
            pattern = Pattern(self._bounded(source))
        except PatternError as error:
            self._fail(str(error))
        return lambda instance: any(pattern.matches(v) for v in subject.values(instance))

    def _bare_regex(self) -> str:
        """Read up to a blank or a parenthesis that was not opened in the pattern itself."""
        start, opened = self._at, 0
        while self._at < len(self._text) and not self._text[self._at].isspace():
            char = self._text[self._at]
            opened += (char == "(") - (char == ")")
            if opened < 0 or self._text.startswith("&&", self._at):
                break
            self._at += 2 if char == "\\" else 1
        self._at = min(self._at, len(self._text))
        if self._at == start:
            self._fail("a regular expression expected")
        return self._text[start : self._at]


def _opposite(matcher: Matcher) -> Matcher:
    return lambda instance: not matcher(instance)


def _attribute(instance: Instance, name: str) -> tuple[str, ...]:
    value = instance.attributes.get(name)
    return () if value is None else (value,)


def _equals(wanted: str) -> Callable[[str], bool]:
    """Return a test for equality; what is wanted is only looked at once, however many instances there are."""
    right = _comparable(wanted)
    return lambda value: value == wanted or (right is not None and _comparable(value) == right)


def _ordered(subject: _Subject, operator: str, argument: str) -> Matcher:
    def matcher(instance: Instance) -> bool:
        return any(_holds(value, operator, argument) for value in subject.values(instance))

    return matcher


def _holds(value: str, operator: str, argument: str) -> bool:
    left, right = _comparable(value), _comparable(argument)
    sign = _sign(value, argument)
    if left is not None and right is not None and left[0] == right[0]:
        sign = (left > right) - (left < right)
    return {">": sign > 0, ">=": sign >= 0, "<": sign < 0, "<=": sign <= 0}[operator]


def _sign(left: str, right: str) -> int:
    return (left > right) - (left < right)


def _comparable(text: str) -> tuple[str, tuple[float, ...]] | None:
    """Return the kind of a value and something that sorts as the value does; None for plain text."""
    if _NUMBER.fullmatch(text):
        return "number", (float(text),)
    if _VERSION.fullmatch(text):
        parts = [float(part) for part in text.removeprefix("v").split(".")]
        return "version", tuple(parts + [0.0] * (4 - len(parts)))
    if len(text) >= 10 and text[4:5] == "-":
        try:
            moment = datetime.fromisoformat(text)
            return "time", ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(),)
        except (ValueError, OverflowError):
            return None
    return None
