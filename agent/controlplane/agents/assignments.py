"""Held polls: what an instance is wanted to run, as a whole or since a revision.

What is wanted is the set of keys under ``/assign/<instance>/``; nothing else is kept per agent. An
answer after revision R holds the assignments that changed later than R, read from the store as it
is now, so that it needs no history. A task leaves the set when its STOPPED was reported.

Revisions count only within one run of this process: the store may have been put back to an older
copy in between, and then the same number means another state. So an agent that this process has not
seen yet is sent the whole set first.

Tests: ``tests/unit/controlplane/agents/test_agents.py``,
``tests/unit/controlplane/agents/amazon/test_orders.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from agent.controlplane import access, records
from agent.controlplane.agents.longpoll.errors import InstanceUnknown, RevisionCompacted
from agent.controlplane.definition import overrides, payload
from agent.controlplane.records import AssignRecord, TaskDefinitionRecord, TaskRecord
from agent.model import payload as payload_model
from agent.model.payload import Credentials
from agent.model.wire import Assignment, Assignments, TaskCredentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.access import Found
    from agent.controlplane.agents.leases import Leases
    from agent.controlplane.agents.registration import InstanceRegistry
    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.history import History
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import KeyValue, RangeResult
    from agent.model.payload import TaskPayload

_REMEMBERED_DEFINITIONS = 512

_log = structlog.get_logger(__name__)


class AssignedTask(NamedTuple):
    """One assignment as it was read, and the task that it is of."""

    row: KeyValue
    assignment: AssignRecord
    task: TaskRecord


class AssignmentReader:
    """Reads assignments and builds what is sent of them, for both wires."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._definitions: dict[str, TaskDefinitionRecord] = {}

    async def read(self, rows: list[KeyValue]) -> tuple[list[AssignedTask], bool]:
        """Return the orders, and whether every row and its task could be read.

        Those to stop come first, each kind in the order in which it was given. Tasks that are
        STOPPED already are left out.
        """
        read = [(kv, row) for kv in rows if (row := _readable(kv)) is not None]
        read.sort(key=lambda row: (row[1].desired_status != "STOPPED", row[0].mod_revision))
        keys = [records.task_key(a.cluster, records.last_element(kv.key)) for kv, a in read]
        tasks = await access.find_many(self._parts.store, TaskRecord, keys)
        found = []
        for key, (kv, assignment) in zip(keys, read, strict=True):
            task = tasks.get(key)
            if task is not None and task.record.last_status != "STOPPED":
                found.append(AssignedTask(kv, assignment, task.record))
        return found, len(read) == len(rows) and all(key in tasks for key in keys)

    async def payload(self, order: AssignedTask) -> TaskPayload | None:
        """Return the payload of an order.

        None for one that cannot be built, which is logged, and for a task that was taken back from
        its agent, which has it.
        """
        task = order.task
        if task.adopted:
            return None
        try:
            definition = await self._definition(task)
            return payload.build(
                task,
                definition,
                self._parts.names,
                desired=order.assignment.desired_status,
                credentials=self._credentials(task),
            )
        except (LookupError, TypeError, ValueError, overrides.OverrideError) as error:
            _log.error("payload cannot be built", task=task.arn, error=repr(error))
            return None

    def _credentials(self, task: TaskRecord) -> dict[str, Credentials]:
        """Return the credentials of a task's roles; of those not issued yet, what names them."""
        return {
            kind: issued.credentials
            if (issued := self._parts.roles.current(task.id, kind)) is not None
            else Credentials(credentials_id=role.credentials_id, role_arn=role.arn)
            for kind, role in task.roles.items()
        }

    def lacks_credentials(self, task: TaskRecord) -> bool:
        """Tell whether credentials of a role of a task are still to come."""
        roles = self._parts.roles
        return any(roles.current(task.id, kind) is None for kind in task.roles)

    async def _definition(self, task: TaskRecord) -> TaskDefinitionRecord:
        known = self._definitions.get(task.task_definition_arn)
        if known is not None:
            return known
        found: Found[TaskDefinitionRecord] | None = await access.find(
            self._parts.store,
            TaskDefinitionRecord,
            records.task_definition_key(task.family, task.revision),
        )
        if found is None:
            raise KeyError(task.task_definition_arn)
        if len(self._definitions) >= _REMEMBERED_DEFINITIONS:
            self._definitions.clear()
        self._definitions[task.task_definition_arn] = found.record
        return found.record


