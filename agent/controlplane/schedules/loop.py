"""The loop that runs what is due: it sleeps until the next time, or until a schedule is changed.

It holds the next time of each schedule, and reads a record when that has come. A second loop over the same
store, or a restart at any moment, is safe: each run is in the transaction that records it.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane import access, records
from agent.controlplane.schedules import due, expressions, running
from agent.controlplane.schedules.record import ALL, RULES, SCHEDULES, ScheduleRecord
from agent.controlplane.store.contract import Compacted, Delete, Put, StoreFailure, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.parts import Parts
    from agent.controlplane.schedules.due import Look
    from agent.controlplane.store.contract import Event, KeyValue

_LONGEST_SLEEP_S: Final = 600.0
"""Due times are wall-clock times; after this, the clock is read again."""
_RETRY_S: Final = 1.0
_CONFLICT_S: Final = 0.02
_TURN_LIMIT_S: Final = 60.0
_AGAIN_S: Final = 60.0
"""After how long a schedule whose turn failed is looked at again; if the store failed, that is ``_RETRY_S``."""

_log = structlog.get_logger(__name__)


class ScheduleLoop:
    """Runs the schedules of one store."""

    def __init__(self, parts: Parts, rng: random.Random | None = None) -> None:
        """Take the store; ``rng`` chooses among equal hosts."""
        self._parts = parts
        self._rng = rng or random.SystemRandom()
        self._due: dict[str, float] = {}
        """When to look at a record again, by its key; Unix seconds."""
        self._changed: set[str] = set()
        """Keys of records that were changed since somebody began to look at them."""
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="changes of schedules")
            group.create_task(self._work(), name="runs of schedules")

    async def load(self) -> None:
        """Look at every schedule as soon as possible."""
        store = self._parts.store
        for prefix in (SCHEDULES, RULES):
            async for kv, _ in access.scan(store, ScheduleRecord, prefix):
                self._due.setdefault(kv.key, 0.0)
        self._woken.set()

    async def settle(self) -> None:
        """Do everything that is due now.

        Raises:
            StoreFailure, TimeoutError: some of it was not done, and is tried again after a moment.
        """
        problem: Exception | None = None
        now = self._parts.clock()
        for key in sorted(key for key, at in self._due.items() if at <= now):
            try:
                async with asyncio.timeout(_TURN_LIMIT_S):
                    await self._turn(key)
            except (StoreFailure, TimeoutError) as error:
                problem = error
                self._due[key] = now + _RETRY_S
            except Exception as error:  # noqa: BLE001 - a fault of one schedule must not stop all others
                _log.error(
                    "schedule cannot be run; trying again in a minute", key=key, error=repr(error)
                )
                self._due[key] = now + _AGAIN_S
        if problem is not None:
            raise problem

    @property
    def next_at(self) -> float | None:
        """When something is due, in Unix seconds; None for never."""
        return min(self._due.values(), default=None)

    async def _listen(self) -> None:
        store = self._parts.store
        while True:
            try:
                async with store.watch(ALL, after_revision=store.revision) as watch:
                    await self.load()
                    async for batch in watch:
                        self._note(batch.events)
            except Compacted:
                _log.warning("schedules fell behind; reading the store again")
            except StoreFailure as error:
                _log.warning(
                    "schedules get no changes from the store; trying again", error=str(error)
                )
                await asyncio.sleep(_RETRY_S)

    def _note(self, events: Iterable[Event]) -> None:
        for event in events:
            key = event.kv.key
            if event.type == "delete":
                self._due.pop(key, None)
            elif key.startswith((SCHEDULES, RULES)):
                self._due[key] = 0.0
                self._changed.add(key)
                self._woken.set()

    async def _work(self) -> None:
        while True:
            await self._wait()
            self._woken.clear()
            try:
                await self.settle()
            except (StoreFailure, TimeoutError) as error:
                _log.warning("schedules cannot be run; trying again", error=repr(error))
                await asyncio.sleep(_RETRY_S)

    async def _wait(self) -> None:
        """Return when something is due or has changed; without schedules, only for a change."""
        at = self.next_at
        sleep_s = None if at is None else min(max(0.0, at - self._parts.clock()), _LONGEST_SLEEP_S)
        try:
            async with asyncio.timeout(sleep_s):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _turn(self, key: str) -> None:
        """Do for one schedule what is due now."""
        while True:
            self._changed.discard(key)
            found = await access.find(self._parts.store, ScheduleRecord, key)
            if found is None:
                self._due.pop(key, None)
                return
            await asyncio.to_thread(expressions.zone, found.record.zone)
            seen = due.look(found.record, self._parts.clock())
            if not await self._act(found.kv, found.record, seen):
                if key in self._changed:
                    continue
                if seen.wake_at is None:
                    self._due.pop(key, None)
                else:
                    self._due[key] = seen.wake_at
                return

    async def _act(self, kv: KeyValue, before: ScheduleRecord, seen: Look) -> bool:
        """Do one thing for a schedule; False if nothing is left to do now."""
        store, record = self._parts.store, seen.record
        if seen.ready:
            target = next(one for one in record.targets if one.id == seen.ready[0])
            outcome = await running.attempt(self._parts, kv, record, target, self._rng)
            done = outcome.record is not None
            if done and outcome.problem and not record.runs[target.id].tries:
                _log.warning(
                    "scheduled tasks cannot be started; trying again",
                    schedule=record.arn,
                    target=target.id,
                    error=outcome.problem,
                )
        elif seen.is_over:
            done = (await store.txn([unchanged(kv)], [Delete(kv.key)])).succeeded
        elif record is not before:
            put = Put(kv.key, records.encode(record))
            done = (await store.txn([unchanged(kv)], [put])).succeeded
        else:
            return False
        if not done:
            # An operator or another loop was faster, or a host has changed.
            await asyncio.sleep(random.uniform(0, _CONFLICT_S))  # noqa: S311 - spreads retries
            return True
        for one in seen.dropped:
            _log.warning(
                "a run of a schedule is dropped",
                schedule=record.arn,
                target=one.target,
                why=one.why,
            )
        return True
