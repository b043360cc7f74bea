"""Which agents are connected: a key under a lease per instance, renewed by every call.

``/alive/<instance>`` exists while the agent makes calls. Only the call of a poll counts, not the time
for which it is held. When the agent is silent, the lease ends, the key disappears and the instance
shows ``agentConnected: false``; its tasks are not affected. The next call creates the key again.

Tests: ``tests/unit/controlplane/agents/test_agents.py``, ``tests/unit/controlplane/test_races.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import records
from agent.controlplane.recent import Recent
from agent.controlplane.records import AliveRecord
from agent.controlplane.store.contract import LeaseUnknown, Put, present

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import Store


class Leases:
    """Maintains the alive keys; remembers lease ids, so that a renewal needs no read."""

    def __init__(self, store: Store, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._known: Recent[tuple[str, int], int] = Recent()
        self.ttl_s = ttl_s

    async def renew(self, instance: InstanceRecord) -> None:
        """Renew the lease of the instance; safe to call concurrently."""
        known = (instance.id, instance.generation)
        lease = self._known.get(known)
        if lease is None:
            kv = await self._store.get(records.alive_key(instance.id))
            if kv is not None and kv.lease:
                alive = records.decode(AliveRecord, kv)
                lease = kv.lease if alive.generation == instance.generation else None
        if lease is not None:
            try:
                await self._store.keep_alive(lease)
            except LeaseUnknown:
                self._known.pop(known, None)
            else:
                self._known[known] = lease
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
            self.forget(instance.id)
            self._known[instance.id, instance.generation] = lease
        else:
            await self._store.revoke_lease(lease)

    def forget(self, instance_id: str) -> None:
        """Forget the leases of an instance that left or registered again."""
        for known in [known for known in self._known if known[0] == instance_id]:
            del self._known[known]
