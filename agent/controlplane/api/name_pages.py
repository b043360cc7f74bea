"""Pages of records that are listed by name or the like, of which a filter leaves some out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from agent.controlplane.front import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping


RecordT = TypeVar("RecordT")


async def page(
    operation: str,
    request: Mapping[str, Any],
    *,
    filters: Collection[str],
    size: int,
    every: Callable[[str], AsyncIterator[RecordT]],
    is_wanted: Callable[[RecordT], bool],
    place: Callable[[RecordT], str],
) -> tuple[list[RecordT], str | None]:
    """Return the records of one page and its ``NextToken``; None on the last page.

    Args:
        operation: whose tokens these are.
        request: with its ``NextToken``.
        filters: the members that must be the same on all pages.
        size: how many records at most.
        every: yields all records in order, after the place of one; empty for all.
        is_wanted: the filter.
        place: returns where a record is in that order, such as its name; never empty.

    Raises:
        InvalidToken: the token is not one of this list.
    """
    asked = {name: request[name] for name in filters if name in request}
    after = pages.start_after(operation, asked | {"nextToken": request.get("NextToken")})
    found: list[RecordT] = []
    async for record in every(after or ""):
        if not is_wanted(record):
            continue
        if len(found) == size:
            return found, pages.token(operation, asked, place(found[-1]))
        found.append(record)
    return found, None
