"""Every sandbox from its creation to its removal, except who claims it.

::

    make ──► warm ──► claimed (``task_claims``) ──► removed
              │ its pause process ends, or its link is lost
              └──► scrap ──► removed

Creates sandboxes for the warm pool and for claims, notices at once when one dies, and removes those
that nobody can use. A sandbox that cannot be removed stays known, and is tried again.

Tests: ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.errors import NetworkFailure, StateFailure
from agent.network import demand
from agent.network.background import BackgroundTasks, settle
from agent.network.host.kernel_messages import Part
from agent.network.kernel import namespaces
from agent.network.memory import available_memory
from agent.network.sandboxes.sandbox import NameTaken
from agent.network.sandboxes.warm_pool import WarmPool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model.eni import TaskEni
    from agent.network.address_pool import AddressPool
    from agent.network.host.repair_loop import Suspicions
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.recovery import RecoveryPlan
    from agent.network.sandboxes.sandbox import SandboxMaker
    from agent.network.sandboxes.sandbox_table import SandboxTable
    from agent.network.sandboxes.task_enis import TaskEnis
    from agent.network.settings import NetworkSettings

_log = structlog.get_logger(__name__)


class NetworkLoss(NamedTuple):
    """A task lost its network; it must still release it."""

    task_arn: str
    reason: str


class SandboxLifecycle:
    """Creates, watches and removes the sandboxes of one agent. Belongs to one event loop."""

    def __init__(
        self,
        settings: NetworkSettings,
        *,
        table: SandboxTable,
        maker: SandboxMaker,
        addresses: AddressPool,
        suspicions: Suspicions,
        enis: TaskEnis,
    ) -> None:
        self.losses: asyncio.Queue[NetworkLoss] = asyncio.Queue()
        """Losses that were not reported to their tasks yet."""
        self.warm = WarmPool(
            make=self._make,
            keep=self._keep,
            watch=self._begin_watch,
            target=settings.warm_sandboxes,
            most=self._most,
            drop=self._drop,
            quiet_s=settings.quiet_s,
        )
        self._burst_sandboxes = settings.burst_sandboxes
        self._table = table
        self._maker = maker
        self._addresses = addresses
        self._suspicions = suspicions
        self._enis = enis
        self._exits = namespaces.ExitWatch()
        self._background = BackgroundTasks()
        self._sweep: asyncio.Task[None] | None = None
        self._unfinished: set[str] = set()
        """Addresses at which a failed creation may have left something."""

    def take_over(self, plan: RecoveryPlan) -> None:
        """Go on with the sandboxes of an earlier process, which the table knows already."""
        for record in plan.kept:
            self._begin_watch(record)
        self.warm.take_over(plan.ready)

    async def obtain(self) -> SandboxRecord:
        """Return a living sandbox that nobody has claimed; drop those that died in the pool.

        Raises:
            NetworkFailure: no address is free, or the kernel refused.
            RuntimeFailure: the engine could not create a sandbox.
        """
        while (record := await self.warm.obtain()).ipv4 in self._table.dead:
            self._table.scrap[record.ipv4] = record
            self._suspicions.add(Part.PORTS)
        return record

    async def obtain_at(self, ipv4: str, asked: str) -> SandboxRecord:
        """Return a sandbox with this address of the pool, ready or made now.

        An address at rest is given, too: who asks for it wants what was there before.

        Args:
            ipv4: the address, which the pool has.
            asked: the task's own words for it.

        Raises:
            NetworkFailure: another task has it, or the kernel refused.
            RuntimeFailure: the engine could not create a sandbox.
        """
        ready = self.warm.take_out(ipv4)
        if ready is not None:
            return ready
        if self._addresses.is_held(ipv4):
            record = self._table.records.get(ipv4)
            holder = record.task_arn if record is not None else ""
            raise NetworkFailure(
                f"the task asks for the address {asked}, which "
                + (f"{holder} has" if holder else "is being made ready or removed; try again")
            )
        self._addresses.hold(ipv4)
        try:
            record = await self._make_at(ipv4)
        except BaseException:
            self._addresses.give_back(ipv4, asyncio.get_running_loop().time())
            raise
        self._begin_watch(record)
        return record

    async def obtain_for(self, eni: TaskEni) -> SandboxRecord:
        """Return a new sandbox for a task with an ENI, which is still to be placed.

        Raises:
            NetworkFailure: no address is free, or the kernel refused.
            RuntimeFailure: the engine could not create a sandbox.
        """
        record = await self._make(eni)
        self._begin_watch(record)
        return record

    def discard(self, records: Iterable[SandboxRecord]) -> None:
        """Have sandboxes removed with the next ``empty_scrap``."""
        for record in records:
            self._table.unclear.discard(record.ipv4)
            self._table.scrap[record.ipv4] = record

    async def remove(self, record: SandboxRecord) -> None:
        """Remove a sandbox and its row; after a failure, everything not removed is still known.

        Raises:
            RuntimeFailure: the engine did not remove the container; call again.
            NetworkFailure: the kernel did not remove the link; call again.
            StateFailure: the row could not be removed; call again.
        """
        self._table.leaving.add(record.ipv4)
        self._exits.discard(record.ipv4)
        await self._enis.give_back(record)
        await self._maker.remove(record.container_id, record.host_interface)
        await self._table.erase(record)
        self._addresses.give_back(record.ipv4, asyncio.get_running_loop().time())

    async def remove_unclaimed(self, limit_s: float) -> int:
        """Remove all sandboxes, none of which may be claimed; return how many are left.

        Args:
            limit_s: how long to wait for sandboxes that are being created.
        """
        await self.warm.finish(limit_s)
        self._table.scrap.update(self._table.records)
        for ipv4 in self._table.records:
            self.warm.take_out(ipv4)
        await self.empty_scrap()
        unfinished, self._unfinished = self._unfinished, set()
        await settle("sandbox not removed", [(x, self._remove_unfinished(x)) for x in unfinished])
        return len(self._table.scrap) + len(self._unfinished)

    async def empty_scrap(self) -> None:
        """Remove unusable sandboxes; those that cannot be removed stay for the next time."""
        doomed, self._table.scrap = self._table.scrap, {}
        await settle(
            "sandbox not removed",
            [(ipv4, self._remove_scrap(record)) for ipv4, record in doomed.items()],
        )

    def sweep(self) -> None:
        """Empty the scrap in the background: a hanging engine must not delay the caller."""
        if self._table.scrap and (self._sweep is None or self._sweep.done()):
            self._sweep = self._background.spawn(self.empty_scrap())

    def is_watched(self, ipv4: str) -> bool:
        """Tell whether the kernel will report the end of this sandbox; not before Linux 5.3."""
        return ipv4 in self._exits

    def ended(self, ipv4: str, reason: str = "the task's network sandbox stopped") -> None:
        """Note that a sandbox is unusable: its pause process ended by itself, or its link is lost."""
        table = self._table
        record = table.records.get(ipv4)
        if record is None or ipv4 in table.leaving or ipv4 in table.dead:
            return
        table.dead.add(ipv4)
        if self.warm.take_out(ipv4) is not None:
            _log.warning("warm sandbox lost", ipv4=ipv4, reason=reason)
            table.scrap[ipv4] = record
            self._suspicions.add(Part.PORTS)
        elif record.task_arn:
            # Its containers keep the namespace and the link until the task has stopped.
            _log.error("network of a task lost", task=record.task_arn, ipv4=ipv4, reason=reason)
            self.losses.put_nowait(NetworkLoss(record.task_arn, reason))

    async def close(self, limit_s: float) -> None:
        """Stop creating and watching sandboxes; those that exist stay. Idempotent."""
        await self.warm.finish(limit_s)
        await self._background.finish(limit_s)
        self._exits.close()

    async def _make(self, eni: TaskEni | None = None) -> SandboxRecord:
        now = asyncio.get_running_loop().time
        while True:
            ipv4 = self._addresses.take(now())
            try:
                return await self._make_at(ipv4, eni)
            except NameTaken as error:
                # Put it in quarantine like a released address, and try the next one.
                self._addresses.give_back(ipv4, now())
                _log.warning("address skipped", ipv4=ipv4, error=str(error))
            except BaseException:
                self._unfinished.add(ipv4)
                self._addresses.give_back(ipv4, now())
                raise

    async def _make_at(self, ipv4: str, eni: TaskEni | None = None) -> SandboxRecord:
        """Make a sandbox with an address that is held for it."""
        self._unfinished.discard(ipv4)
        record = await self._maker.make(ipv4, eni)
        self._table.records[ipv4] = record
        return record

    async def _most(self) -> int:
        """Return how many sandboxes may be ready: limited by memory, and by a quarter of the pool."""
        # What is ready already is no longer available, so it counts as if it were.
        free = await asyncio.to_thread(available_memory) + len(self.warm) * demand.SANDBOX_BYTES
        addresses = self._addresses.network.num_addresses
        return min(self._burst_sandboxes, demand.most_for(free), addresses // 4)

    def _drop(self, record: SandboxRecord) -> None:
        self._table.scrap[record.ipv4] = record
        self.sweep()

    async def _keep(self, record: SandboxRecord) -> None:
        try:
            await self._table.write(record, self._addresses.cursor)
        except StateFailure as error:
            # It works without a row, too; only a restart would have to create another one.
            _log.warning("warm sandbox not saved", ipv4=record.ipv4, error=str(error))

    async def _remove_scrap(self, record: SandboxRecord) -> None:
        try:
            await self.remove(record)
        except BaseException:
            self._table.scrap[record.ipv4] = record
            raise

    async def _remove_unfinished(self, ipv4: str) -> None:
        try:
            await self._maker.remove_unfinished(ipv4)
        except BaseException:
            self._unfinished.add(ipv4)
            raise

    def _begin_watch(self, record: SandboxRecord) -> None:
        self._exits.add(record.ipv4, record.process, self.ended)
