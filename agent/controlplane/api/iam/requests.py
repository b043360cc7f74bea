"""What several calls of IAM read from their requests: names, paths, tags, pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.controlplane.api.iam.errors import (
    InvalidInputException,
    LimitExceededException,
    ValidationError,
)
from agent.controlplane.authorization import caller
from agent.controlplane.front import pages
from agent.controlplane.front.errors import UnsupportedFeatureException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.controlplane.parts import Parts

T = TypeVar("T")

TAGS_MOST: Final = 50
PAGE_MOST, PAGE_USUAL = 1000, 100
_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@-]+")
_PATH: Final = re.compile(r"/|/[\x21-\x7e]+/")
_SHOWN: Final = 64


def role_name(request: Mapping[str, Any]) -> str:
    """Return the name of the role; raises ``ValidationError``."""
    return name(request, "RoleName")


def user_name(request: Mapping[str, Any]) -> str:
    """Return the name of the user, which is who calls if none is given; raises ``ValidationError``."""
    if request.get("UserName"):
        return name(request, "UserName")
    who = caller.current()
    if who is None or who.type != caller.USER:
        raise ValidationError("Must specify userName when calling with non-User credentials")
    return who.name


async def applied(parts: Parts, key: str) -> None:
    """Have a changed user or role count here before the change is answered."""
    if parts.directory is not None:
        await parts.directory.refresh(key)


def name(request: Mapping[str, Any], member: str) -> str:
    """Return a name of a request; raises ``ValidationError``."""
    given: str = request[member]
    if not _NAME.fullmatch(given):
        raise ValidationError(
            f"The specified value for {member[0].lower()}{member[1:]} is invalid. It must contain only "
            "alphanumeric characters and/or the following: +=,.@_-"
        )
    return given


def path(request: Mapping[str, Any]) -> str:
    """Return the path of a new role or user; raises ``ValidationError``."""
    given: str = request.get("Path", "/")
    if not _PATH.fullmatch(given):
        raise ValidationError(
            "The specified value for path is invalid. It must begin and end with / and contain only "
            "alphanumeric characters and/or / characters."
        )
    return given


def refuse(request: Mapping[str, Any], member: str, reason: str) -> None:
    """Raise ``UnsupportedFeatureException`` if a member is given."""
    if request.get(member):
        raise UnsupportedFeatureException(
            f"{member} is not supported by this control endpoint: {reason}; leave it out."
        )


def tags(
    given: Sequence[Mapping[str, str]], old: Mapping[str, str], quota: str = "TagsPerRole"
) -> dict[str, str]:
    """Return the old tags with those that are given; raises ``ApiError``, which names the quota."""
    keys = [tag["Key"] for tag in given]
    if len({key.lower() for key in keys}) < len(keys):
        raise InvalidInputException(
            "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        )
    for key in keys:
        if not key or key.lower().startswith("aws:"):
            raise InvalidInputException(
                f"Tag keys must not be empty, nor begin with aws: {key[:_SHOWN]}"
            )
    of_new = {key.lower() for key in keys}
    kept = {key: value for key, value in old.items() if key.lower() not in of_new}
    found = kept | {tag["Key"]: tag["Value"] for tag in given}
    if len(found) > TAGS_MOST:
        raise LimitExceededException(f"Cannot exceed quota for {quota}: {TAGS_MOST}")
    return found


def shown_tags(given: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as IAM lists them."""
    return [{"Key": key, "Value": value} for key, value in sorted(given.items())]


def page(
    operation: str, request: Mapping[str, Any], items: Iterable[T], place: Callable[[T], str]
) -> tuple[list[T], dict[str, Any]]:
    """Return a page of items, sorted by their place, and what its answer says of the next one.

    Raises:
        ValidationError: the size of the page is not valid.
        InvalidToken: the marker is not one of this list.
    """
    size = request.get("MaxItems", PAGE_USUAL)
    if not 1 <= size <= PAGE_MOST:
        raise ValidationError(f"MaxItems must be between 1 and {PAGE_MOST}.")
    filters = {key: value for key, value in request.items() if key not in ("Marker", "MaxItems")}
    token = {"nextToken": request["Marker"]} if request.get("Marker") else {}
    after = pages.start_after(operation, filters | token)
    rest = sorted((item for item in items if after is None or place(item) > after), key=place)
    if len(rest) <= size:
        return rest, {"IsTruncated": False}
    marker = pages.token(operation, filters, place(rest[size - 1]))
    return rest[:size], {"IsTruncated": True, "Marker": marker}
