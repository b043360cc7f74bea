"""Recreates sandbox links that somebody deleted, with the same address, or reports why it cannot.

The namespace outlives its link, so a new link gives the task its address back, and connections
continue. If that fails for a while (a foreign link in the namespace has the same name or number),
the task has lost its network, and is told why.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.errors import AgentError
from agent.network.bridge.bridge_ports import Place
from agent.network.host.repair_loop import RepairResult
from agent.network.host.shared import links_are

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.network.sandbox_record import SandboxRecord

GIVE_UP_S: Final = 10.0
"""How long to try before the task is told, if no other link fails, too."""
_PARALLEL: Final = 8


class LinkRepair:
    """Recreates links. Belongs to one event loop; one ``mend`` at a time."""

    def __init__(
        self,
        reattach: Callable[[SandboxRecord], Awaitable[None]],
        *,
        is_in_use: Callable[[str], bool],
        give_up: Callable[[str, str], None],
    ) -> None:
        """Take the parts; nothing is changed before ``mend``.

        Args:
            reattach: recreates the link of a sandbox; raises ``AgentError``.
            is_in_use: returns whether the sandbox of an address should have a link now.
            give_up: called with the address of a sandbox and the reason why it has no link.
        """
        self._reattach = reattach
        self._is_in_use = is_in_use
        self._give_up = give_up
        self._failing: dict[str, float] = {}
        """Since when recreating the link of an address fails, by the event loop's clock."""

    async def mend(self, gone: Iterable[SandboxRecord]) -> RepairResult:
        """Recreate the links of these sandboxes in parallel; call again for those that fail."""
        now = asyncio.get_running_loop().time()
        records = {record.ipv4: record for record in gone if self._is_in_use(record.ipv4)}
        self._failing = {ipv4: at for ipv4, at in self._failing.items() if ipv4 in records}
        slots = asyncio.Semaphore(_PARALLEL)
        errors = await asyncio.gather(*(self._try(record, slots) for record in records.values()))
        mended, pending = [], []
        for record, error in zip(records.values(), errors, strict=True):
            if error is None:
                self._failing.pop(record.ipv4, None)
                mended.append(record.host_interface)
            elif now - self._failing.setdefault(record.ipv4, now) < GIVE_UP_S:
                pending.append(f"{record.host_interface}: {error}")
            elif self._is_in_use(record.ipv4):
                self._give_up(
                    record.ipv4,
                    f"its link {record.host_interface} was deleted and cannot be recreated: {error}",
                )
        failing = f"{len(pending)} links cannot be recreated, {pending[0]}" if pending else ""
        return RepairResult([links_are(mended, Place.GONE)] if mended else [], failing)

    async def _try(self, record: SandboxRecord, slots: asyncio.Semaphore) -> str | None:
        async with slots:
            if not self._is_in_use(record.ipv4):
                return None
            try:
                await self._reattach(record)
            except AgentError as error:
                return str(error)
            return None
