"""Credentials for the roles of tasks: one coroutine for each role of each task, from start to end.

::

    assignment put ──► task read ──► asked ──► issued: its instance is woken ──► renewed in time ─┐
                                      ▲ └─ away: again, later each time              ▲────────────┘
                                      │    refused: again for a while, then the task stops, unless
                                      └─────── it runs                     assignment gone ──► forgotten

What to do follows from the assignments in the store, read whole at the start and watched from there. New
tasks and renewals are asked for side by side, a few at once of each: after a restart, thousands
of renewals hold up nobody's first.

Credentials are renewed half an hour to a quarter before they expire, of short ones halfway, each at a time
of its own. Time is taken from the steady clock and from that of AWS, whichever comes first.

Tests: ``tests/unit/controlplane/roles/test_issuer.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import AssignRecord, RoleRecord, TaskRecord
from agent.controlplane.roles import words
from agent.controlplane.roles.contract import Issued, RoleAwaited, RoleRefused
from agent.controlplane.store.contract import Compacted, StoreFailure
from agent.controlplane.tasks.changes import FAILED_TO_START
from agent.controlplane.tasks.stopping import order_stop
from agent.errors import BAD_JSON
from agent.model.payload import RoleType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.controlplane.roles.contract import Assume, Assumed
    from agent.controlplane.roles.local import LocalRoles
    from agent.controlplane.store.contract import KeyValue, Store

NEW_AT_ONCE: Final = 8
RENEWED_AT_ONCE: Final = 4
"""How many calls of STS are made side by side."""
AHEAD_S: Final = (900.0, 1800.0)
"""Shortest and longest time before its expiry at which a credential is renewed. Source: the ECS
developer guide has them renewed well before; Amazon's agent sees new ones every half hour or so."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
REFUSED_FOR_S: Final = 15.0
"""How long a role is refused before its task stops: a role or policy that was made just now is known to
all of AWS after some seconds."""
LOOK_S: Final = 60.0
"""The longest sleep: clocks are set, and hosts sleep."""
_REMIND_S: Final = 300.0
_REMEMBERED: Final = 1000
_RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


class _Role:
    """One role of one task; shows no secret."""

    __slots__ = (
        "arn",
        "cluster",
        "credentials_id",
        "instance_id",
        "issued",
        "refused_since",
        "role_type",
        "started",
        "task_arn",
        "task_id",
        "trouble",
    )

    def __init__(
        self, task: TaskRecord, instance_id: str, role_type: RoleType, role: RoleRecord
    ) -> None:
        self.task_id = task.id
        self.task_arn = task.arn
        self.cluster = task.cluster
        self.instance_id = instance_id
        self.role_type = role_type
        self.arn = role.arn
        self.credentials_id = role.credentials_id
        self.started = bool(task.started_at)
        self.issued: Issued | None = None
        self.trouble = ""
        self.refused_since: float | None = None


class _Task:
    """A task with roles, and what runs for each of them."""

    __slots__ = ("instance_id", "roles", "work")

    def __init__(self, instance_id: str, roles: list[_Role]) -> None:
        self.instance_id = instance_id
        self.roles: dict[str, _Role] = {role.role_type: role for role in roles}
        self.work: list[asyncio.Task[None]] = []


