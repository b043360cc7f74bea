"""Reads the table of fields: which fields of a request are unsupported or need certain hosts. Pure.

An empty value (false, zero, an empty text or list) counts as not given.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from agent.controlplane.definition.fields import DEFINITION, RUN, Field, Support
from agent.controlplane.definition.service_fields import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Rows = Mapping[str, tuple[Field, ...]]

_OWNERS = {
    "containerDefinitions[]": "container",
    "containerOverrides[]": "container",
    "volumes[]": "volume",
}
"""Lists whose items have names, and the word for an item in errors."""
_TASK_ROLE = "com.amazonaws.ecs.capability.task-iam-role"
"""Its name in ``host`` mode ends with ``-network-host``."""
_SHOWN = 64
"""How many characters of a value a refusal repeats at most."""


@dataclass(frozen=True, slots=True)
class GivenField:
    """A field that has a value in a request."""

    field: Field
    value: Any
    where: str
    """As shown to a user: ``'secrets' of container 'web'``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused."""

    text: str
    by_ecs: bool
    """Whether Amazon ECS would refuse it too, with this text."""


def refusal_at_registration(request: Mapping[str, Any]) -> Refusal | None:
    """Return why a RegisterTaskDefinition request is refused; None if its fields are supported.

    Args:
        request: checked against the service model.
    """
    return _refusal(_definition_rows(), request)


def refusal_of_run(request: Mapping[str, Any], body: Mapping[str, Any]) -> Refusal | None:
    """Return why a RunTask or StartTask request is refused; None if its fields are supported.

    Args:
        request: checked against the service model.
        body: the task definition with the request's overrides applied.
    """
    return _refusal(_run_rows(), request) or _refusal(_definition_rows(), body)


def refusal_of_service(request: Mapping[str, Any]) -> Refusal | None:
    """Return why a CreateService or UpdateService request is refused; None if it is supported.

    Args:
        request: checked against the service model.
    """
    return _refusal(_service_rows(), request)


def required_attributes(definition: Mapping[str, Any]) -> list[str]:
    """Return the attributes that an instance needs to run a checked definition, by name."""
    found = {
        # The name of a plugin may end with a tag, but names of attributes have no colons.
        asked.field.attribute.format(value=str(asked.value).replace(":", "."))
        for asked in _asked(_definition_rows(), definition)
        if asked.field.attribute
    }
    if _TASK_ROLE in found and definition.get("networkMode") == "host":
        found = found - {_TASK_ROLE} | {f"{_TASK_ROLE}-network-host"}
    return sorted(found)


def covers(field: Field, path: str) -> bool:
    """Return whether a row covers the field at a path of the model."""
    if not field.path.endswith(".*"):
        return field.path == path
    whole = field.path[:-2]
    return path.startswith(whole) and path[len(whole) : len(whole) + 1] in ("", ".", "[", "{")


def _refusal(rows: Rows, request: Mapping[str, Any]) -> Refusal | None:
    for asked in _asked(rows, request):
        field = asked.field
        if field.support is not Support.REFUSED:
            continue
        if field.text:
            return Refusal(field.text, by_ecs=True)
        given = f" {str(asked.value)[:_SHOWN]}" if field.only else ""
        return Refusal(f"{asked.where}{given} is not supported: {field.note}.", by_ecs=False)
    return None


def _asked(rows: Rows, request: Mapping[str, Any]) -> Iterator[GivenField]:
    """Yield the given fields that have rows in a table; fields without a row are skipped.

    A field that is refused as a whole is yielded once, for its first given part.
    """
    return _Walk(rows).members(request, "", "")


@cache
def _definition_rows() -> Rows:
    return _by_path(DEFINITION)


@cache
def _run_rows() -> Rows:
    return _by_path(RUN)


@cache
def _service_rows() -> Rows:
    return _by_path(SERVICE)


def _by_path(table: tuple[Field, ...]) -> Rows:
    """Return the rows by path, without the ``.*`` of rows that cover all fields below."""
    rows = defaultdict[str, list[Field]](list)
    for field in table:
        rows[field.path.removesuffix(".*")].append(field)
    return {path: tuple(fields) for path, fields in rows.items()}


class _Walk:
    """Walks through a request, with the rows of a table."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def members(self, value: Mapping[str, Any], path: str, owner: str) -> Iterator[GivenField]:
        """Yield the given fields of a structure; ``owner`` is the named thing that contains it."""
        for name, item in value.items():
            yield from self._value(item, f"{path}.{name}" if path else name, owner)

    def _value(self, value: Any, path: str, owner: str) -> Iterator[GivenField]:
        if not value:
            return
        # A row here covers this field, or all fields below it.
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
