"""Objects that seem to belong to no task: kept until control has listed what it wants.

An agent that lost part of its state does not know all tasks. What looks like a leftover may be all
that a healthy task has. So nothing is removed before control's first full set, and the addresses
are not reused until then.

Tests: ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.network import addresses
from agent.network.survey import address_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.network.addresses import AddressPool
    from agent.network.recovery import RecoveryPlan
    from agent.network.sandbox_record import SandboxRecord
    from agent.runtime.protocol import ContainerSummary


class Leftovers:
    """Sandboxes, containers and links without a task. Belongs to one event loop."""

    def __init__(
        self,
        pool: AddressPool,
        *,
        remove_container: Callable[[str], Awaitable[None]],
        remove_link: Callable[[str], Awaitable[None]],
        complain: Callable[[str, str], None],
    ) -> None:
        """Take the parts.

        Args:
            pool: reserves the addresses.
            remove_container: removes one by its id; raises ``AgentError``.
            remove_link: removes one by its name; raises ``AgentError``.
            complain: called with what could not be removed, and why.
        """
        self._pool = pool
        self._remove_container = remove_container
        self._remove_link = remove_link
        self._complain = complain
        self._containers: dict[str, str | None] = {}
        """Engine ids, each with the address in its name and label."""
        self._links: list[str] = []
        self._sandboxes: list[SandboxRecord] = []

    def __len__(self) -> int:
        return len(self._containers) + len(self._links) + len(self._sandboxes)

    def take(self, found: RecoveryPlan, containers: Iterable[ContainerSummary]) -> None:
        """Keep what was found at the start; addresses of ``found.dropped`` are already reserved."""
        by_id = {container.id: container for container in containers}
        self._containers = {each: address_of(by_id[each]) for each in found.stray_containers}
        self._links = list(found.stray_links)
        self._sandboxes = list(found.dropped)
        for ipv4 in self._addresses():
            self._pool.hold(ipv4)

    async def clear(self, in_use: Iterable[str]) -> list[SandboxRecord]:
        """Remove all of it; return the sandboxes, which the caller has to remove.

        What cannot be removed is reported with ``complain``, and found again at the next start.

        Args:
            in_use: addresses of existing sandboxes; all others are free afterwards.
        """
        free = self._addresses() - set(in_use)
        work = [
            *((each, self._remove_link(each)) for each in self._links),
            *((each, self._remove_container(each)) for each in self._containers),
        ]
        sandboxes = self._sandboxes
        self._containers, self._links, self._sandboxes = {}, [], []
        answers = await asyncio.gather(*(each for _, each in work), return_exceptions=True)
        for (what, _), answer in zip(work, answers, strict=True):
            if isinstance(answer, AgentError):
                self._complain(what, str(answer))
            elif isinstance(answer, BaseException):
                raise answer
        now = asyncio.get_running_loop().time()
        for ipv4 in free:
            self._pool.give_back(ipv4, now)
        return sandboxes

    def _addresses(self) -> set[str]:
        of_links = (addresses.address_of_link(name) for name in self._links)
        return {ipv4 for ipv4 in (*self._containers.values(), *of_links) if ipv4 is not None}
