"""Rows of the table of permissions, and what they are made of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from agent.controlplane.names import Names

ANY: Final = "*"
"""The resource of an action that has none."""


class Kind(Enum):
    """What a name means whose ARN only the store knows."""

    FAMILY = "family"
    SECRET = "secret"  # noqa: S105 - a kind of thing
    ROLE = "role"
    USER = "user"
    SECURITY_GROUP = "security group"


class Named(NamedTuple):
    """A resource by a name; its ARN is looked up in the store."""

    kind: Kind
    name: str


class Asked(NamedTuple):
    """A request, as far as permissions depend on it."""

    names: Names
    members: Mapping[str, Any]

    def arn(self, service: str, rest: str) -> str:
        """Return an ARN of this control endpoint's region and account."""
        names = self.names
        return f"arn:{names.partition}:{service}:{names.region}:{names.account}:{rest}"


class Passed(NamedTuple):
    """A role that a request hands to a service."""

    role: str
    """Name or ARN."""
    service: str
    """Such as ``ecs-tasks.amazonaws.com``."""


class Run(NamedTuple):
    """A task definition that a request has run, now or later; its roles are passed to tasks."""

    definition: str
    """Family, family and revision, or ARN."""
    overrides: Mapping[str, Any] = {}
    """As in RunTask; a role in them takes the place of the definition's."""


class Also(NamedTuple):
    """Another action that a request needs, because it has it done later."""

    action: str
    resource: Resource
    values: Values


Resource = str | Named
Resources = Callable[[Asked], list[Resource]]
Values = Mapping[str, tuple[Resource, ...]]


def _nothing(_asked: Asked) -> list[Resource]:
    return []


def _no_values(_asked: Asked) -> Values:
    return {}


def _nothing_else(_asked: Asked) -> list[Also]:
    return []


def _no_values_of(_names: Names, _arn: str) -> Values:
    return {}


def _no_roles(_asked: Asked) -> list[Passed]:
    return []


def _no_runs(_asked: Asked) -> list[Run]:
    return []


class Row(NamedTuple):
    """What one operation needs."""

    action: str
    """With its service: ``ecs:RunTask``; empty for an operation that everybody may call."""
    resources: Resources = _nothing
    """On each of which the action must be allowed; if there is none, on ``*``."""
    values: Callable[[Asked], Values] = _no_values
    """Of the keys of the service, in lower case."""
    of_resource: Callable[[Names, str], Values] = _no_values_of
    """Of keys that depend on the resource, by its ARN; they count more than those of the request."""
    passes: Callable[[Asked], list[Passed]] = _no_roles
    """Roles on which ``iam:PassRole`` must be allowed besides."""
    also: Callable[[Asked], list[Also]] = _nothing_else
    """Other actions that must be allowed besides."""
    runs: Callable[[Asked], list[Run]] = _no_runs
    """Task definitions on whose roles ``iam:PassRole`` must be allowed besides."""


def given(*members: str) -> Resources:
    """Return the ARNs that are in any of some members, as they are; each member has one or a list."""

    def found(asked: Asked) -> list[Resource]:
        return [arn for member in members for arn in listed(asked.members.get(member)) if arn]

    return found


def listed(value: Any) -> list[Any]:
    """Return what a member has, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def named(service: str, prefix: str, member: str, suffix: str = "") -> Resources:
    """Return the ARNs of resources by their names in a member; ARNs stay what they are."""

    def found(asked: Asked) -> list[Resource]:
        return [
            text if text.startswith("arn:") else asked.arn(service, f"{prefix}{text}{suffix}")
            for text in listed(asked.members.get(member))
        ]

    return found


def looked_up(kind: Kind, *members: str) -> Resources:
    """Return resources by names in members, which the store knows."""

    def found(asked: Asked) -> list[Resource]:
        return [
            text if text.startswith("arn:") and kind is not Kind.SECRET else Named(kind, text)
            for member in members
            for text in listed(asked.members.get(member))
        ]

    return found


def texts(values: Mapping[str, Any]) -> Values:
    """Return values of keys, without those that a request does not have."""
    found = {}
    for key, value in values.items():
        each = [value] if isinstance(value, bool | Named) else listed(value)
        if each:
            found[key] = tuple(map(_text, each))
    return found


def _text(value: Any) -> Resource:
    if isinstance(value, Named):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
