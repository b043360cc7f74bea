"""Which agents are connected: a key under a lease per instance, renewed by every call.

``/alive/<instance>`` exists while the agent makes calls. Only the call of a poll counts, not the time
for which it is held. When the agent is silent, the lease ends, the key disappears and the instance
shows ``agentConnected: false``; its tasks are not affected. The next call creates the key again.

The calls of polls that need not look at the store are renewed together, a moment later (``run``): most of a quiet
fleet's calls are such polls.

Tests: ``tests/unit/controlplane/agents/test_leases.py``, ``tests/unit/controlplane/agents/test_agents.py``,
``tests/unit/controlplane/test_races.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent.controlplane import records
from agent.controlplane.recent import Recent
from agent.controlplane.records import AliveRecord
from agent.controlplane.store.contract import LeaseUnknown, Put, StoreFailure, present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import Store

TOGETHER_S: Final = 1.0
"""For how long renewals are collected; less if leases are short."""
_SIDE_BY_SIDE: Final = 32
_OF_ONE: Final = 16
"""How many renewals one after the other are worth a task of their own."""
_SURE: Final = 0.75
"""For what part of its time a lease is taken to be there without asking; a poll is held for half of it."""

_log = structlog.get_logger(__name__)


class _Known(NamedTuple):
    """The lease of an instance."""

    generation: int
    """Of the registration that it is for."""
    lease: int
    at: float
    """When it was renewed; seconds of the event loop's clock."""


class Leases:
    """Maintains the alive keys; remembers lease ids, so that a renewal needs no read."""

    def __init__(self, store: Store, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._known: Recent[str, _Known] = Recent()
        """By instance id."""
        self._due: dict[str, _Known] = {}
        """What is to be renewed together, likewise."""
        self._is_due = asyncio.Event()
        self._is_running = False
        self.ttl_s = ttl_s

    async def run(self, lost: Callable[[str], None]) -> None:
        """Renew together what ``renew_soon`` was called for, until cancelled.

        Args:
            lost: called with the id of an instance whose lease has ended; the next ``renew`` begins another one.
        """
        self._is_running = True
        try:
            while True:
                await self._is_due.wait()
                await asyncio.sleep(min(TOGETHER_S, self.ttl_s / 20))
                self._is_due.clear()
                due, self._due = self._due, {}
                left = iter(due.items())
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(_SIDE_BY_SIDE, 1 + len(due) // _OF_ONE)):
                        group.create_task(self._keep_alive(left, lost))
        finally:
            self._is_running = False

    async def _keep_alive(
        self, left: Iterator[tuple[str, _Known]], lost: Callable[[str], None]
    ) -> None:
        for instance_id, known in left:
            try:
                await self._store.keep_alive(known.lease)
            except LeaseUnknown:
                if (new := self._known.get(instance_id)) is not None and new.lease == known.lease:
                    del self._known[instance_id]
                lost(instance_id)
            except StoreFailure as error:
                # The next poll tries again, before the lease ends.
                _log.warning("lease not renewed", instance=instance_id, error=str(error))

    def renew_soon(self, instance_id: str, generation: int) -> bool:
        """Have a known lease renewed in a moment; False if none is surely there: call ``renew``."""
        known = self._known.get(instance_id)
        if known is None or known.generation != generation or not self._is_running:
            return False
        now = asyncio.get_running_loop().time()
        if now - known.at > self.ttl_s * _SURE:
            return False  # it may have ended
        self._known[instance_id] = self._due[instance_id] = known._replace(at=now)
        self._is_due.set()
        return True

    def is_known(self, instance_id: str) -> bool:
        """Return whether an instance has a lease as far as is known here."""
        return instance_id in self._known

    async def renew(self, instance: InstanceRecord) -> None:
        """Renew the lease of the instance; safe to call concurrently."""
        known = self._known.get(instance.id)
        lease = known.lease if known and known.generation == instance.generation else None
        if lease is None:
            kv = await self._store.get(records.alive_key(instance.id))
            if kv is not None and kv.lease:
                alive = records.decode(AliveRecord, kv)
                lease = kv.lease if alive.generation == instance.generation else None
        if lease is not None:
            try:
                await self._store.keep_alive(lease)
            except LeaseUnknown:
                self.forget(instance.id)
            else:
                self._note(instance, lease)
                return
        await self._begin(instance)

    async def _begin(self, instance: InstanceRecord) -> None:
        lease = await self._store.grant_lease(self.ttl_s)
        alive = AliveRecord(generation=instance.generation, since=self._clock())
        key = records.alive_key(instance.id)
        # Not for an instance that was deleted meanwhile: nobody would revoke that lease.
        of_instance = present(records.instance_key(instance.cluster, instance.id))
        put = Put(key, records.encode(alive), lease)
        if (await self._store.txn([of_instance], [put], urgent=True)).succeeded:
            self._note(instance, lease)
        else:
            await self._store.revoke_lease(lease)

    def _note(self, instance: InstanceRecord, lease: int) -> None:
        now = asyncio.get_running_loop().time()
        self._known[instance.id] = _Known(instance.generation, lease, now)

    def forget(self, instance_id: str) -> None:
        """Forget the leases of an instance that left or registered again."""
        self._known.pop(instance_id, None)
