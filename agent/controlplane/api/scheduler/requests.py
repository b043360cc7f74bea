"""What several calls of this API and of ``api.events`` read of their requests: names, tags and pages."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from agent.controlplane.api import name_pages
from agent.controlplane.api.scheduler.errors import ValidationException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping

_NAME: Final = re.compile(r"[0-9a-zA-Z\-_.]{1,64}")
_TOKEN: Final = re.compile(r"[a-zA-Z0-9\-_]{1,64}")
_SHOWN: Final = 64
PAGE_MOST: Final = 100
TAGS_MOST: Final = 50


class Stored(Protocol):
    """A record with its key."""

    @property
    def key(self) -> str:
        """By which it is sorted."""


StoredT = TypeVar("StoredT", bound=Stored)


def name(request: Mapping[str, Any], member: str) -> str:
    """Return a name; raises ``ValidationException`` for one that cannot be."""
    given: str = request[member]
    if not _NAME.fullmatch(given):
        raise ValidationException(
            f"{member} must have at most 64 letters, digits, hyphens, underscores and periods, not "
            f"'{given[:_SHOWN]}'."
        )
    return given


def client_token(request: Mapping[str, Any]) -> str:
    """Return the token that makes a call idempotent; empty if there is none."""
    given: str = request.get("ClientToken", "")
    if given and not _TOKEN.fullmatch(given):
        raise ValidationException(
            "ClientToken must have at most 64 letters, digits, hyphens and underscores."
        )
    return given


def tags(given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return tags of a request."""
    return {tag["Key"]: tag["Value"] for tag in given}


def with_tags(known: dict[str, str], given: dict[str, str], what: str) -> dict[str, str]:
    """Return known tags with more; raises ``ValidationException``, which says what has them."""
    if any(not key or key.lower().startswith("aws:") for key in given):
        raise ValidationException("Tag keys must not be empty, nor begin with 'aws:'.")
    if len(known | given) > TAGS_MOST:
        raise ValidationException(f"A {what} can have at most {TAGS_MOST} tags.")
    return known | given


def fingerprint(request: Mapping[str, Any]) -> str:
    """Return a hash of a request without its token."""
    body = {key: value for key, value in request.items() if key != "ClientToken"}
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()


async def page(
    operation: str,
    request: Mapping[str, Any],
    *,
    filters: Collection[str],
    every: Callable[[str | None], AsyncIterator[StoredT]],
    is_wanted: Callable[[StoredT], bool],
    size_member: str = "MaxResults",
) -> tuple[list[StoredT], str | None]:
    """Return the records of one page and its ``NextToken``; None on the last page.

    Args:
        operation: whose tokens these are.
        request: with its ``NextToken`` and the size of its page.
        filters: the members that must be the same on all pages.
        every: yields all records by key, after a key.
        is_wanted: the filter.
        size_member: the name of the member with the size.
    """
    size = request.get(size_member, PAGE_MOST)
    if not 1 <= size <= PAGE_MOST:
        raise ValidationException(f"{size_member} must be between 1 and {PAGE_MOST}.")
    return await name_pages.page(
        operation,
        request,
        filters=filters,
        size=size,
        every=lambda after: every(after or None),
        is_wanted=is_wanted,
        place=lambda record: record.key,
    )
