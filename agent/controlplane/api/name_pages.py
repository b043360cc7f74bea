"""Pages of records that are listed by name, of which a filter leaves some out."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agent.controlplane.front import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping


class Named(Protocol):
    """A record with a name."""

    @property
    def name(self) -> str:
        """By which it is sorted; never empty."""


NamedT = TypeVar("NamedT", bound=Named)


async def page(
    operation: str,
    request: Mapping[str, Any],
    *,
    filters: Collection[str],
    size: int,
    every: Callable[[str], AsyncIterator[NamedT]],
    is_wanted: Callable[[NamedT], bool],
    place: Callable[[NamedT], str] = attrgetter("name"),
) -> tuple[list[NamedT], str | None]:
    """Return the records of one page and its ``NextToken``; None on the last page.

    Args:
        operation: whose tokens these are.
        request: with its ``NextToken``.
        filters: the members that must be the same on all pages.
        size: how many records at most.
        every: yields all records in order, after the place of one; empty for all.
        is_wanted: the filter.
        place: where a record is in that order, if names are not the order.

    Raises:
        InvalidToken: the token is not one of this list.
    """
    asked = {name: request[name] for name in filters if name in request}
    after = pages.start_after(operation, asked | {"nextToken": request.get("NextToken")})
    found: list[NamedT] = []
    async for record in every(after or ""):
        if not is_wanted(record):
            continue
        if len(found) == size:
            return found, pages.token(operation, asked, place(found[-1]))
        found.append(record)
    return found, None
