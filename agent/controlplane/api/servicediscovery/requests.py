"""What several calls of this API read of their requests: ids, names, tags, filters and pages."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from agent.controlplane.api import name_pages
from agent.controlplane.api.servicediscovery.errors import InvalidInput, TooManyTagsException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.controlplane.names import Names

PAGE_MOST: Final = 100
TAGS_MOST: Final = 50
_KEY_MOST: Final = 128
_VALUE_MOST: Final = 256
_DESCRIPTION_MOST: Final = 1024
_SHOWN: Final = 128
_PAIR: Final = 2
_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,255}")
_FILTER_VALUES_MOST: Final = 100
_LABEL: Final = r"(?:[a-zA-Z0-9_][a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_]|[a-zA-Z0-9])"
DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
"""Labels with periods between them, as Cloud Map's API reference has them (CreateService)."""
DOMAIN_MOST: Final = 253
"""Characters of a domain name."""


class Listed(Protocol):
    """A record that lists have."""

    @property
    def id(self) -> str:
        """By which it is sorted."""


ListedT = TypeVar("ListedT", bound=Listed)


def own_id(names: Names, given: str, kind: str) -> str:
    """Return the id of ``namespace`` or ``service`` that an id or an ARN names.

    Raises:
        InvalidInput: it is neither, or the ARN is not one of this control endpoint.
    """
    text = given
    if given.startswith("arn:"):
        prefix = names.namespace("") if kind == "namespace" else names.registry("")
        if not given.startswith(prefix):
            raise InvalidInput(
                f"{shown(given)} is not the ARN of a {kind} of this control endpoint."
            )
        text = given.removeprefix(prefix)
    if not _ID.fullmatch(text):
        raise InvalidInput(f"{shown(given)!r} is not the id of a {kind}.")
    return text


def shown(text: str) -> str:
    """Return a client's text as an error repeats it."""
    return text[:_SHOWN]


def description(request: Mapping[str, Any]) -> str:
    """Return the description of a request; empty if there is none."""
    given: str = request.get("Description", "")
    if len(given) > _DESCRIPTION_MOST:
        raise InvalidInput(f"Description can have at most {_DESCRIPTION_MOST} characters.")
    return given


def with_tags(known: Mapping[str, str], given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return known tags with more.

    Raises:
        InvalidInput: a key or value is too long, or a key is reserved.
        TooManyTagsException: there would be too many.
    """
    new = {tag["Key"]: tag["Value"] for tag in given}
    for key, value in new.items():
        if not 1 <= len(key) <= _KEY_MOST or len(value) > _VALUE_MOST:
            raise InvalidInput(
                f"A tag has a key of 1 to {_KEY_MOST} characters and a value of at most {_VALUE_MOST}: "
                f"{shown(key)}"
            )
        if key.lower().startswith("aws:"):
            raise InvalidInput(f"Tags that begin with aws: are reserved: {shown(key)}")
    both = {**known, **new}
    if len(both) > TAGS_MOST:
        raise TooManyTagsException(f"A resource can have at most {TAGS_MOST} tags.")
    return both


def fingerprint(request: Mapping[str, Any]) -> str:
    """Return a hash of a request without its token."""
    body = {key: value for key, value in request.items() if key != "CreatorRequestId"}
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()


def check_filters(
    filters: Sequence[Mapping[str, Any]], conditions: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse filters that the list does not have; raises ``InvalidInput``.

    Args:
        filters: of a request.
        conditions: those that each filter may have; EQ if it names none.
    """
    for one in filters:
        name, condition, values = one["Name"], one.get("Condition", "EQ"), one["Values"]
        allowed = conditions[name]
        if condition not in allowed:
            raise InvalidInput(
                f"The filter {name} takes the condition {' or '.join(allowed)}, not {condition}."
            )
        if condition in ("EQ", "BEGINS_WITH") and len(values) != 1:
            raise InvalidInput(f"The filter {name} takes one value with the condition {condition}.")
        if condition == "BETWEEN" and len(values) != _PAIR:
            raise InvalidInput(f"The filter {name} takes two values with the condition BETWEEN.")
        if len(values) > _FILTER_VALUES_MOST:
            raise InvalidInput(f"The filter {name} takes at most {_FILTER_VALUES_MOST} values.")


def passes(filters: Sequence[Mapping[str, Any]], values: Mapping[str, str]) -> bool:
    """Return whether something with these values passes all filters, which were checked."""
    return all(_passes(one, values[one["Name"]]) for one in filters)


def _passes(one: Mapping[str, Any], value: str) -> bool:
    wanted: list[str] = one["Values"]
    match one.get("Condition", "EQ"):
        case "BEGINS_WITH":
            return value.startswith(wanted[0])
        case _:
            return value in wanted


async def page(
    operation: str,
    request: Mapping[str, Any],
    *,
    every: Callable[[str | None], AsyncIterator[ListedT]],
    is_wanted: Callable[[ListedT], bool] = lambda _: True,
    filters: tuple[str, ...] = ("Filters",),
) -> tuple[list[ListedT], str | None]:
    """Return the records of one page and its ``NextToken``; None on the last page.

    Args:
        operation: whose tokens these are.
        request: with its ``NextToken`` and the size of its page.
        every: yields all records by id, after an id.
        is_wanted: the filter.
        filters: the members that must be the same on all pages.
    """
    size = request.get("MaxResults", PAGE_MOST)
    if not 1 <= size <= PAGE_MOST:
        raise InvalidInput(f"MaxResults must be between 1 and {PAGE_MOST}.")
    return await name_pages.page(
        operation,
        request,
        filters=filters,
        size=size,
        every=lambda after: every(after or None),
        is_wanted=is_wanted,
        place=lambda one: one.id,
    )
