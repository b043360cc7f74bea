"""Reads the table of fields: what a request asks for that is not served, and of which hosts. Pure.

A field that says nothing (false, zero, an empty text or list) asks for nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from agent.controlplane.definition.fields import DEFINITION, RUN, Field, Support

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Rows = Mapping[str, tuple[Field, ...]]

_REFUSING = frozenset({Support.REFUSED, Support.NOT_RUN})
_OWNERS = {
    "containerDefinitions[]": "container",
    "containerOverrides[]": "container",
    "volumes[]": "volume",
}
"""Lists whose items have names, and what a user calls an item."""
_SHOWN = 64
"""Most characters of a value that a refusal repeats."""


@dataclass(frozen=True, slots=True)
class GivenField:
    """A field that a request says something in."""

    field: Field
    value: Any
    where: str
    """As a user knows it: ``'secrets' of container 'web'``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken."""

    text: str
    by_ecs: bool
    """True for what Amazon ECS would refuse too, with this text."""


def refusal_at_registration(request: Mapping[str, Any]) -> Refusal | None:
    """Return why a RegisterTaskDefinition request is refused; None when its fields are served.

    Args:
        request: checked against the service model.
    """
    return _refusal(_definition_rows(), request, frozenset({Support.REFUSED}))


def refusal_of_run(request: Mapping[str, Any], body: Mapping[str, Any]) -> Refusal | None:
    """Return why a RunTask or StartTask request is refused; None when its fields are served.

    Args:
        request: checked against the service model.
        body: the task definition with the request's overrides applied.
    """
    return _refusal(_run_rows(), request, _REFUSING) or _refusal(
        _definition_rows(), body, _REFUSING
    )


def required_attributes(definition: Mapping[str, Any]) -> list[str]:
    """Return the attributes that an instance needs to run a checked definition, by name."""
    found = {
        # A plugin's name may end in a tag, and no attribute name has a colon.
        asked.field.attribute.format(value=str(asked.value).replace(":", "."))
        for asked in _asked(_definition_rows(), definition)
        if asked.field.attribute
    }
    return sorted(found)


def covers(field: Field, path: str) -> bool:
    """Tell whether a row is about the field at a path of the model."""
    if not field.path.endswith(".*"):
        return field.path == path
    whole = field.path[:-2]
    return path.startswith(whole) and path[len(whole) : len(whole) + 1] in ("", ".", "[", "{")


def _refusal(
    rows: Rows, request: Mapping[str, Any], refusing: frozenset[Support]
) -> Refusal | None:
    for asked in _asked(rows, request):
        field = asked.field
        if field.support not in refusing:
            continue
        if field.text:
            return Refusal(field.text, by_ecs=True)
        given = f" {str(asked.value)[:_SHOWN]}" if field.only else ""
        return Refusal(f"{asked.where}{given} is not supported: {field.note}.", by_ecs=False)
    return None


def _asked(rows: Rows, request: Mapping[str, Any]) -> Iterator[GivenField]:
    """Yield what a request says, by the rows of a table; what the table does not know is passed.

    A field that is refused whole is yielded once, for the first that is said of it.
    """
    return _Walk(rows).members(request, "", "")


@cache
def _definition_rows() -> Rows:
    return _by_path(DEFINITION)


@cache
def _run_rows() -> Rows:
    return _by_path(RUN)


def _by_path(table: tuple[Field, ...]) -> Rows:
    """Return the rows by their path, without the mark of those about all fields below."""
    rows = defaultdict[str, list[Field]](list)
    for field in table:
        rows[field.path.removesuffix(".*")].append(field)
    return {path: tuple(fields) for path, fields in rows.items()}


class _Walk:
    """Goes through a request beside the rows of a table."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def members(self, value: Mapping[str, Any], path: str, owner: str) -> Iterator[GivenField]:
        """Yield what a structure says; ``owner`` is the named thing that it is part of."""
        for name, item in value.items():
            yield from self._value(item, f"{path}.{name}" if path else name, owner)

    def _value(self, value: Any, path: str, owner: str) -> Iterator[GivenField]:
        if not value:
            return
        # A row here is about this field, or about all below it.
        row = self._row(path, value)
        if row is not None:
            yield GivenField(row, value, _where(path, owner))
        elif isinstance(value, list):
            for item in value:
                yield from self._item(item, f"{path}[]", owner)
        elif isinstance(value, dict):
            map_row = self._row(f"{path}{{}}", value)
            if map_row is not None:
                yield GivenField(map_row, value, _where(path, owner))
            else:
                yield from self.members(value, path, owner)

    def _item(self, item: Any, path: str, owner: str) -> Iterator[GivenField]:
        kind = _OWNERS.get(path.rpartition(".")[2])
        if kind is not None and isinstance(item, dict):
            owner = f"{kind} '{item.get('name', '')}'"
        yield from self._value(item, path, owner)

    def _row(self, path: str, value: Any) -> Field | None:
        text = value if isinstance(value, str) else json.dumps(value)
        for field in self._rows.get(path, ()):
            if field.only is None or field.only.fullmatch(text):
                return field
        return None


def _where(path: str, owner: str) -> str:
    inner = path
    for listed in _OWNERS:
        inner = inner.rpartition(f"{listed}.")[2]
    inner = inner.replace("[]", "").removeprefix("overrides.")
    named = f" of {owner}" if owner else ""
    in_overrides = " in the overrides" if path.startswith("overrides.") else ""
    return f"'{inner}'{named}{in_overrides}"
