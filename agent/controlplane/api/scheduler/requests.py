"""What several calls of the API read of their requests: names and pages."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from agent.controlplane.api.scheduler.errors import ValidationException
from agent.controlplane.front import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping

_NAME: Final = re.compile(r"[0-9a-zA-Z\-_.]{1,64}")
_TOKEN: Final = re.compile(r"[a-zA-Z0-9\-_]{1,64}")
_SHOWN: Final = 64
PAGE_MOST: Final = 100


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
        every: yields all records by key, behind a key.
        is_wanted: the filter.
        size_member: the name of the member with the size.
    """
    size = request.get(size_member, PAGE_MOST)
    if not 1 <= size <= PAGE_MOST:
        raise ValidationException(f"{size_member} must be between 1 and {PAGE_MOST}.")
    asked = {member: request[member] for member in filters if member in request}
    after = pages.start_after(operation, asked | {"nextToken": request.get("NextToken")})
    found: list[StoredT] = []
    async for record in every(after):
        if not is_wanted(record):
            continue
        if len(found) == size:
            return found, pages.token(operation, asked, found[-1].key)
        found.append(record)
    return found, None
