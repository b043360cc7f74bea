"""Pages of what targets have: policies and scheduled actions, by their target and name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from agent.controlplane.api import name_pages
from agent.controlplane.api.autoscaling import targets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.controlplane.parts import Parts
    from agent.controlplane.scaling.target import ScalableTarget


class Named(Protocol):
    """Something that a target has."""

    @property
    def name(self) -> str:
        """By which it is sorted within its target."""


ItemT = TypeVar("ItemT", bound=Named)


class Listed(NamedTuple, Generic[ItemT]):
    """An item with its target."""

    place: str
    """Where it is among those of all targets."""
    target: ScalableTarget
    item: ItemT


async def page(
    parts: Parts,
    operation: str,
    request: Mapping[str, Any],
    *,
    names: str,
    items: Callable[[ScalableTarget], Sequence[ItemT]],
) -> tuple[list[Listed[ItemT]], str | None]:
    """Return the items of one page and its ``NextToken``; None on the last page.

    Args:
        parts: the store.
        operation: whose tokens these are.
        request: with the size of its page, and the ``ResourceId`` of a target if it asks for one alone.
        names: the member that has the names of the items, if it asks for some alone.
        items: returns those of a target, by name.
    """
    wanted = request.get(names)

    async def every(after: str) -> AsyncIterator[Listed[ItemT]]:
        last_target, _, last_item = after.partition("|")
        async for target in targets.of(parts, request.get("ResourceId"), first=last_target):
            for item in items(target):
                if (target.name, item.name) > (last_target, last_item):
                    yield Listed(f"{target.name}|{item.name}", target, item)

    return await name_pages.page(
        operation,
        request,
        filters=(names, "ResourceId", "ScalableDimension"),
        size=targets.page_size(request),
        every=every,
        is_wanted=lambda one: not wanted or one.item.name in wanted,
        place=lambda one: one.place,
    )
