"""The loop behind autoscaling: wakes when a minute of figures is closed, and decides for each target.

What a minute costs: a read of the minute's points for each service with a policy, and a write for each service that is
scaled. Without targets it sleeps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.metric_store import catalogue
from agent.controlplane.scaling import acts, figures
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.alarm import ALARMS, AlarmRecord, State, evaluate
from agent.controlplane.scaling.decision import Seen, decide
from agent.controlplane.scaling.figures import Figures
from agent.controlplane.scaling.steps import Firing
from agent.controlplane.scaling.target import ActivitiesRecord, ScalableTarget, policy_arn
from agent.controlplane.services.view import ServiceKey
from agent.controlplane.store.contract import Put, StoreFailure, unchanged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.access import Found
    from agent.controlplane.metric_store.store import MetricStore
    from agent.controlplane.parts import Parts
    from agent.controlplane.scaling.decision import Decision
    from agent.controlplane.services.record import ServiceRecord

ROUND_LIMIT_S = 50.0
"""For the decisions of one minute."""

_log = structlog.get_logger(__name__)


class ScalingLoop:
    """Scales the services of one store by the figures of one metric store."""

    def __init__(self, parts: Parts, metrics: MetricStore) -> None:
        self._parts = parts
        self._metrics = metrics
        self._figures = Figures(metrics)

    async def run(self) -> None:
        """Decide after each minute, until cancelled."""
        minute = 0
        while True:
            minute = await self._metrics.next_minute(minute)
            try:
                async with asyncio.timeout(ROUND_LIMIT_S):
                    await self.decide(minute)
            except (StoreFailure, TimeoutError) as error:
                _log.warning("services are not scaled; trying again in a minute", error=repr(error))

    async def decide(self, minute: int) -> None:
        """Decide for every target about one minute.

        Raises:
            StoreFailure: of the store, or of the figures.
        """
        store = self._parts.store
        targets = [found async for found in access.scan(store, ScalableTarget, kinds.TARGETS)]
        if not targets:
            return
        await self._figures.read(
            (figures.scope(t.cluster, t.service) for _, t in targets if t.policies), minute
        )
        alarms = await self._firing(minute) if any(_has_steps(t) for _, t in targets) else {}
        await self._parts.services.read()
        for found in targets:
            try:
                await self._decide_for(found, minute, alarms)
            except StoreFailure:
                raise
            except Exception as error:  # noqa: BLE001 - a fault of one target must not stop all others
                _log.error(
                    "service cannot be scaled; trying again in a minute",
                    service=found.record.resource_id,
                    error=repr(error),
                )

    async def _firing(self, minute: int) -> dict[str, list[Firing]]:
        """Return the alarms in the state ALARM by the ARNs of the policies that they start."""
        firing: dict[str, list[Firing]] = {}
        async for _, one in access.scan(self._parts.store, AlarmRecord, ALARMS):
            metric = catalogue.named(one.namespace, one.metric)
            if metric is None or not one.is_enabled:
                continue
            values = self._figures.values(figures.scope(one.cluster, one.service), metric)
            found = evaluate(one, values, minute)
            if found.state is State.ALARM and found.value is not None:
                fires = Firing(one.name, found.value - one.threshold, found.is_whole)
                for arn in one.actions:
                    firing.setdefault(arn, []).append(fires)
        return firing

    async def _decide_for(
        self, found: Found[ScalableTarget], minute: int, alarms: Mapping[str, Sequence[Firing]]
    ) -> None:
        target = found.record
        service = self._parts.services.service(ServiceKey(target.cluster, target.service))
        if service is None or not acts.belongs(target, service.record):
            await acts.forget(self._parts.store, found)  # AWS does so, too
            return
        found = await self._fulfilled(found, service.record)
        target = found.record
        seen = Seen(service.record.desired_count, acts.is_deploying(service.record))
        scope = figures.scope(target.cluster, target.service)
        own = {
            policy.name: self._figures.of(scope, policy)
            for policy in target.policies
            if policy.type == kinds.TRACKING
        }
        firing = {
            policy.name: alarms.get(policy_arn(self._parts.names, target, policy), ())
            for policy in target.policies
        }
        now = self._parts.clock()
        decision = decide(target, seen, own, minute, now, firing)
        if decision is not None:
            await self._act(found, service, decision, now)

    async def _act(
        self,
        found: Found[ScalableTarget],
        service: Found[ServiceRecord],
        decision: Decision,
        now: float,
    ) -> None:
        cause = f"monitor alarm {decision.alarm} in state ALARM triggered policy {decision.policy}"
        if decision.not_scaled:
            told = acts.not_scaled(cause, decision.wanted, decision.not_scaled, now)
        else:
            told = acts.activity(cause, decision.wanted, now)
        # If something has changed meanwhile, the next minute decides anew.
        done = await acts.commit(
            self._parts.store,
            service,
            found.kv,
            decision.target,
            desired=decision.wanted,
            activities=[told],
            now=now,
        )
        if done and not decision.not_scaled:
            _log.info(
                "service scaled",
                service=service.record.name,
                cluster=service.record.cluster,
                desired_count=decision.wanted,
                policy=decision.policy,
            )

    async def _fulfilled(
        self, found: Found[ScalableTarget], service: ServiceRecord
    ) -> Found[ScalableTarget]:
        """Return the target, whose activities have ended if the service has fulfilled them."""
        target = found.record
        if not target.is_pending:
            return found
        store, key = self._parts.store, kinds.activities_key(target.cluster, target.service)
        tasks = self._parts.services.tasks(ServiceKey(target.cluster, target.service))
        running = sum(task.is_running and task.is_wanted for task in tasks)
        known = await access.find(store, ActivitiesRecord, key)
        if known is None:
            return found
        after = acts.fulfilled(known.record, service, running, self._parts.clock())
        if any(one.status == kinds.IN_PROGRESS for one in after.activities):
            return found
        then = [
            Put(key, records.encode(after)),
            Put(found.kv.key, records.encode(replace(target, is_pending=False))),
        ]
        await store.txn([unchanged(known.kv), unchanged(found.kv)], then)
        return await access.find(store, ScalableTarget, found.kv.key) or found


def _has_steps(target: ScalableTarget) -> bool:
    return any(policy.type == kinds.STEPS for policy in target.policies)
