"""What several calls of Elastic Load Balancing read of their requests: names, tags, pages, what is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.controlplane.api.elbv2.errors import (
    DuplicateTagKeysException,
    TooManyTagsException,
    ValidationError,
)
from agent.controlplane.front import pages
from agent.controlplane.front.errors import ApiError, UnsupportedFeatureException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.controlplane.names import Names

T = TypeVar("T")

TAGS_MOST: Final = 50
KEY_LENGTH, VALUE_LENGTH = 128, 256
PAGE_MOST: Final = 400
PORT_MOST: Final = 65535
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,32}(?<!-)")
_SHOWN: Final = 64


def name(request: Mapping[str, Any], what: str) -> str:
    """Return the ``Name`` of a new load balancer or target group; raises ``ValidationError``."""
    given: str = request["Name"]
    if not _NAME.fullmatch(given):
        raise ValidationError(
            f"The {what} name '{given[:_SHOWN]}' is not valid: it has 1 to 32 letters, digits and "
            "hyphens, and neither begins nor ends with a hyphen"
        )
    if what == "load balancer" and given.startswith("internal-"):
        raise ValidationError("A load balancer name cannot begin with 'internal-'")
    return given


def names(
    request: Mapping[str, Any],
    arns: str,
    of: Names,
    parse: Callable[[Names, str], str | None],
) -> set[str] | None:
    """Return the names of what a request asks for by ``Names`` or by ARNs; None if it asks for all.

    Args:
        request: the request.
        arns: its member that has ARNs.
        of: control's own names.
        parse: returns the name in an ARN, or None.
    """
    if not request.get("Names") and not request.get(arns):
        return None
    parsed = (parse(of, arn) for arn in request.get(arns, ()))
    given = [*request.get("Names", ()), *(one for one in parsed if one is not None)]
    return {one for one in given if _NAME.fullmatch(one)}


def port(given: int, member: str = "Port") -> int:
    """Return a port; raises ``ValidationError``."""
    if not 1 <= given <= PORT_MOST:
        raise ValidationError(f"{member} must be between 1 and {PORT_MOST}, not {given}")
    return given


def between(request: Mapping[str, Any], member: str, least: int, most: int, default: int) -> int:
    """Return a number, or the default if it is not given; raises ``ValidationError``."""
    given: int = request.get(member, default)
    if not least <= given <= most:
        raise ValidationError(f"{member} must be between {least} and {most}, not {given}")
    return given


def refuse(request: Mapping[str, Any], members: Mapping[str, str]) -> None:
    """Raise ``UnsupportedFeatureException`` for a member that is not served.

    Args:
        request: or a part of it.
        members: why each is not, by its name.
    """
    for member, reason in members.items():
        if request.get(member):
            raise UnsupportedFeatureException(
                f"{member} is not supported by this control endpoint: {reason}; leave it out."
            )


def tags(
    given: Sequence[Mapping[str, str]], old: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the old tags with those that are given.

    Raises:
        DuplicateTagKeysException, TooManyTagsException, ValidationError: they are not valid.
    """
    keys = [tag["Key"] for tag in given]
    if len(set(keys)) < len(keys):
        raise DuplicateTagKeysException("A tag key was specified more than once")
    for tag in given:
        key, value = tag["Key"], tag.get("Value", "")
        if not 1 <= len(key) <= KEY_LENGTH or len(value) > VALUE_LENGTH:
            raise ValidationError(
                f"A tag has a key of 1 to {KEY_LENGTH} characters and a value of at most "
                f"{VALUE_LENGTH}: {key[:_SHOWN]}"
            )
        if key.lower().startswith("aws:"):
            raise ValidationError(f"Tags that begin with aws: are reserved: {key}")
    new = {**(old or {}), **{tag["Key"]: tag.get("Value", "") for tag in given}}
    if len(new) > TAGS_MOST:
        raise TooManyTagsException(f"A resource can have at most {TAGS_MOST} tags")
    return new


def chosen(
    request: Mapping[str, Any],
    member: str,
    items: Iterable[T],
    of: Callable[[T], str],
    missing: type[ApiError],
    what: str,
) -> list[T]:
    """Return the items that a request names, or all if it names none.

    Args:
        request: the request.
        member: which of its members names them.
        items: all.
        of: what of an item is named.
        missing: raised if one that is named does not exist.
        what: the items, for its text.
    """
    every = list(items)
    named = set(request.get(member, ()))
    if not named:
        return every
    found = [item for item in every if of(item) in named]
    if named - {of(item) for item in found}:
        raise missing(f"One or more {what} not found")
    return found


def page(
    operation: str, request: Mapping[str, Any], items: Iterable[T], place: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """Return a page of items, sorted by their place, and the marker of the next one.

    Raises:
        ValidationError: the size of the page is not valid, or the marker is not one of this list.
    """
    size = between(request, "PageSize", 1, PAGE_MOST, PAGE_MOST)
    filters = {key: value for key, value in request.items() if key not in ("Marker", "PageSize")}
    token = {"nextToken": request["Marker"]} if request.get("Marker") else {}
    after = pages.start_after(operation, filters | token)
    rest = sorted((item for item in items if after is None or place(item) > after), key=place)
    if len(rest) <= size:
        return rest, None
    return rest[:size], pages.token(operation, filters, place(rest[size - 1]))
