"""Which ingresses are connected: a key under a lease each, with all that they have reported.

``/ingresses/<id>`` and ``/target-health/<id>/...`` share the lease. It is begun by the first report, because
from then on the health of targets is what the ingress says, and renewed by every call. When it ends, targets
have the health that they have without an ingress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane import records
from agent.controlplane.agents.longpoll.errors import TooManyIngresses
from agent.controlplane.loadbalancing import balancer_records
from agent.controlplane.loadbalancing.balancer_records import (
    HealthRecord,
    IngressRecord,
    TargetState,
)
from agent.controlplane.recent import Recent
from agent.controlplane.store.contract import Delete, LeaseUnknown, Op, Put

if TYPE_CHECKING:
    from agent.controlplane.store.contract import Store
    from agent.model.ingress import Reports

LEASE_S: Final = 20.0
INGRESSES_MOST: Final = 1000
"""Ingresses of one control endpoint; an agent's token is enough to report as one."""
_OPS: Final = 100
"""In one transaction."""


class IngressLeases:
    """Keeps what ingresses report; remembers lease ids, so that a renewal needs no read."""

    def __init__(self, store: Store, ttl_s: float = LEASE_S) -> None:
        self._store = store
        self._known: Recent[str, int] = Recent(INGRESSES_MOST)
        self.ttl_s = ttl_s

    async def renew(self, ingress_id: str) -> bool:
        """Renew the lease of an ingress; return False if it has none."""
        lease = await self._lease(ingress_id)
        if not lease:
            return False
        try:
            await self._store.keep_alive(lease)
        except LeaseUnknown:
            self._known.pop(ingress_id, None)
            return False
        self._known[ingress_id] = lease
        return True

    async def take(self, ingress_id: str, reports: Reports) -> bool:
        """Store what an ingress reports; return False if it has to report everything.

        Safe to repeat. A whole report may begin a lease; its key comes last, so that nobody looks for the
        health of targets before it is there.

        Raises:
            TooManyIngresses: it is a new one, and there are as many as control serves.
        """
        if not await self.renew(ingress_id):
            if not reports.is_whole:
                return False
            await self._check_room()
            self._known[ingress_id] = await self._store.grant_lease(self.ttl_s)
        lease = self._known[ingress_id]
        ops: list[Op] = [
            Delete(balancer_records.health_key(ingress_id, group_id))
            if states is None
            else Put(
                balancer_records.health_key(ingress_id, group_id),
                records.encode(
                    HealthRecord(
                        targets={
                            name: TargetState(
                                state=state.state,
                                reason=state.reason,
                                description=state.description,
                                is_idle=state.is_idle,
                            )
                            for name, state in states.items()
                        }
                    )
                ),
                lease,
            )
            for group_id, states in reports.groups.items()
        ]
        if reports.is_whole:
            of = IngressRecord(load_balancers=sorted(reports.balancers))
            ops.append(Put(balancer_records.ingress_key(ingress_id), records.encode(of), lease))
        try:
            for start in range(0, len(ops), _OPS):
                await self._store.txn([], ops[start : start + _OPS])
        except LeaseUnknown:
            self._known.pop(ingress_id, None)
            return False
        return True

    async def end(self, ingress_id: str) -> None:
        """Forget an ingress and all that it has reported; one that is unknown is ignored."""
        lease = await self._lease(ingress_id)
        self._known.pop(ingress_id, None)
        if lease:
            await self._store.revoke_lease(lease)

    async def _check_room(self) -> None:
        page = await self._store.range(balancer_records.INGRESSES, limit=INGRESSES_MOST)
        if len(page.items) >= INGRESSES_MOST:
            raise TooManyIngresses(
                f"there are {INGRESSES_MOST} ingresses already; end some of them"
            )

    async def _lease(self, ingress_id: str) -> int:
        """Return the lease of an ingress, also one that another process has begun; 0 for none."""
        if known := self._known.get(ingress_id):
            return known
        kv = await self._store.get(balancer_records.ingress_key(ingress_id))
        return kv.lease if kv is not None else 0
