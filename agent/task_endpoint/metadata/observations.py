"""Containers as the engine describes them: asked for when a container asks, kept until an event.

A description is kept of containers that run or have ended, and dropped at the next event of theirs. Few calls
are under way at once, so that those of launches do not wait behind them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from agent.errors import RuntimeFailure
from agent.runtime.protocol import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.runtime.protocol import ContainerDetails, ContainerEngine, EngineEvent

AT_ONCE: Final = 2
LIMIT_S: Final = 3.0
"""For all containers of one request; clients are promised an answer within five seconds."""
KEPT_MOST: Final = 2048
_LASTING: Final = frozenset({"running", "exited", "dead"})

_log = structlog.get_logger(__name__)


class Observations:
    """Descriptions of containers. Belongs to one event loop."""

    def __init__(self, engine: ContainerEngine, *, limit_s: float = LIMIT_S) -> None:
        """Take the engine that is asked."""
        self._engine = engine
        self._limit_s = limit_s
        self._kept: OrderedDict[str, ContainerDetails] = OrderedDict()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._changes = 0
        """How many events were taken note of."""

    def take_note_of(self, event: EngineEvent) -> None:
        """Drop what is no longer true after an event."""
        self._changes += 1
        if event.action == "relist":
            self._kept.clear()
        else:
            self._kept.pop(event.container_id, None)

    async def of(self, targets: Iterable[str]) -> Mapping[str, ContainerDetails]:
        """Return descriptions by engine id or name; those that cannot be had in time are missing."""
        wanted = list(dict.fromkeys(targets))
        found = {each: self._kept[each] for each in wanted if each in self._kept}
        missing = [each for each in wanted if each not in found]
        if not missing:
            return found
        try:
            async with asyncio.timeout(self._limit_s), asyncio.TaskGroup() as group:
                for each in missing:
                    group.create_task(self._ask(each, found))
        except TimeoutError:
            _log.debug("containers not described in time", containers=len(wanted) - len(found))
        return found

    async def in_networks(self, targets: Iterable[str]) -> Mapping[str, ContainerDetails]:
        """Return the same, each with networks and ports of the sandbox that it has joined, if any.

        A container whose sandbox cannot be described is missing.
        """
        found = dict(await self.of(targets))
        sandboxes = {
            each: sandbox
            for each, details in found.items()
            if (sandbox := joined(details.state.network_mode))
        }
        described = await self.of(sandboxes.values()) if sandboxes else {}
        for each, sandbox in sandboxes.items():
            details, place = found.pop(each), described.get(sandbox)
            if place is not None:
                found[each] = replace(details, networks=place.networks, ports=place.ports)
        return found

    async def _ask(self, target: str, found: dict[str, ContainerDetails]) -> None:
        async with self._turn:
            before = self._changes
            try:
                seen = await self._engine.describe_container(target, limit_s=self._limit_s)
            except RuntimeFailure as error:
                _log.debug("container not described", container=target, error=str(error))
                return
        found[target] = seen
        is_by_id = target == seen.state.id  # events name no other
        if is_by_id and seen.state.status in _LASTING and before == self._changes:
            self._kept[target] = seen
            while len(self._kept) > KEPT_MOST:
                self._kept.popitem(last=False)
