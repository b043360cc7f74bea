"""A part of metric math: arithmetic, SUM, AVG, MIN, MAX, METRICS, SEARCH and REMOVE_EMPTY. Pure.

``parsed`` makes a tree, ``evaluated`` computes it with what names and searches stand for. A point that has
no value for an operand, or no finite one, is missing in the result.

Source: CloudWatch user guide, "Using math expressions with metrics".
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct, field

from agent.controlplane.api.cloudwatch.errors import ValidationException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LENGTH_MOST: Final = 1024
"""As on CloudWatch."""
VALUES_MOST: Final = 4_000_000
"""That the expressions of one request may compute with: a second or two of work."""
_DEEPEST: Final = 32
_SIGNS_MOST: Final = 256
"""Each makes the tree one deeper, and Python has a limit of calls within calls."""
_SHOWN: Final = 64
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<sign>[-+*/(),\[\]]))"
)
_SIGNS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_SUMMARIES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "SUM": sum,
    "AVG": lambda values: sum(values) / len(values),
    "MIN": min,
    "MAX": max,
}
_FUNCTIONS: Final = (*_SUMMARIES, "METRICS", "REMOVE_EMPTY", "SEARCH")


class Series(Struct, frozen=True):
    """One line of values."""

    values: Mapping[int, float]
    """By Unix seconds."""
    label: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    """For ``${PROP(...)}`` of labels."""


Value = float | Series | list[Series]


class Budget:
    """How many values the expressions of one request may still use: lists of lists grow without end."""

    def __init__(self, values: int = VALUES_MOST) -> None:
        self._left = values

    def pay(self, values: int) -> None:
        """Count values that are used; raises ``ValidationException`` if they are too many."""
        self._left -= values
        if self._left < 0:
            raise ValidationException(
                f"The expressions of the request use more than {VALUES_MOST} values: ask for fewer "
                "metrics, a shorter time or a longer Period."
            )

    def paid(self, value: Value) -> Value:
        """Return a value that is computed with, after its count."""
        if not isinstance(value, float):
            self.pay(sum(1 + len(each.values) for each in _several(value)))
        return value


class Asked(NamedTuple):
    """A SEARCH in an expression."""

    term: str
    stat: str
    period_s: int


class Node(Struct, frozen=True):
    """A part of an expression."""

    kind: str
    """``number``, ``name``, ``list``, a sign, or the name of a function."""
    text: str = ""
    parts: tuple[Node, ...] = ()


def parsed(text: str) -> Node:
    """Return the tree of an expression.

    Raises:
        ValidationException: it is invalid, or has something that is not supported.
    """
    if len(text) > LENGTH_MOST:
        raise ValidationException(f"An expression may have at most {LENGTH_MOST} characters.")
    if re.match(r"\s*SELECT\s", text, re.IGNORECASE):
        raise ValidationException(
            "Metrics Insights (SELECT) is not supported; use MetricStat or SEARCH."
        )
    parser = _Parser(_tokens(text))
    node = parser.sum(0)
    parser.end()
    _refuse_texts(node)
    return node


def _refuse_texts(node: Node) -> None:
    """Raise ``ValidationException`` for a text that is not an argument of SEARCH."""
    if node.kind == "text":
        raise _unsupported(node.text)
    for part in node.parts if node.kind != "SEARCH" else ():
        _refuse_texts(part)


def names_in(node: Node) -> set[str]:
    """Return the ids of other queries that an expression names."""
    found = {node.text} if node.kind == "name" else set()
    return found.union(*(names_in(part) for part in node.parts))


def searches_in(node: Node) -> list[Asked]:
    """Return the searches of an expression."""
    found = [_asked(node)] if node.kind == "SEARCH" else []
    return found + [asked for part in node.parts for asked in searches_in(part)]


def uses_metrics(node: Node) -> bool:
    """Return whether an expression asks for all metrics of its request."""
    return node.kind == "METRICS" or any(uses_metrics(part) for part in node.parts)


def evaluated(
    node: Node,
    names: Mapping[str, Value],
    searches: Mapping[Asked, list[Series]],
    metrics: Sequence[Series],
    budget: Budget,
) -> Value:
    """Return the value of an expression.

    Args:
        node: the tree.
        names: what other queries of the request are, by their ids.
        searches: what searches found.
        metrics: all metrics of the request, for ``METRICS()``.
        budget: of the request.

    Raises:
        ValidationException: operands do not go together, or there are too many values.
    """

    def value_of(part: Node) -> Value:
        match part.kind:
            case "number":
                return float(part.text)
            case "name":
                return names[part.text]
            case "METRICS":
                return list(metrics)
            case "SEARCH":
                return searches[_asked(part)]
            case "list":
                return _joined((value_of(one) for one in part.parts), budget)
            case "REMOVE_EMPTY":
                return [each for each in _several(value_of(part.parts[0])) if each.values]
            case kind if kind in _SUMMARIES:
                return _summary(_SUMMARIES[kind], budget.paid(value_of(part.parts[0])))
            case sign:
                one, other = value_of(part.parts[0]), value_of(part.parts[1])
                return _combined(_SIGNS[sign], budget.paid(one), budget.paid(other))

    return value_of(node)


class _Token(NamedTuple):
    kind: str
    text: str


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _unsupported(text[at:])
        found.append(_Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._signs = 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise _unsupported(" ".join(token.text for token in self._tokens[self._at :]))

    def sum(self, depth: int) -> Node:
        node = self._product(depth)
        while (sign := self._take("+", "-")) is not None:
            self._count_sign()
            node = Node(sign, parts=(node, self._product(depth)))
        return node

    def _product(self, depth: int) -> Node:
        node = self._factor(depth)
        while (sign := self._take("*", "/")) is not None:
            self._count_sign()
            node = Node(sign, parts=(node, self._factor(depth)))
        return node

    def _count_sign(self) -> None:
        self._signs += 1
        if self._signs > _SIGNS_MOST:
            raise ValidationException(f"An expression may have {_SIGNS_MOST} signs.")

    def _factor(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise ValidationException("The expression is nested too deeply.")
        if self._take("-") is not None:
            return Node("-", parts=(Node("number", "0"), self._factor(depth + 1)))
        if self._take("(") is not None:
            node = self.sum(depth + 1)
            self._expect(")")
            return node
        if self._take("[") is not None:
            return Node("list", parts=self._arguments("]", depth))
        token = self._next()
        if token.kind in ("number", "text"):
            return Node(token.kind, token.text)
        if token.kind == "name" and self._take("(") is not None:
            return self._function(token.text, self._arguments(")", depth))
        if token.kind == "name":
            return Node("name", token.text)
        raise _unsupported(token.text)

    def _arguments(self, closing: str, depth: int) -> tuple[Node, ...]:
        if self._take(closing) is not None:
            return ()
        parts = [self.sum(depth + 1)]
        while self._take(",") is not None:
            parts.append(self.sum(depth + 1))
        self._expect(closing)
        return tuple(parts)

    def _function(self, name: str, parts: tuple[Node, ...]) -> Node:
        if name not in _FUNCTIONS:
            raise ValidationException(
                f"The function {name[:_SHOWN]} is not supported; {', '.join(_FUNCTIONS)} are, and "
                "arithmetic."
            )
        kinds = [part.kind for part in parts]
        if name == "SEARCH":
            if kinds[:2] != ["text", "text"] or kinds[2:] not in ([], ["number"]):
                raise ValidationException("SEARCH needs a search, a statistic and a period.")
            return Node(name, parts=parts)
        if "text" in kinds or len(parts) != (0 if name == "METRICS" else 1):
            raise ValidationException(f"{name} does not take these arguments.")
        return Node(name, parts=parts)

    def _next(self) -> _Token:
        if self._at == len(self._tokens):
            raise ValidationException("The expression ends too early.")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, *signs: str) -> str | None:
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind == "sign" and token.text in signs:
                self._at += 1
                return token.text
        return None

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise ValidationException(f"The expression lacks a '{sign}'.")


def _asked(node: Node) -> Asked:
    term, stat, *period = (part.text for part in node.parts)
    plain = [re.sub(r"\\(['\\])", r"\1", text[1:-1]) for text in (term, stat)]
    return Asked(plain[0], plain[1], int(period[0].partition(".")[0]) if period else 300)


def _several(value: Value) -> list[Series]:
    if isinstance(value, float):
        raise ValidationException("A metric is needed, not a number.")
    return [value] if isinstance(value, Series) else value


def _joined(values: Iterable[Value], budget: Budget) -> list[Series]:
    """Return the series of all values in one list."""
    found: list[Series] = []
    for value in values:
        several = _several(value)
        budget.pay(len(several))
        found += several
    return found


def _summary(summarize: Callable[[Sequence[float]], float], value: Value) -> Value:
    """Return one number of a series, or one series of several."""
    if isinstance(value, float):
        raise ValidationException("A metric is needed, not a number.")
    if isinstance(value, Series):
        if not value.values:
            return Series({})
        return float(summarize(list(value.values.values())))
    moments = sorted({at for each in value for at in each.values})
    return Series(
        {
            at: float(summarize([each.values[at] for each in value if at in each.values]))
            for at in moments
        }
    )


def _combined(combine: Callable[[float, float], float], one: Value, other: Value) -> Value:
    if isinstance(one, list):
        if isinstance(other, list):
            raise ValidationException("Two lists of metrics cannot be combined.")
        return [_pair(combine, each, other, each) for each in one]
    if isinstance(other, list):
        return [_pair(combine, one, each, each) for each in other]
    if isinstance(one, float) and isinstance(other, float):
        result = _number(combine, one, other)
        if result is None:
            raise ValidationException("The expression divides by zero.")
        return result
    return _pair(combine, one, other, Series({}))


def _pair(
    combine: Callable[[float, float], float],
    one: float | Series,
    other: float | Series,
    named: Series,
) -> Series:
    """Combine two values of which one is a series; the result has the label of ``named``."""
    moments = [set(each.values) for each in (one, other) if isinstance(each, Series)]
    values: dict[int, float] = {}
    for at in sorted(set.intersection(*moments)):
        left = one.values[at] if isinstance(one, Series) else one
        right = other.values[at] if isinstance(other, Series) else other
        result = _number(combine, left, right)
        if result is not None:
            values[at] = result
    return Series(values, named.label, named.properties)


def _number(combine: Callable[[float, float], float], one: float, other: float) -> float | None:
    try:
        result = combine(one, other)
    except (ZeroDivisionError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def _unsupported(text: str) -> ValidationException:
    return ValidationException(
        f"The expression is not supported from '{text.strip()[:_SHOWN]}' on."
    )