class RoleIssuer:
    """Issues credentials; implements ``contract.RoleSource``. One per store, for one event loop."""

    def __init__(
        self,
        store: Store,
        assume: Assume,
        *,
        wake: Callable[[str], None],
        clock: Callable[[], float],
        local: LocalRoles | None = None,
        dice: random.Random | None = None,
    ) -> None:
        """Take what to work with; ``run`` must run.

        Args:
            store: where the tasks are.
            assume: gives credentials of roles of AWS.
            wake: is told the id of an instance for which there is something new.
            clock: Unix seconds.
            local: gives those of roles that are kept here; None where there are none.
            dice: spreads what would come at one moment.
        """
        self._store = store
        self._assume = assume
        self._local = local
        self._wake = wake
        self._clock = clock
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._tasks: dict[str, _Task] = {}
        self._of_instance: defaultdict[str, set[str]] = defaultdict(set)
        self._new = asyncio.Semaphore(NEW_AT_ONCE)
        self._renewed = asyncio.Semaphore(RENEWED_AT_ONCE)
        self._logged: dict[str, float] = {}
        self.serial = 0
        """That of what was issued last."""

    def __repr__(self) -> str:
        return f"RoleIssuer({len(self._tasks)} tasks)"

    # -- what others ask ----------------------------------------------------------------------

    def current(self, task_id: str, role_type: str) -> Issued | None:
        """Return the credentials of a task's role; None while there are none that are valid."""
        task = self._tasks.get(task_id)
        role = task.roles.get(role_type) if task is not None else None
        if role is None or role.issued is None or role.issued.expires_at <= self._assume.now():
            return None
        return role.issued

    def newer(self, instance_id: str, after: int) -> list[Issued]:
        """Return what an instance's tasks were issued after a serial, oldest first."""
        if after >= self.serial:
            return []
        found = [
            role.issued
            for task_id in self._of_instance.get(instance_id, ())
            for role in self._tasks[task_id].roles.values()
            if role.issued is not None and role.issued.serial > after
        ]
        return sorted(found, key=lambda issued: issued.serial)

    def waiting(self, task_id: str) -> str:
        """Return why a task has not got its credentials, for a person; empty for no reason."""
        task = self._tasks.get(task_id)
        if task is None:
            return ""
        return next((role.trouble for role in task.roles.values() if role.issued is None), "")

    async def problem(self, role_type: str, role: str) -> str:
        """Return why a role of a task cannot be assumed, with the mend; empty where it may be."""
        if self._local is not None and self._local.has(role_type, role):
            return ""
        return await self._assume.problem()

    # -- which tasks there are ----------------------------------------------------------------

    async def run(self) -> None:
        """Issue until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._follow(group)
                except Compacted:
                    _log.warning("role credentials fell behind; reading all tasks again")
                except StoreFailure as error:
                    _log.warning("role credentials wait for the store", error=str(error))
                    await asyncio.sleep(_RETRY_S)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        watch = self._store.watch(records.ASSIGNMENTS, after_revision=self._store.revision)
        async with watch:
            await self._read_all(group)
            async for batch in watch:
                # What was put first: a task that moved is then known where it is now.
                newest = {event.kv.key: event for event in batch.events}
                put = [event.kv for event in newest.values() if event.type == "put"]
                await self._learn(put, group)
                for event in newest.values():
                    if event.type == "delete":
                        self._gone(*_place(event.kv.key))

    async def _read_all(self, group: asyncio.TaskGroup) -> None:
        there: set[str] = set()
        after: str | None = None
        more = True
        while more:
            page = await self._store.range(
                records.ASSIGNMENTS, start_after=after, limit=access.SCAN_PAGE
            )
            there.update(records.last_element(kv.key) for kv in page.items)
            await self._learn(page.items, group)
            more = page.more
            after = page.items[-1].key if page.items else after
        for task_id in self._tasks.keys() - there:
            self._forget(task_id)

    async def _learn(self, rows: Iterable[KeyValue], group: asyncio.TaskGroup) -> None:
        """Take note of assignments that were put."""
        unknown: dict[str, str] = {}
        for kv in rows:
            try:
                assignment = records.decode(AssignRecord, kv)
            except BAD_JSON:
                continue  # whoever gives it out has logged it
            if not assignment.has_roles:
                continue
            instance_id, task_id = _place(kv.key)
            known = self._tasks.get(task_id)
            if known is None:
                unknown[records.task_key(assignment.cluster, task_id)] = instance_id
            elif known.instance_id != instance_id:
                self._moved(known, task_id, instance_id)
            elif assignment.desired_status == "STOPPED":
                self._stops(task_id, known)
        for key, found in (await access.find_many(self._store, TaskRecord, unknown)).items():
            task = found.record
            if task.last_status != "STOPPED" and (
                task.desired_status != "STOPPED" or task.started_at
            ):
                self._begin(task, unknown[key], group)

    def _begin(self, task: TaskRecord, instance_id: str, group: asyncio.TaskGroup) -> None:
        roles = [
            _Role(task, instance_id, RoleType(kind), role)
            for kind, role in task.roles.items()
            if kind in set(RoleType)
        ]
        begun = self._tasks[task.id] = _Task(instance_id, roles)
        self._of_instance[instance_id].add(task.id)
        begun.work = [
            group.create_task(self._keep(role), name=f"role of {task.id}") for role in roles
        ]

    def _moved(self, known: _Task, task_id: str, instance_id: str) -> None:
        """Give another instance what the task was issued: it goes on there."""
        self._leave(known.instance_id, task_id)
        known.instance_id = instance_id
        self._of_instance[instance_id].add(task_id)
        for role in known.roles.values():
            role.instance_id = instance_id
            if role.issued is not None:
                self._issue(role, role.issued)

    def _stops(self, task_id: str, known: _Task) -> None:
        """Ask no more for a task that is to stop and has got nothing yet."""
        if all(role.issued is None and not role.started for role in known.roles.values()):
            self._forget(task_id)

    def _gone(self, instance_id: str, task_id: str) -> None:
        known = self._tasks.get(task_id)
        if known is not None and known.instance_id == instance_id:
            self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        known = self._tasks.pop(task_id)
        self._leave(known.instance_id, task_id)
        for work in known.work:
            work.cancel()

    def _leave(self, instance_id: str, task_id: str) -> None:
        tasks = self._of_instance[instance_id]
        tasks.discard(task_id)
        if not tasks:
            del self._of_instance[instance_id]

    # -- the life of one role -----------------------------------------------------------------

    async def _keep(self, role: _Role) -> None:
        """Ask for the credentials of a role, and renew them, until cancelled or given up."""
        failures = 0
        while True:
            is_new = role.issued is None and not role.started
            try:
                async with self._new if is_new else self._renewed:
                    found = await self._assumed(role)
            except RoleRefused as error:
                if await self._is_given_up(role, error):
                    return
                failures += 1
            except RoleAwaited as error:
                role.refused_since = None
                self._note(role, str(error))
                failures += 1
            except Exception as error:  # noqa: BLE001 - what one role trips must not end the others
                _log.exception("role not assumed", role=role.arn, task=role.task_arn)
                self._note(role, f"control failed ({type(error).__name__}); its log says why")
                failures += 1
            else:
                failures = 0
                await self._renewal_is_due(self._take(role, found))
                continue
            await asyncio.sleep(self._wait_s(failures))

    async def _assumed(self, role: _Role) -> Assumed:
        if self._local is not None and self._local.has(role.role_type, role.arn):
            return await self._local.assume(role.arn, role.task_id)
        return await self._assume.assume(role.arn, role.task_id)

    def _take(self, role: _Role, found: Assumed) -> float:
        """Issue what came; return for how many seconds it is good."""
        if role.trouble:
            _log.info("role assumed", task=role.task_arn, role=role.arn)
        role.trouble, role.refused_since = "", None
        issued = Issued(
            serial=0,
            task_id=role.task_id,
            task_arn=role.task_arn,
            role_type=role.role_type,
            credentials=replace(found.credentials, credentials_id=role.credentials_id),
            expires_at=found.expires_at,
        )
        self._issue(role, issued)
        return max(0.0, found.expires_at - self._assume.now())

    def _issue(self, role: _Role, issued: Issued) -> None:
        self.serial += 1
        role.issued = replace(issued, serial=self.serial)
        self._wake(role.instance_id)

    async def _renewal_is_due(self, valid_s: float) -> None:
        """Return when credentials that are valid for so long are to be renewed."""
        ahead_s = self._dice.uniform(*ahead_of_expiry(valid_s))
        steady = asyncio.get_running_loop().time
        # Never at once again, however soon they expire.
        wait_s = max(valid_s - ahead_s, FIRST_WAIT_S)
        at, at_steady = self._assume.now() + wait_s, steady() + wait_s
        while True:
            left_s = min(at - self._assume.now(), at_steady - steady())
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, LOOK_S))

    async def _is_given_up(self, role: _Role, refusal: RoleRefused) -> bool:
        """Note that a role is refused; tell whether its task is ordered to stop for it."""
        now = asyncio.get_running_loop().time()
        role.refused_since = now if role.refused_since is None else role.refused_since
        self._note(role, str(refusal))
        if role.started or role.issued is not None or now - role.refused_since < REFUSED_FOR_S:
            return False
        try:
            task = await order_stop(
                self._store,
                role.cluster,
                role.task_id,
                code=FAILED_TO_START,
                reason=words.refused(role.role_type, role.arn, str(refusal), refusal.mend),
                now=self._clock(),
                only_if=lambda task: not task.started_at,
            )
        except StoreFailure as error:
            _log.warning("task cannot be stopped now", task=role.task_arn, error=str(error))
            return False
        role.started = task is not None and bool(task.started_at)
        return not role.started

    def _note(self, role: _Role, told: str) -> None:
        """Keep why a role is waited for; log it once in a while."""
        role.trouble = words.awaited(role.role_type, role.arn, told)
        now = asyncio.get_running_loop().time()
        if now - self._logged.get(role.arn, -_REMIND_S) >= _REMIND_S:
            if len(self._logged) >= _REMEMBERED:
                self._logged.clear()
            self._logged[role.arn] = now
            _log.warning(
                "role not assumed; trying again", role=role.arn, task=role.task_arn, error=told
            )

    def _wait_s(self, failures: int) -> float:
        whole = min(FIRST_WAIT_S * 2.0 ** min(failures - 1, 16), LONGEST_WAIT_S)
        return whole * self._dice.uniform(0.75, 1.0)


def ahead_of_expiry(valid_s: float) -> tuple[float, float]:
    """Return the shortest and the longest time before its expiry to renew what is valid for so long."""
    shortest, longest = AHEAD_S
    return min(shortest, valid_s / 4), min(longest, valid_s / 2)


def _place(key: str) -> tuple[str, str]:
    """Return the instance and the task of an assignment's key."""
    instance_id, task_id = key.split("/")[-2:]
    return instance_id, task_id
