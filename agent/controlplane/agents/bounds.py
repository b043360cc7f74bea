"""What the fields of a message may hold: rules, tables of them, and the look before decoding. Pure.

A table has a rule for every field of every part of a message (``host_rules``, ``report_rules``), so that
nothing an agent sends is kept, or reckoned with, unbounded. ``Table`` goes through a decoded message by
it. Decoding itself builds what a message lists: ``look`` refuses too many items before one is built.
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
"""Most characters of a value that a refusal repeats."""
_DEEPEST: Final = 64
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_QUOTE, _COMMA = b'",'
_OPEN: Final = frozenset(b"[{")


class OutOfBounds(ValueError):
    """A message, or a field of it, is beyond what is taken; the text names the field and the bound."""


class Rule(Protocol):
    """What one field may hold."""

    def check(self, value: Any, where: str, table: Table) -> None:
        """Return when it holds that; raises ``OutOfBounds``, which names ``where``."""


class Anything(NamedTuple):
    """No bound of its own: a flag, an enum, or what is cut before it is kept."""

    def check(self, value: Any, where: str, table: Table) -> None:
        """Return."""


class Number(NamedTuple):
    """A number between two, both included; None where that is the default."""

    least: float
    most: float

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for any other."""
        if value is not None and not self.least <= value <= self.most:
            raise OutOfBounds(
                f"{where}: {_brief(value)} is not between {self.least} and {self.most}"
            )


class Form(NamedTuple):
    """Which characters a text may have."""

    pattern: re.Pattern[str]
    words: str
    """Completes "may have"."""


LINE: Final = Form(re.compile(rf"[^{escapes.CONTROLS}]*"), "no control characters")
WORD: Final = Form(re.compile(r"[A-Za-z0-9._:/@+=-]*"), "only letters, digits and . _ : / @ + = -")
NAME: Final = Form(re.compile(r"[A-Za-z0-9_-]*"), "only letters, digits, hyphens and underscores")


class Text(NamedTuple):
    """A text of so many characters."""

    most: int
    least: int = 0
    form: Form = LINE

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for a longer or shorter one, or one of other characters."""
        if value is None:
            return
        if not self.least <= len(value) <= self.most:
            raise OutOfBounds(
                f"{where} must have {self.least} to {self.most} characters, and has {len(value)}"
            )
        if not self.form.pattern.fullmatch(value):
            raise OutOfBounds(f"{where} {_brief(value)} may have {self.form.words}")


class OneOf(NamedTuple):
    """One of a few values."""

    values: Collection[str]

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for any other."""
        if value not in self.values:
            raise OutOfBounds(f"{where} {_brief(value)} is none of {', '.join(self.values)}")


class Items(NamedTuple):
    """A list of so many items."""

    most: int
    item: Rule

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for more, or when an item breaks its rule."""
        if len(value) > self.most:
            raise OutOfBounds(f"{where} must have at most {self.most} items, and has {len(value)}")
        for index, item in enumerate(value):
            self.item.check(item, f"{where}[{index}]", table)


class Pairs(NamedTuple):
    """Names and values, so many of them."""

    most: int
    key: Rule
    value: Rule

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` for more, or when a name or a value breaks its rule."""
        if len(value) > self.most:
            raise OutOfBounds(f"{where} must have at most {self.most} items, and has {len(value)}")
        for name, item in value.items():
            self.key.check(name, f"a name in {where}", table)
            self.value.check(item, f"{where}[{_brief(name)}]", table)


class Part(NamedTuple):
    """A part of the message with a row of rules of its own; None where that is the default."""

    def check(self, value: Any, where: str, table: Table) -> None:
        """Raise ``OutOfBounds`` when one of its fields breaks its rule."""
        if value is not None:
            table.check(value, where)


class Table:
    """The rules of a message and of its parts, one for each field.

    Args:
        rules: by type, and in it by the field's name.
    """

    def __init__(self, rules: Mapping[type[Struct], Mapping[str, Rule]]) -> None:
        self.rules = rules
        self._rows: dict[type[Struct], list[tuple[str, str, Rule]]] = {}

    def check(self, message: Struct, where: str = "") -> None:
        """Raise ``OutOfBounds`` for the first field, in the order of the message, that breaks its rule."""
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
    """Return when decoding a JSON document builds no more than so much.

    A document with few commas is passed at once. What is no JSON may pass: decoding says so.

    Args:
        body: the document.
        most_items: of one list or object in it.
        most_values: of all together; names count, too.

    Raises:
        OutOfBounds: it lists more.
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
                raise OutOfBounds(f"more than {_DEEPEST} lists within each other")
        else:
            counts.pop()
            if not counts:
                return  # no JSON
            continue
        values += 1
        if values > most_values:
            raise OutOfBounds(f"more than {most_values} values in one message")


def _brief(value: object) -> str:
    text = str(value)
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}{escapes.ELLIPSIS}"
    return f"'{escapes.shown(cut)}'" if isinstance(value, str) else cut
