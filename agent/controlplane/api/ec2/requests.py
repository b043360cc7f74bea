"""What several calls of EC2 read from their requests: the group, tags, filters, pages."""

from __future__ import annotations

from fnmatch import translate
from re import DOTALL
from re import compile as pattern
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.controlplane.api.ec2.errors import (
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
)
from agent.controlplane.front import pages
from agent.controlplane.security_groups import stored

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from agent.controlplane.front.errors import ApiError
    from agent.controlplane.parts import Parts

T = TypeVar("T")

TAGS_MOST: Final = 50
TAG_KEY_MOST, TAG_VALUE_MOST = 127, 255
"""Characters."""
PAGE_LEAST, PAGE_MOST = 5, 1000
_SHOWN: Final = 64


def refuse_dry_run(request: Mapping[str, Any]) -> None:
    """Raise ``UnsupportedOperation`` for a dry run."""
    if request.get("DryRun"):
        raise UnsupportedOperation(
            "DryRun is not supported by this control endpoint; leave it out."
        )


async def group_id(parts: Parts, request: Mapping[str, Any]) -> str:
    """Return the id of the group that a request names by id or name.

    Raises:
        MissingParameter: it names none.
        GroupMissing: there is none of that name.
    """
    if request.get("GroupId"):
        return str(request["GroupId"])
    if not request.get("GroupName"):
        raise MissingParameter("The request must contain the parameter groupName or groupId")
    return await stored.id_of_name(parts.store, parts.names, request["GroupName"])


def tags(request: Mapping[str, Any], resource: str) -> dict[str, str]:
    """Return the tags for a resource of a kind; raises ``InvalidParameterValue``."""
    found: dict[str, str] = {}
    for specification in request.get("TagSpecifications", ()):
        kind = specification.get("ResourceType", "")
        if kind != resource:
            raise InvalidParameterValue(
                f"'{kind[:_SHOWN]}' is not a valid taggable resource type for this operation."
            )
        found |= checked_tags(specification.get("Tags", ()))
    if len(found) > TAGS_MOST:
        raise InvalidParameterValue(f"A resource can have at most {TAGS_MOST} tags.")
    return found


def checked_tags(given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return tags by their keys; raises ``InvalidParameterValue``."""
    found: dict[str, str] = {}
    for tag in given:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not key or key.lower().startswith("aws:"):
            raise InvalidParameterValue("Tag keys must not be empty, nor begin with 'aws:'.")
        if len(key) > TAG_KEY_MOST or len(value) > TAG_VALUE_MOST:
            raise InvalidParameterValue(
                f"The key of a tag can have at most {TAG_KEY_MOST} characters, its value {TAG_VALUE_MOST}."
            )
        found[key] = value
    return found


def shown_tags(given: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as EC2 lists them."""
    return [{"Key": key, "Value": value} for key, value in sorted(given.items())]


def check_named(
    request: Mapping[str, Any],
    member: str,
    known: Collection[str],
    missing: Callable[[str], ApiError],
    what: str,
) -> set[str]:
    """Return the ids that a request names; empty if it asks for all.

    Args:
        request: the request.
        member: which of its members has them.
        known: the ids that exist.
        missing: makes the error if one does not exist.
        what: the ids, for its text.
    """
    named = set(request.get(member, ()))
    unknown = sorted(named - set(known))
    if unknown:
        raise missing(f"The {what} '{unknown[0][:_SHOWN]}' does not exist")
    return named


def filtered(
    request: Mapping[str, Any],
    items: Sequence[T],
    known: Mapping[str, Callable[[T], Sequence[str]]],
    tags_of: Callable[[T], Mapping[str, str]],
) -> list[T]:
    """Return the items that pass every filter of a request; values may have ``*`` and ``?``.

    Args:
        request: with its ``Filters``.
        items: what is filtered.
        known: by the name of each filter, what of an item one of its values must match.
        tags_of: returns the tags of an item, for ``tag:KEY`` and ``tag-key``.

    Raises:
        InvalidParameterValue: there is no such filter here.
    """
    left = list(items)
    for each in request.get("Filters", ()):
        name = each.get("Name", "")
        values = _chosen(name, known, tags_of)
        wanted = [pattern(translate(value), DOTALL) for value in each.get("Values", ())]
        left = [
            item
            for item in left
            if any(match.fullmatch(value) for value in values(item) for match in wanted)
        ]
    return left


def page(
    operation: str, request: Mapping[str, Any], items: Sequence[T], key: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """Return a page of items sorted by their key, and the token of the next one.

    Raises:
        InvalidParameterValue: the size of the page is not valid.
        InvalidToken: the token is not one of this list.
    """
    size = request.get("MaxResults")
    if size is not None and not PAGE_LEAST <= size <= PAGE_MOST:
        raise InvalidParameterValue(f"MaxResults must be between {PAGE_LEAST} and {PAGE_MOST}.")
    named = {name: value for name, value in request.items() if name not in _PAGING}
    token = {"nextToken": request["NextToken"]} if request.get("NextToken") else {}
    after = pages.start_after(operation, named | token)
    rest = [item for item in items if after is None or key(item) > after]
    shown = rest if size is None else rest[:size]
    if len(shown) == len(rest):
        return shown, None
    return shown, pages.token(operation, named, key(shown[-1]))


_PAGING = frozenset({"MaxResults", "NextToken"})


def refuse_combination(*given: object) -> None:
    """Raise ``InvalidParameterCombination`` if more than one of the values is given."""
    if len([each for each in given if each]) > 1:
        raise InvalidParameterCombination("Only one way to name the rules may be used in a call.")


def _chosen(
    name: str,
    known: Mapping[str, Callable[[T], Sequence[str]]],
    tags_of: Callable[[T], Mapping[str, str]],
) -> Callable[[T], Sequence[str]]:
    if name.startswith("tag:"):
        return lambda item: [value for key, value in tags_of(item).items() if key == name[4:]]
    if name == "tag-key":
        return lambda item: list(tags_of(item))
    if name not in known:
        raise InvalidParameterValue(
            f"The filter '{name[:_SHOWN]}' is invalid, or not supported by this control endpoint; it "
            f"has {', '.join(sorted(known))}, tag-key and tag:KEY."
        )
    return known[name]
