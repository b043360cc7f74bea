"""Links of sandboxes that somebody deleted: made anew with the same address, or given up with a reason.

The namespace outlives its link, so that a new pair gives the task its address back, and connections go
on. What cannot be made for a while (somebody else has put a link of that name or number into the
namespace) is the end of the task's network, and its task must hear why.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.errors import AgentError
from agent.network.bridge_ports import Place
from agent.network.host import links_are
from agent.network.repair_loop import RepairResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.network.sandbox_record import SandboxRecord

GIVE_UP_S: Final = 10.0
"""How long a link is tried to be made before its task is told, if nothing else fails too."""
_PARALLEL: Final = 8


class LinkRepair:
    """Makes links anew. Belongs to one event loop; one ``mend`` at a time."""

    def __init__(
        self,
        reattach: Callable[[SandboxRecord], Awaitable[None]],
        *,
        is_in_use: Callable[[str], bool],
        give_up: Callable[[str, str], None],
    ) -> None:
        """Nothing is touched before ``mend``.

        Args:
            reattach: makes the link of a sandbox anew; raises ``AgentError``.
            is_in_use: tells whether the sandbox of an address is to have a link at this moment.
            give_up: called with the address of a sandbox and the reason why it has no link.
        """
        self._reattach = reattach
        self._is_in_use = is_in_use
        self._give_up = give_up
        self._failing: dict[str, float] = {}
        """Since when the link of an address cannot be made, by the loop's clock."""

    async def mend(self, gone: Iterable[SandboxRecord]) -> RepairResult:
        """Make the links of these sandboxes anew, side by side; what fails is to be called again."""
        now = asyncio.get_running_loop().time()
        leases = {lease.ipv4: lease for lease in gone if self._is_in_use(lease.ipv4)}
        self._failing = {ipv4: at for ipv4, at in self._failing.items() if ipv4 in leases}
        slots = asyncio.Semaphore(_PARALLEL)
        errors = await asyncio.gather(*(self._try(lease, slots) for lease in leases.values()))
        mended, pending = [], []
        for lease, error in zip(leases.values(), errors, strict=True):
            if error is None:
                self._failing.pop(lease.ipv4, None)
                mended.append(lease.host_interface)
            elif now - self._failing.setdefault(lease.ipv4, now) < GIVE_UP_S:
                pending.append(f"{lease.host_interface}: {error}")
            elif self._is_in_use(lease.ipv4):
                self._give_up(
                    lease.ipv4,
                    f"its link {lease.host_interface} was deleted and cannot be made: {error}",
                )
        failing = f"{len(pending)} links cannot be made, {pending[0]}" if pending else ""
        return RepairResult([links_are(mended, Place.GONE)] if mended else [], failing)

    async def _try(self, lease: SandboxRecord, slots: asyncio.Semaphore) -> str | None:
        async with slots:
            if not self._is_in_use(lease.ipv4):
                return None
            try:
                await self._reattach(lease)
            except AgentError as error:
                return str(error)
            return None
