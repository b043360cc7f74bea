"""Held polls: the tasks that an instance should run, all of them or those changed since a revision.

These are the keys under ``/assign/<instance>/``; nothing else is stored per agent. A response after
revision R has the assignments that changed later than R, read from the current store, so that no
history is needed. A task leaves the set when its STOPPED was reported.

Revisions are only valid within one run of this process: the store may have been replaced by an older
copy in between, and then the same number means another state. So an agent that this process has not
seen yet gets the full set first.

Tests: ``tests/unit/controlplane/agents/test_agents.py``,
``tests/unit/controlplane/agents/amazon/test_orders.py``.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog

from agent.controlplane import access, records
from agent.controlplane.agents.bound_hosts import NotItsHost
from agent.controlplane.agents.held_polls import HeldPolls
from agent.controlplane.agents.longpoll.errors import InstanceUnknown, RevisionCompacted
from agent.controlplane.agents.quiet_polls import TICK_S
from agent.controlplane.agents.wakeups import Quiet
from agent.controlplane.definition import overrides, payload
from agent.controlplane.recent import Recent
from agent.controlplane.records import AssignRecord, TaskDefinitionRecord, TaskRecord
from agent.errors import BAD_JSON
from agent.model import payload as payload_model
from agent.model.payload import Credentials, RoleType
from agent.model.wire import Assignment, Assignments, TaskCredentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.agents.bindings import Shown
    from agent.controlplane.agents.leases import Leases
    from agent.controlplane.agents.registration import InstanceRegistry
    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.discovery.feed import NamesOfHosts
    from agent.controlplane.fleet_network.peers import FleetPeers
    from agent.controlplane.history import History
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.security_groups.group_view import GroupsOfHosts
    from agent.controlplane.store.contract import KeyValue, RangeResult
    from agent.model.payload import TaskPayload

_REMEMBERED_DEFINITIONS = 512
_SHORTEST: Final = 0.5
"""What part of its time a poll is held at least after it had news."""

_log = structlog.get_logger(__name__)


class AssignedTask(NamedTuple):
    """One assignment as it was read, and its task."""

    row: KeyValue
    assignment: AssignRecord
    task: TaskRecord


class AssignmentReader:
    """Reads assignments and builds payloads from them, for both protocols."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._definitions: dict[str, TaskDefinitionRecord] = {}

    async def read(self, rows: list[KeyValue]) -> tuple[list[AssignedTask], bool]:
        """Return the orders, and whether every row and its task could be read.

        Orders to stop come first, each kind in the order of revisions. Tasks that are already STOPPED
        are left out.
        """
        read = [(kv, row) for kv in rows if (row := _readable(kv)) is not None]
        keys = [records.task_key(a.cluster, records.last_element(kv.key)) for kv, a in read]
        tasks = await access.find_many(self._parts.store, TaskRecord, keys)
        found = []
        for key, (kv, assignment) in zip(keys, read, strict=True):
            task = tasks.get(key)
            if task is not None and task.record.last_status != "STOPPED":
                found.append(AssignedTask(kv, _decided(assignment, task.record), task.record))
        found.sort(
            key=lambda one: (one.assignment.desired_status != "STOPPED", one.row.mod_revision)
        )
        return found, len(read) == len(rows) and all(key in tasks for key in keys)

    async def payload(self, order: AssignedTask, *, takes_logs: bool = True) -> TaskPayload | None:
        """Return the payload of an order, for an agent that takes logs to control or does not.

        None if it cannot be built, which is logged, and for a task that was taken over from its
        agent's report, because the agent has the payload.
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
                keeps_logs=takes_logs and self._parts.keeps_logs,
                credentials=self._credentials(task),
                variables=self._variables(task),
            )
        except (LookupError, TypeError, ValueError, overrides.OverrideError) as error:
            _log.error("payload cannot be built", task=task.arn, error=repr(error))
            return None

    def _variables(self, task: TaskRecord) -> Mapping[str, str]:
        """Return what tells the SDKs in a task where this control endpoint is, if its role is kept here."""
        role, directory = task.roles.get(RoleType.APPLICATION), self._parts.directory
        if role is None or directory is None or directory.role(role.arn) is None:
            return {}
        return self._parts.task_variables

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


class Asked(NamedTuple):
    """What a poll asks."""

    generation: int
    """Of the registration of its host."""
    shown: Shown
    """What the call shows of its host."""
    after: int
    """The revision that it has seen."""
    credentials_after: int | None = None
    """Serial of the newest credentials that it has; None if it only takes those in payloads."""


class Poller:
    """Answers polls; any number of polls can be held concurrently."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        *,
        parts: Parts,
        registry: InstanceRegistry,
        leases: Leases,
        wakeups: WakeUps,
        orders: AssignmentReader,
        history: History,
        groups: GroupsOfHosts,
        fleet: FleetPeers,
        names: NamesOfHosts,
    ) -> None:
        self._fleet = fleet
        self._names = names
        self._parts = parts
        self._groups = groups
        self._history = history
        self._registry = registry
        self._leases = leases
        self._wakeups = wakeups
        self._orders = orders
        self._told: Recent[str, None] = Recent()
        """Instances that got their full set from this process."""
        self.held = HeldPolls()
        """All that are held, by instance."""
        self._draw = random.Random()  # noqa: S311 - it spreads load
        self._closing = False

    def close(self) -> None:
        """Answer every held poll now, and later ones without holding them."""
        self._closing = True
        self._wakeups.wake_all()

    async def poll(
        self,
        instance_id: str,
        asked: Asked,
        *,
        wait_s: float,
        is_gone: Callable[[], bool],
        waited_s: float | None = None,
    ) -> Assignments | None:
        """Return what changed after a revision; waits for it, and returns None if nothing changed.

        The call renews the instance's lease; holding it does not: if a host loses its power, its
        connection looks the same as before. So a poll is held for half a lease at most, and a live
        agent makes the next one in time. The first poll after news is held for a shorter time, by chance: hosts
        that were told something together do not come back together for ever.

        Args:
            instance_id: the calling instance.
            asked: what the call asks.
            wait_s: how long to wait at most.
            is_gone: returns whether the caller has closed the connection.
            waited_s: how long the poll was held already, among ``QuietPolls``; None for a new call.

        Raises:
            WireError: the instance is unknown, or the generation or the revision is not valid.
        """
        loop = asyncio.get_running_loop()
        began, held_s = loop.time() - (waited_s or 0), self.held_s(wait_s)
        renewed = waited_s is not None
        with (
            self._wakeups.taken(instance_id) as wakeup,
            self._registry.incumbents.holding(instance_id, is_gone) as held,
            self.held.entered(instance_id, wakeup) as place,
        ):
            while True:
                wakeup.clear()
                quiet = None if renewed else self._known_quiet(instance_id, asked)
                if quiet is not None:
                    self._registry.incumbents.heard(instance_id)
                    answer = None
                else:
                    # What it reads is not kept in memory while the poll is held.
                    answer = await self._read(instance_id, asked, wakeup, is_new=not renewed)
                if not renewed and (quiet is None or quiet.had_news):
                    held_s *= self._draw.uniform(_SHORTEST, 1)
                renewed = True
                left_s = began + held_s - loop.time()
                is_over = held.is_ended or place.is_over or self._closing or is_gone()
                if answer is not None or left_s <= 0 or is_over:
                    if answer is not None:
                        self._wakeups.answered(instance_id)
                    return answer
                if not wakeup.is_set():
                    self._wakeups.rest(instance_id, Quiet(asked))
                # Not a timeout: that is a cancellation, which costs more than all else of a quiet poll.
                end = loop.call_at(math.ceil((loop.time() + left_s) / TICK_S) * TICK_S, wakeup.set)
                try:
                    await wakeup.wait()
                finally:
                    end.cancel()
                if loop.time() >= end.when() and self._wakeups.quiet(instance_id, asked):
                    # Nothing else woke it, so there is nothing new: most polls of a quiet fleet end here.
                    return None

    def held_s(self, wait_s: float) -> float:
        """Return how long a poll is held that asks for ``wait_s``."""
        return min(wait_s, self._leases.ttl_s / 2)

    def may_rest(self, instance_id: str, asked: Asked) -> bool:
        """Return whether a new poll surely finds nothing new, and renew the lease of its host if so."""
        quiet = self._known_quiet(instance_id, asked)
        return quiet is not None and not quiet.had_news

    def _known_quiet(self, instance_id: str, asked: Asked) -> Quiet | None:
        """Return what is known of a poll for which nothing need be read, and renew its lease; else None.

        So it is for most polls of a quiet fleet. What changes from now on wakes the poll.
        """
        quiet = self._wakeups.quiet(instance_id, asked)
        if quiet is None or self._parts.commands.is_calling(instance_id):
            return None  # sessions are told again after a time, and nothing wakes for that
        if not self._leases.renew_soon(instance_id, asked.generation):
            return None
        return quiet

    async def _read(
        self, instance_id: str, asked: Asked, wakeup: asyncio.Event, *, is_new: bool
    ) -> Assignments | None:
        """Look for news; for a new poll, renew the lease."""
        page, instance = await self._look(instance_id, asked.generation, asked.shown)
        if is_new:
            self._registry.incumbents.heard(instance_id)
        if is_new or not self._leases.is_known(instance_id):
            await self._leases.renew(instance.record)
        answer = await self._answer(page, instance, asked.after, asked.credentials_after)
        if (
            answer is not None
            and not answer.commands
            and not wakeup.is_set()
            and instance.kv.mod_revision <= answer.revision
        ):
            # There is nothing newer than this answer, so the agent's next poll need not look.
            serial = None if asked.credentials_after is None else answer.credentials_serial
            after = asked._replace(after=answer.revision, credentials_after=serial)
            self._wakeups.rest(instance_id, Quiet(after, had_news=True))
        return answer

    async def _look(
        self, instance_id: str, generation: int, shown: Shown
    ) -> tuple[RangeResult, Found[InstanceRecord]]:
        """Return the assignments of an instance, and then the instance."""
        page = await self._parts.store.range(records.assignments_prefix(instance_id))
        # Read it after the assignments: any later change of the instance then counts as newer than
        # the revision of this response.
        try:
            instance = await self._registry.find(instance_id, generation, shown)
        except NotItsHost:
            raise  # that must change nothing for its host
        except InstanceUnknown:
            self._told.pop(instance_id, None)
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
                f"revision {after} was not sent by this process; ask again from 0"
            )
        changed = [kv for kv in page.items if kv.mod_revision > after]
        # Before payloads are built: what is issued meanwhile comes with the next answer.
        serial, issued = self._issued(instance_id, after, credentials_after)
        # After the assignments were read: the groups of each of their tasks are among these.
        groups = await self._groups.updates(instance_id, after)
        fleet = await self._fleet.update(instance_id, after)
        names = await self._names.updates(after)
        commands = self._parts.commands.orders(instance_id)
        if (
            after
            and not commands
            and not changed
            and not issued
            and groups is None
            and fleet is None
            and names is None
            and instance.kv.mod_revision <= after
        ):
            return None
        tasks, all_read = await self._assignments(changed)
        if not after:
            self._told[instance_id] = None
        return Assignments(
            revision=page.revision,
            # The agent stops tasks that are not in a full set. So the set is not full if something
            # could not be read, or if the store may have lost something.
            full=not after and all_read and not instance.record.recovering,
            instance_status=instance.record.status,
            tasks=tasks,
            history=self._history.current,
            credentials=issued,
            credentials_serial=serial,
            security_groups=groups,
            fleet=fleet,
            names=names,
            commands=commands,
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
            # An agent that does not have the task reports this payload as unreadable.
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


def _decided(assignment: AssignRecord, task: TaskRecord) -> AssignRecord:
    """Return an order as it is wanted by now.

    A task whose agent has reported the end of an essential container ends by itself, without an order. An agent
    that has lost its state since must not begin it again.
    """
    if assignment.desired_status == "STOPPED":
        return assignment
    wanted = AssignRecord.of(task)
    return wanted if wanted.desired_status == "STOPPED" else assignment


def _readable(kv: KeyValue) -> AssignRecord | None:
    """Return an assignment; None if it cannot be read, so that it does not hide the others."""
    try:
        return records.decode(AssignRecord, kv)
    except BAD_JSON as error:
        _log.error("assignment is unreadable", key=kv.key, error=str(error))
        return None
