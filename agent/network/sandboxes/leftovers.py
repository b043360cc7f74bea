"""Objects that seem to belong to no task: kept until control has listed what it wants.

An agent that lost part of its state does not know all tasks. What looks like a leftover may be all
that a healthy task has. So nothing is removed before control's first full set, and the addresses
are not reused until then.

Tests: ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.network import addresses
from agent.network.background import settle
from agent.network.sandboxes.survey import address_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.network.address_pool import AddressPool
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.recovery import RecoveryPlan
    from agent.runtime.protocol import ContainerSummary


class Leftovers:
    """Sandboxes, containers and links without a task. Belongs to one event loop."""

    def __init__(
        self,
        pool: AddressPool,
        found: RecoveryPlan,
        containers: Iterable[ContainerSummary],
        *,
        remove_container: Callable[[str], Awaitable[None]],
        remove_link: Callable[[str], Awaitable[None]],
    ) -> None:
        """Keep what was found at the start, and reserve its addresses.

        Args:
            pool: reserves the addresses.
            found: names the leftovers.
            containers: all containers of sandboxes.
            remove_container: removes one by its id; raises ``AgentError``.
            remove_link: removes one by its name; raises ``AgentError``.
        """
        self._pool = pool
        self._remove_container = remove_container
        self._remove_link = remove_link
        by_id = {container.id: container for container in containers}
        self._containers = {each: address_of(by_id[each]) for each in found.stray_containers}
        """Engine ids, each with the address in its name and label."""
        self._links = list(found.stray_links)
        self._sandboxes = list(found.dropped)
        for ipv4 in self._addresses():
            pool.hold(ipv4)

    def __len__(self) -> int:
        return len(self._containers) + len(self._links) + len(self._sandboxes)

    async def clear(self, in_use: Iterable[str]) -> list[SandboxRecord]:
        """Remove all of it; return the sandboxes, which the caller has to remove.

        What cannot be removed is logged, and found again at the next start.

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
        await settle("leftover not removed", work)
        now = asyncio.get_running_loop().time()
        for ipv4 in free:
            self._pool.give_back(ipv4, now)
        return sandboxes

    def _addresses(self) -> set[str]:
        of_links = (addresses.address_of_link(name) for name in self._links)
        return {ipv4 for ipv4 in (*self._containers.values(), *of_links) if ipv4 is not None}
