"""Conditions of policy statements: operators, and how they treat keys without a value. Pure.

Source: "IAM JSON policy elements: Condition operators" and "Conditions with multiple context keys or values".
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.authorization.wildcards import Patterns
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Values = Mapping[str, tuple[str, ...]]
    Test = Callable[[str, Values], bool]

_OPERATOR: Final = re.compile(r"(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?")
_SHOWN: Final = 64
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "Equals": lambda a, b: a == b,
    "LessThan": lambda a, b: a < b,
    "LessThanEquals": lambda a, b: a <= b,
    "GreaterThan": lambda a, b: a > b,
    "GreaterThanEquals": lambda a, b: a >= b,
}
_NEGATIONS: Final = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
"""Operators that hold where another one does not."""
_ARN_PARTS: Final = 6


class ConditionInvalid(AgentError):
    """A condition that cannot be evaluated; the text names what."""


class Condition:
    """One operator, one key, and the values it is compared with; immutable."""

    def __init__(self, operator: str, key: str, values: Any, *, has_variables: bool) -> None:
        """Compile a condition.

        Args:
            operator: as in the document.
            key: as in the document.
            values: as in the document: one or a list.
            has_variables: whether ``${...}`` in values is a variable.

        Raises:
            ConditionInvalid: the operator is unknown, or a value does not suit it.
        """
        match = _OPERATOR.fullmatch(operator)
        if match is None:
            raise ConditionInvalid(f"Invalid Condition type : {operator[:_SHOWN]}")
        self._qualifier, name, exists = match.groups()
        self._if_exists = exists is not None
        self.key = key.lower()
        self._negated = name in _NEGATIONS
        texts = _texts(values, operator)
        self._is_null: frozenset[bool] | None = None
        self._tests: list[Test] = []
        self.variables: frozenset[str] = frozenset()
        if name == "Null":
            if self._if_exists or self._qualifier:
                raise ConditionInvalid(f"Invalid Condition type : {operator[:_SHOWN]}")
            self._is_null = frozenset(_truth(text, operator) for text in texts)
        else:
            test = _test(_NEGATIONS.get(name, name), texts, operator, has_variables=has_variables)
            self._tests = [test[0]]
            self.variables = test[1]

    def holds(self, values: Values) -> bool:
        """Return whether it holds for a request, by the values of keys in lower case."""
        found = values.get(self.key, ())
        if self._is_null is not None:
            return (not found) in self._is_null
        if not found:
            return self._if_exists or self._negated or self._qualifier == "ForAllValues"
        (test,) = self._tests
        each = (test(value, values) != self._negated for value in found)
        if self._qualifier == "ForAllValues" or (self._qualifier is None and self._negated):
            return all(each)
        return any(each)


def _test(
    name: str, texts: Sequence[str], operator: str, *, has_variables: bool
) -> tuple[Test, frozenset[str]]:
    """Return whether a value of a request suits any of the texts, and the variables in these."""
    match name:
        case "StringEquals" | "StringEqualsIgnoreCase" | "StringLike":
            patterns = Patterns(
                texts,
                has_variables=has_variables,
                has_wildcards=name == "StringLike",
                ignores_case=name == "StringEqualsIgnoreCase",
            )
            return patterns.match, patterns.variables
        case "ArnEquals" | "ArnLike":
            return _arns(texts, operator, has_variables=has_variables)
        case "Bool":
            wanted = {_truth(text, operator) for text in texts}
            return lambda value, _: (value.lower() == "true") in wanted, frozenset()
        case "IpAddress":
            return _addresses(texts, operator), frozenset()
    for kind, read in (("Numeric", _number), ("Date", _moment)):
        compare = _COMPARISONS.get(name.removeprefix(kind))
        if name.startswith(kind) and compare is not None:
            return _compared(read, compare, [read(text) for text in texts], operator), frozenset()
    raise ConditionInvalid(f"Invalid Condition type : {operator[:_SHOWN]}")


def _arns(
    texts: Sequence[str], operator: str, *, has_variables: bool
) -> tuple[Test, frozenset[str]]:
    """Compare part by part, so that no wildcard reaches over a colon of the first five."""
    wanted: list[list[Patterns]] = []
    literal: set[str] = set()
    for text in texts:
        parts = text.split(":", _ARN_PARTS - 1)
        if text == "*":
            parts = ["*"] * _ARN_PARTS
        if len(parts) != _ARN_PARTS:
            raise ConditionInvalid(f"{operator}: {text[:_SHOWN]!a} is not an ARN")
        if not {"*", "?", "$"} & set(text):
            literal.add(text)
        else:
            wanted.append([Patterns([part], has_variables=has_variables) for part in parts])

    def test(value: str, values: Values) -> bool:
        if value in literal:
            return True
        parts = value.split(":", _ARN_PARTS - 1)
        return len(parts) == _ARN_PARTS and any(
            all(pattern.match(part, values) for pattern, part in zip(each, parts, strict=True))
            for each in wanted
        )

    return test, frozenset(name for each in wanted for part in each for name in part.variables)


def _addresses(texts: Sequence[str], operator: str) -> Test:
    try:
        networks = [ipaddress.ip_network(text, strict=False) for text in texts]
    except ValueError:
        raise ConditionInvalid(f"{operator}: {texts[0][:_SHOWN]!a} is not a range") from None

    def test(value: str, _: Values) -> bool:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in networks)

    return test


def _compared(
    read: Callable[[str], float | None],
    compare: Callable[[float, float], bool],
    wanted: Sequence[float | None],
    operator: str,
) -> Test:
    numbers = [each for each in wanted if each is not None]
    if len(numbers) < len(wanted):
        raise ConditionInvalid(f"{operator}: a value is neither a number nor a time")

    def test(value: str, _: Values) -> bool:
        number = read(value)
        return number is not None and any(compare(number, each) for each in numbers)

    return test


def _texts(values: Any, operator: str) -> list[str]:
    given = values if isinstance(values, list) else [values]
    if not given or not all(isinstance(each, str | int | float) for each in given):
        raise ConditionInvalid(f"{operator[:_SHOWN]}: the values must be text, numbers or booleans")
    return [str(each).lower() if isinstance(each, bool) else str(each) for each in given]


def _truth(text: str, operator: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConditionInvalid(f"{operator[:_SHOWN]}: {text[:_SHOWN]!a} is neither true nor false")
    return text.lower() == "true"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _moment(text: str) -> float | None:
    """Return Unix seconds of an ISO 8601 time, or of such a number."""
    number = _number(text)
    if number is not None:
        return number
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