class Poller:
    """Answers polls; any number of them are held side by side."""

    def __init__(
        self,
        parts: Parts,
        registry: InstanceRegistry,
        leases: Leases,
        wakeups: WakeUps,
        orders: AssignmentReader,
        history: History,
    ) -> None:
        self._parts = parts
        self._history = history
        self._registry = registry
        self._leases = leases
        self._wakeups = wakeups
        self._orders = orders
        self._told: set[str] = set()
        """Instances that got their whole set from this process."""
        self._closing = False

    def close(self) -> None:
        """Answer every held poll now, and later ones without holding them."""
        self._closing = True
        self._wakeups.wake_all()

    async def poll(
        self,
        instance_id: str,
        generation: int,
        *,
        after: int,
        wait_s: float,
        is_gone: Callable[[], bool],
        credentials_after: int | None = None,
    ) -> Assignments | None:
        """Return what changed after a revision, waiting for it; None when nothing did.

        The call renews the instance's lease, holding it does not: a host that lost its power says
        nothing, and its connection looks as it did before. So no poll is held for longer than half
        a lease, and an agent that lives makes the next one in time.

        Args:
            instance_id: who asks.
            generation: of its registration.
            after: the revision that it has seen.
            wait_s: for how long to wait at most.
            is_gone: tells whether the caller has closed the connection.
            credentials_after: serial of the newest credentials that it has; None where it takes
                none but those in payloads.

        Raises:
            WireError: the instance is unknown, the generation old, or the revision not ours.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait_s, self._leases.ttl_s / 2)
        renewed = False
        with self._wakeups.taken(instance_id) as wakeup:
            while True:
                wakeup.clear()
                page, instance = await self._look(instance_id, generation)
                if not renewed:
                    await self._leases.renew(instance.record)
                    renewed = True
                answer = await self._answer(page, instance, after, credentials_after)
                left_s = deadline - loop.time()
                if answer is not None or left_s <= 0 or self._closing or is_gone():
                    return answer
                try:
                    async with asyncio.timeout(left_s):
                        await wakeup.wait()
                except TimeoutError:
                    continue

    async def _look(
        self, instance_id: str, generation: int
    ) -> tuple[RangeResult, Found[InstanceRecord]]:
        """Return what is wanted of an instance, and then the instance."""
        page = await self._parts.store.range(records.assignments_prefix(instance_id))
        # Behind the assignments: whatever becomes of the instance later than this answer's
        # revision then counts as newer.
        try:
            instance = await self._registry.find(instance_id, generation)
        except InstanceUnknown:
            self._told.discard(instance_id)
            raise
        return page, instance

    async def _answer(
        self,
        page: RangeResult,
        instance: Found[InstanceRecord],
        after: int,
        credentials_after: int | None,
    ) -> Assignments | None:
        instance_id = instance.record.id
        if after and (after > page.revision or instance_id not in self._told):
            raise RevisionCompacted(
                f"revision {after} is not one that this process gave; ask again from 0"
            )
        changed = [kv for kv in page.items if kv.mod_revision > after]
        # Before payloads are built: what is issued meanwhile comes with the next answer.
        serial, issued = self._issued(instance_id, after, credentials_after)
        if after and not changed and not issued and instance.kv.mod_revision <= after:
            return None
        tasks, all_read = await self._assignments(changed)
        if not after:
            self._told.add(instance_id)
        return Assignments(
            revision=page.revision,
            # What cannot be read is not known to be unwanted: the agent must not stop it.
            # Nor is what the store may have forgotten.
            full=not after and all_read and not instance.record.recovering,
            instance_status=instance.record.status,
            tasks=tasks,
            history=self._history.current,
            credentials=issued,
            credentials_serial=serial,
        )

    def _issued(
        self, instance_id: str, after: int, credentials_after: int | None
    ) -> tuple[int, list[TaskCredentials]]:
        """Return the newest serial, and what the tasks of an instance were issued that it has not."""
        roles = self._parts.roles
        serial = roles.serial
        if credentials_after is None:
            return 0, []
        # Whoever asks for everything may be a process that has nothing.
        known = credentials_after if after and credentials_after <= serial else 0
        return serial, [
            TaskCredentials(
                task_arn=issued.task_arn,
                role_type=issued.role_type,
                credentials=issued.credentials,
            )
            for issued in roles.newer(instance_id, known)
        ]

    async def _assignments(self, rows: list[KeyValue]) -> tuple[list[Assignment], bool]:
        orders, all_read = await self._orders.read(rows)
        return [await self._assignment(order) for order in orders], all_read

    async def _assignment(self, order: AssignedTask) -> Assignment:
        assignment, arn = order.assignment, order.task.arn
        built = await self._orders.payload(order)
        if built is None:
            # What an agent that does not hold the task reports as unreadable.
            raw = msgspec.json.encode({"arn": arn, "desiredStatus": assignment.desired_status})
        else:
            raw = payload_model.encode(built)
        return Assignment(
            task_arn=arn,
            desired_status=assignment.desired_status,
            payload=msgspec.Raw(raw),
            stop_code=assignment.stop_code,
            stopped_reason=assignment.stopped_reason,
        )


def _readable(kv: KeyValue) -> AssignRecord | None:
    """Return an assignment; None for one that cannot be read, which must not hide the others."""
    try:
        return records.decode(AssignRecord, kv)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _log.error("assignment is unreadable", key=kv.key, error=str(error))
        return None
