"""Limits for the fields of messages: rules, tables of rules, and a check before decoding. Pure.

A table has a rule for every field of every part of a message (``host_rules``, ``report_rules``), so
that nothing from an agent is stored or used without a limit. ``Table`` checks a decoded message.
Decoding itself builds every item of a message: ``look`` refuses too many items before that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from agent import escapes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_SHOWN: Final = 64
"""How many characters of a value a refusal repeats at most."""
_DEEPEST: Final = 64
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_QUOTE, _COMMA = b'",'
_OPEN: Final = frozenset(b"[{")


class OutOfBounds(ValueError):
    """A message or a field is over a limit; the text names the field and the limit."""


class Rule(Protocol):
    """The allowed values of one field."""

    def check(self, value: Any, where: str, table: Table) -> None:
        """Check a value; raises ``OutOfBounds``, which names ``where``."""


class Anything(NamedTuple):
    """No limit: for a flag, an enum, or text that is cut before it is stored."""

    def check(self, value: Any, where: str, table: Table) -> None:
        """Accept every value."""


class Number(NamedTuple):
    """A number in a range, both ends included; None is allowed as a default."""

    least: float
    most: float

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for any other value."""
        if value is not None and not self.least <= value <= self.most:
            raise OutOfBounds(
                f"{where}: {_brief(value)} is not between {self.least} and {self.most}"
            )


class Form(NamedTuple):
    """The characters that a text may have."""

    pattern: re.Pattern[str]
    words: str
    """Completes the sentence "may have ..."."""


LINE: Final = Form(re.compile(rf"[^{escapes.CONTROLS}]*"), "no control characters")
WORD: Final = Form(re.compile(r"[A-Za-z0-9._:/@+=-]*"), "only letters, digits and . _ : / @ + = -")
NAME: Final = Form(re.compile(r"[A-Za-z0-9_-]*"), "only letters, digits, hyphens and underscores")


class Text(NamedTuple):
    """A text with a limited number of characters."""

    most: int
    least: int = 0
    form: Form = LINE

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for a wrong length or forbidden characters."""
        if value is None:
            return
        if not self.least <= len(value) <= self.most:
            raise OutOfBounds(
                f"{where} must have {self.least} to {self.most} characters, but has {len(value)}"
            )
        if not self.form.pattern.fullmatch(value):
            raise OutOfBounds(f"{where} {_brief(value)} may have {self.form.words}")


class OneOf(NamedTuple):
    """One of a few values."""

    values: Collection[str]

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for any other value."""
        if value not in self.values:
            raise OutOfBounds(f"{where} {_brief(value)} is not one of {', '.join(self.values)}")


class Items(NamedTuple):
    """A list with a limited number of items."""

    most: int
    item: Rule

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for too many items, or if an item breaks its rule."""
        if len(value) > self.most:
            raise OutOfBounds(f"{where} must have at most {self.most} items, but has {len(value)}")
        for index, item in enumerate(value):
            self.item.check(item, f"{where}[{index}]", table)


class Pairs(NamedTuple):
    """A limited number of names and values."""

    most: int
    key: Rule
    value: Rule

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for too many, or if a name or a value breaks its rule."""
        if len(value) > self.most:
            raise OutOfBounds(f"{where} must have at most {self.most} items, but has {len(value)}")
        for name, item in value.items():
            self.key.check(name, f"a name in {where}", table)
            self.value.check(item, f"{where}[{_brief(name)}]", table)


class Part(NamedTuple):
    """A part of the message with its own rules; None is allowed as a default."""

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` if one of its fields breaks its rule."""
        if value is not None:
            table.check(value, where)


class Table:
    """The rules of a message and its parts, one for each field.

    Args:
        rules: by type, then by field name.
    """

    def __init__(self, rules: Mapping[type[Struct], Mapping[str, Rule]]) -> None:
        self.rules = rules
        self._rows: dict[type[Struct], list[tuple[str, str, Rule]]] = {}

    def check(self, message: Struct, where: str = "") -> None:
        """Raise ``OutOfBounds`` for the first field, in message order, that breaks its rule."""
        kind = type(message)
        row = self._rows.get(kind)
        if row is None:
            rules = self.rules[kind]
            row = self._rows[kind] = [
                (field.name, field.encode_name, rules[field.name])
                for field in msgspec.structs.fields(kind)
            ]
        for name, shown, rule in row:
            rule.check(getattr(message, name), f"{where}.{shown}" if where else shown, self)


def look(body: bytes, *, most_items: int, most_values: int) -> None:
    """Check that decoding a JSON document does not build too many values.

    A document with few commas passes at once. Invalid JSON may pass: decoding reports it.

    Args:
        body: the document.
        most_items: maximum number of items of one list or object in it.
        most_values: maximum number of all values, including names.

    Raises:
        OutOfBounds: the document has more.
    """
    if body.count(b",") < most_items and len(body) < most_values:
        return
    counts = [0]
    values = 0
    for match in _TOKEN.finditer(body):
        token = body[match.start()]
        if token == _COMMA:
            counts[-1] += 1
            if counts[-1] >= most_items:
                raise OutOfBounds(f"more than {most_items} items in one list")
        elif token == _QUOTE:
            pass
        elif token in _OPEN:
            counts.append(0)
            if len(counts) > _DEEPEST:
                raise OutOfBounds(f"more than {_DEEPEST} nested lists")
        else:
            counts.pop()
            if not counts:
                return  # not JSON
            continue
        values += 1
        if values > most_values:
            raise OutOfBounds(f"more than {most_values} values in one message")


def _brief(value: object) -> str:
    text = str(value)
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}{escapes.ELLIPSIS}"
    return f"'{escapes.shown(cut)}'" if isinstance(value, str) else cut
