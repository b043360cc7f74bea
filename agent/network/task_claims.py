"""Gives sandboxes to tasks and takes them back: each task has one, whoever asks how often.

::

    make ──► warm ──claim: one commit──► claimed ──release──► gone
       └─────────► handed to a waiting claim ──┘

A sandbox is complete before it can be claimed, so that a claim costs only one commit. Its address is
chosen when it is made (``sandboxes.lifecycle``, from ``address_pool``), and put on its link by the
driver. Work that was begun goes on when its callers are cancelled.

Tests: ``tests/integration/network/test_life.py``, ``tests/integration/network/test_static_address.py``.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from agent.errors import NetworkFailure, StateFailure
from agent.model.eni import read as read_eni
from agent.network.background import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from agent.model.eni import TaskEni
    from agent.model.task import TaskNetwork
    from agent.network.address_pool import AddressPool
    from agent.network.host.shared import HostNetwork
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.lifecycle import SandboxLifecycle
    from agent.network.sandboxes.sandbox_table import SandboxTable
    from agent.network.sandboxes.task_enis import TaskEnis


class TaskClaims:
    """The claims and releases of one agent. Belongs to one event loop."""

    def __init__(
        self,
        *,
        table: SandboxTable,
        addresses: AddressPool,
        host: HostNetwork,
        lifecycle: SandboxLifecycle,
        enis: TaskEnis,
    ) -> None:
        """Take the parts."""
        self._table = table
        self._addresses = addresses
        self._host = host
        self._lifecycle = lifecycle
        self._enis = enis
        self._claims: dict[str, asyncio.Task[TaskNetwork]] = {}
        self._releases: dict[str, asyncio.Task[None]] = {}
        self._background = BackgroundTasks()

    def __len__(self) -> int:
        """Return how many claims are being worked on."""
        return len(self._claims)

    async def claim(
        self, task_arn: str, attachment_id: str, groups: tuple[str, ...], address: str
    ) -> TaskNetwork:
        """Return a task's network; see ``TaskNetworks.claim``."""
        await self._left(task_arn)
        held = self._table.by_task.get(task_arn)
        if held is not None:
            await self._complete(held, attachment_id, groups)
            return self._answer(held)
        work = partial(self._claim, task_arn, attachment_id, groups, address)
        return await self._once(task_arn, work)

    async def claim_eni(
        self, task_arn: str, attachment_id: str, interfaces: Sequence[dict[str, Any]]
    ) -> TaskNetwork:
        """Return the network of a task with an ENI; see ``TaskNetworks.claim_eni``."""
        eni = read_eni(interfaces)
        await self._left(task_arn)
        named = attachment_id or eni.attachment_arn.rpartition("/")[2]
        return await self._once(task_arn, partial(self._claim_eni, task_arn, named, eni))

    async def release(self, task_arn: str) -> None:
        """Remove a task's sandbox; see ``TaskNetworks.release``."""
        claim = self._claims.get(task_arn)
        if claim is not None:
            await asyncio.wait([claim])
        leaving = self._releases.get(task_arn)
        if leaving is None:
            held = self._table.by_task.get(task_arn)
            if held is None:
                return
            leaving = self._background.spawn(self._lifecycle.remove(self._table.records[held]))
            self._releases[task_arn] = leaving
            leaving.add_done_callback(lambda _: self._releases.pop(task_arn, None))
        await asyncio.shield(leaving)

    async def finish(self, limit_s: float) -> None:
        """Wait for what was begun, and cancel what takes longer. Idempotent."""
        await self._background.finish(limit_s)

    async def _left(self, task_arn: str) -> None:
        """Wait until a task's release has ended, if one is on its way."""
        leaving = self._releases.get(task_arn)
        if leaving is not None:
            await asyncio.wait([leaving])

    async def _once(
        self, task_arn: str, work: Callable[[], Coroutine[Any, Any, TaskNetwork]]
    ) -> TaskNetwork:
        """Share one claim among all callers; it goes on when they are cancelled."""
        claim = self._claims.get(task_arn)
        if claim is None:
            claim = self._background.spawn(work())
            self._claims[task_arn] = claim
            claim.add_done_callback(lambda _: self._claims.pop(task_arn, None))
        return await asyncio.shield(claim)

    async def _claim(
        self, task_arn: str, attachment_id: str, groups: tuple[str, ...], address: str
    ) -> TaskNetwork:
        with self._lifecycle.warm.launch():
            record = await self._obtained(address)
            claimed = record.claimed(task_arn, attachment_id, time.time(), groups)
            try:
                if groups:
                    await self._host.admit_to_groups(record.addresses, groups)
                await self._table.write(claimed, self._addresses.cursor)
            except (NetworkFailure, StateFailure):
                # Nothing was saved: the sandbox is still free.
                if self._addresses.is_reserved(record.ipv4):
                    self._lifecycle.discard([record])
                else:
                    self._lifecycle.warm.offer(record)
                raise
            return self._answer(record.ipv4)

    async def _obtained(self, address: str) -> SandboxRecord:
        if not address:
            return await self._lifecycle.obtain()
        ipv4 = self._addresses.asked_for(address)
        holder = self._table.records.get(ipv4)
        if holder is not None:
            await self._left(holder.task_arn)
        return await self._lifecycle.obtain_at(ipv4, address)

    async def _claim_eni(self, task_arn: str, attachment_id: str, eni: TaskEni) -> TaskNetwork:
        held = self._table.by_task.get(task_arn)
        if held is None:
            record = await self._lifecycle.obtain_for(eni)
            record = record.claimed(task_arn, attachment_id, time.time())
            try:
                await self._table.write(record, self._addresses.cursor)
            except StateFailure:
                self._lifecycle.discard([record])
                raise
            held = record.ipv4
        else:
            await self._complete(held, attachment_id, ())
        answer = self._answer(held)
        record = self._table.records[held]
        if not record.is_complete:
            await self._enis.place(record)
            placed = msgspec.structs.replace(record, eni_placed=True)
            await self._table.write(placed, self._addresses.cursor)
        return answer

    async def _complete(self, ipv4: str, attachment_id: str, groups: tuple[str, ...]) -> None:
        """Complete a recreated row with what only the task's order contains."""
        record = self._table.records[ipv4]
        groups = record.security_groups or groups
        # Also without any: a task whose groups were lost is closed until its order is here.
        await self._host.admit_to_groups(record.addresses, groups)
        named = record.claimed(
            record.task_arn, record.attachment_id or attachment_id, record.claimed_at, groups
        )
        if named != record:
            await self._table.write(named, self._addresses.cursor)

    def _answer(self, ipv4: str) -> TaskNetwork:
        if ipv4 in self._table.dead:
            raise NetworkFailure(f"the task's network sandbox {ipv4} has died")
        if ipv4 in self._table.leaving:
            raise NetworkFailure(f"the task's network sandbox {ipv4} is being removed")
        return self._table.records[ipv4].network()
