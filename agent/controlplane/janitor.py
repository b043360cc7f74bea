"""Deletes what is no longer needed: old stopped tasks, tokens, instances, and history.

As on Amazon ECS, a stopped task can be described for an hour. This uses control's own clock, because
an agent's clock may be wrong. The janitor also finishes a ``retire`` that a crash interrupted. Every
deletion compares the record with what was read, so a record that has changed is kept. A round that
fails is logged, and the next round does its work.

Tests: ``tests/unit/controlplane/api/ecs/test_tasks.py``, ``tests/unit/controlplane/test_races.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from agent.controlplane import access, records
from agent.controlplane.api.ecs import definition_deletion
from agent.controlplane.discovery.record import OPERATIONS
from agent.controlplane.loadbalancing import stored as balancers
from agent.controlplane.records import InstanceRecord
from agent.controlplane.schedules.record import DELETIONS
from agent.controlplane.secrets import stored
from agent.controlplane.services.record import INACTIVE, ServiceRecord
from agent.controlplane.store.contract import Delete, StoreFailure, unchanged
from agent.controlplane.tasks import providers
from agent.controlplane.tasks.providers import CapacityProviderRecord
from agent.controlplane.tasks.retire import retire

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.parts import Parts

STOPPED_TASK_S = 3600.0
CLIENT_TOKEN_S = 24 * 3600.0
INACTIVE_INSTANCE_S = 24 * 3600.0
INACTIVE_SERVICE_S = 24 * 3600.0
INACTIVE_PROVIDER_S = 24 * 3600.0
HISTORY_ROUNDS = 10
"""For how many rounds watches can read old history."""
ROUND_S = 60.0
ROUND_LIMIT_S = 300.0

_log = structlog.get_logger(__name__)


class _Task(Struct, frozen=True, rename="camel"):
    last_status: str = ""
    stopped_at: float = 0.0
    settled_at: float = 0.0


class _Token(Struct, frozen=True, rename="camel"):
    at: float = 0.0


class Janitor:
    """Cleans one store; one is enough, and more do no harm."""

    def __init__(
        self,
        parts: Parts,
        *,
        round_s: float = ROUND_S,
        held_from: Callable[[], int] | None = None,
    ) -> None:
        """Take the store; ``held_from`` returns the revision whose history somebody still needs."""
        self._parts = parts
        self._held_from = held_from
        self._round_s = round_s
        self._revisions: deque[int] = deque(maxlen=HISTORY_ROUNDS)

    async def run(self) -> None:
        """Clean until cancelled."""
        while True:
            try:
                async with asyncio.timeout(ROUND_LIMIT_S):
                    await self.clean()
            except (StoreFailure, TimeoutError) as error:
                _log.warning("clean-up failed; trying again later", error=repr(error))
            await asyncio.sleep(self._round_s)

    async def clean(self) -> int:
        """Do one round; return how many records were deleted."""
        store, now = self._parts.store, self._parts.clock()
        gone = 0
        async for kv, task in access.scan(store, _Task, records.TASKS):
            ended = task.settled_at or task.stopped_at
            if task.last_status == "STOPPED" and ended < now - STOPPED_TASK_S:
                gone += (await store.txn([unchanged(kv)], [Delete(kv.key)], urgent=True)).succeeded
        for prefix in (records.RUN_TOKENS, DELETIONS, OPERATIONS):
            gone += await self._tokens(prefix, now)
        gone += await self._instances(now)
        gone += await self._services(now)
        gone += await self._providers(now)
        gone += await definition_deletion.sweep(store, now)
        gone += await balancers.sweep(store, now)
        if self._parts.secrets is not None:
            gone += await stored.sweep(self._parts.secrets, now)
        if len(self._revisions) == HISTORY_ROUNDS:
            held = self._revisions[0] if self._held_from is None else self._held_from()
            await store.compact(min(self._revisions[0], held))
        self._revisions.append(store.revision)
        if gone:
            _log.info("old records deleted", count=gone)
        return gone

    async def _tokens(self, prefix: str, now: float) -> int:
        store, gone = self._parts.store, 0
        async for kv, token in access.scan(store, _Token, prefix):
            if token.at < now - CLIENT_TOKEN_S:
                gone += (await store.txn([unchanged(kv)], [Delete(kv.key)], urgent=True)).succeeded
        return gone

    async def _services(self, now: float) -> int:
        store, gone = self._parts.store, 0
        async for kv, service in access.scan(store, ServiceRecord, records.SERVICES):
            if service.status == INACTIVE and service.inactive_at < now - INACTIVE_SERVICE_S:
                where = service.cluster, service.name
                then = [
                    Delete(kv.key),
                    Delete(records.service_events_key(*where)),
                    Delete(records.service_rollouts_key(*where)),
                ]
                gone += (await store.txn([unchanged(kv)], then, urgent=True)).succeeded
        return gone

    async def _providers(self, now: float) -> int:
        store, gone = self._parts.store, 0
        async for kv, one in access.scan(store, CapacityProviderRecord, providers.PREFIX):
            if one.status == INACTIVE and one.inactive_at < now - INACTIVE_PROVIDER_S:
                gone += (await store.txn([unchanged(kv)], [Delete(kv.key)], urgent=True)).succeeded
        return gone

    async def _instances(self, now: float) -> int:
        store, gone = self._parts.store, 0
        async for kv, instance in access.scan(store, InstanceRecord, records.INSTANCES):
            if instance.status != "INACTIVE":
                continue
            if (await store.range(records.assignments_prefix(instance.id), limit=1)).items:
                reason = instance.status_reason
                await retire(store, instance, reason=reason, clock=self._parts.clock)
            if instance.deregistered_at < now - INACTIVE_INSTANCE_S:
                gone += (await store.txn([unchanged(kv)], [Delete(kv.key)], urgent=True)).succeeded
        return gone
