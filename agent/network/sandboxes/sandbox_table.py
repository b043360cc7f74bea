"""The table of sandboxes and who holds them: the rows of the store, and state in memory only.

The store is written before memory, so that memory is never ahead of the disk; only a warm sandbox
may be in memory alone. Accesses only the store.

Tests: ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.network import sandbox_record
from agent.state.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model.task import TaskNetwork
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.recovery import RecoveryPlan
    from agent.state.store import StateStore


class SandboxTable:
    """All sandboxes of one agent, by address. Belongs to one event loop."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.records: dict[str, SandboxRecord] = {}
        """Every sandbox that is not completely removed."""
        self.by_task: dict[str, str] = {}
        """Addresses of claimed sandboxes by task ARN."""
        self.dead: set[str] = set()
        """Addresses whose pause process ended by itself."""
        self.leaving: set[str] = set()
        """Addresses whose sandbox is being removed, or was removed in part."""
        self.unclear: set[str] = set()
        """Addresses of sandboxes that seem to have no task, and stay until that is certain."""
        self.scrap: dict[str, SandboxRecord] = {}
        """Unusable sandboxes that still have to be removed."""

    async def load(self) -> tuple[list[SandboxRecord], str]:
        """Return all rows of the store, and the last address handed out (or an empty string).

        Raises:
            StateFailure: the rows cannot be read.
        """
        rows = await self._store.load(sandbox_record.KIND, sandbox_record.decode)
        return list(rows.values()), await self._store.get_meta(sandbox_record.CURSOR_META) or ""

    def take_over(self, found: RecoveryPlan) -> None:
        """Add what was found at the start."""
        for record in (*found.kept, *found.lost, *found.ready, *found.dropped):
            self.records[record.ipv4] = record
        for record in (*found.kept, *found.lost):
            self.by_task[record.task_arn] = record.ipv4
        self.dead.update(record.ipv4 for record in found.lost)
        self.unclear.update(record.ipv4 for record in found.dropped)

    async def correct(self, rows: Iterable[SandboxRecord], void: Iterable[str]) -> None:
        """Write corrected rows, and remove void ones; memory already has them.

        Raises:
            StateFailure: nothing was written; the next start corrects them again.
        """
        batch = Batch()
        for record in rows:
            batch.put(sandbox_record.KIND, record.ipv4, sandbox_record.encode(record))
        for ipv4 in void:
            batch.delete(sandbox_record.KIND, ipv4)
        if len(batch):
            await self._store.commit(batch)

    async def write(self, record: SandboxRecord, cursor: str) -> None:
        """Make a row durable, together with the cursor.

        Raises:
            StateFailure: nothing was written, and nothing is added in memory.
        """
        batch = Batch()
        batch.put(sandbox_record.KIND, record.ipv4, sandbox_record.encode(record))
        batch.put_meta(sandbox_record.CURSOR_META, cursor)
        await self._store.commit(batch)
        self.records[record.ipv4] = record
        if record.task_arn:
            self.by_task[record.task_arn] = record.ipv4

    async def erase(self, record: SandboxRecord) -> None:
        """Remove a row, on disk and in memory; not an error if it does not exist.

        Raises:
            StateFailure: the row is still there, also in memory.
        """
        batch = Batch()
        batch.delete(sandbox_record.KIND, record.ipv4)
        await self._store.commit(batch)
        self.records.pop(record.ipv4, None)
        self.leaving.discard(record.ipv4)
        self.dead.discard(record.ipv4)
        self.unclear.discard(record.ipv4)
        if self.by_task.get(record.task_arn) == record.ipv4:
            del self.by_task[record.task_arn]

    def networks(self) -> dict[str, TaskNetwork]:
        """Return the network of every task that holds one, by task ARN."""
        return {
            arn: self.records[ipv4].network()
            for arn, ipv4 in self.by_task.items()
            if self.records[ipv4].is_complete
        }

    def lost(self) -> frozenset[str]:
        """Return the ARNs of tasks whose sandbox died."""
        return frozenset(arn for arn, ipv4 in self.by_task.items() if ipv4 in self.dead)

    def in_use(self) -> list[SandboxRecord]:
        """Return the sandboxes that are alive and should stay alive."""
        return [record for ipv4, record in self.records.items() if self.is_in_use(ipv4)]

    def state_of(self, record: SandboxRecord) -> str:
        """Return the state of a sandbox as operators see it (``network_views.SandboxView``)."""
        ipv4 = record.ipv4
        if ipv4 in self.leaving or ipv4 in self.scrap:
            return "LEAVING"
        if ipv4 in self.dead:
            return "DEAD"
        if ipv4 in self.unclear:
            return "UNCLEAR"
        return "CLAIMED" if record.task_arn else "WARM"

    def is_in_use(self, ipv4: str) -> bool:
        """Return whether the sandbox of this address is one of ``in_use``."""
        return (
            ipv4 in self.records
            and ipv4 not in self.leaving
            and ipv4 not in self.dead
            and ipv4 not in self.unclear
            and ipv4 not in self.scrap
        )
