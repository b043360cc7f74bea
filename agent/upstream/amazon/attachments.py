"""Network interfaces and volumes that Amazon ECS attaches to the host: expected, seen, reported.

::

    expect() ─► row, durable ─► ack (by the caller)
                  │
    run() ────────┴─ expected ∩ present ─► row + report, one transaction
                     at each device event and every 30 s; what does not arrive in time is dropped

Accesses the store (rows of kind ``attachment``, one per MAC address or volume id) and the host
through ``protocol.Hotplug``. If the store cannot be written, the attachment stays expected and is
tried again. Failures to list devices are logged now and then, and the timer continues. Nothing runs
while nothing is expected. Reports go through the outbox, which sends them until Amazon ECS has
accepted them.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/session``, ``agent/eni/watcher``, ``agent/ebs``.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
import structlog
from msgspec import Struct, field

from agent.errors import AgentError, StateFailure
from agent.model.changes import AttachmentChange, TaskChange
from agent.model.liveness import WORK_S, Liveness
from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from agent.state import StateStore
    from agent.upstream.protocol import Hotplug

Kind: TypeAlias = Literal["task-eni", "instance-eni", "ebs"]

ROW: Final = "attachment"
EBS_TYPE: Final = "amazonebs"
"""``AttachmentChange.type`` of a volume; the default is the type of an interface."""
RECONCILE_S: Final = 30.0
"""Interval of full comparisons while something is expected, besides those at events."""
LONGEST_WAIT_S: Final = 86_400.0
"""Upper limit for a wait that control requests, so that no row stays for ever."""
PENDING_LIMIT: Final = 1000
"""Maximum number of expected attachments; above it, the one that expires first is dropped."""

_SETTLE_S: Final = 0.1
"""Events come in bursts (a link is created, renamed, set up); they are handled together."""
_LIST_LIMIT_S: Final = 10.0
_REMIND_S: Final = 300.0

_log = structlog.get_logger()


class ExpectedAttachment(Struct, frozen=True, kw_only=True):
    """Something that control says is being attached."""

    kind: Kind
    key: str
    """MAC address in lower case, or volume id (``vol-...``)."""
    attachment_arn: str
    task_arn: str = ""
    """Empty if it belongs to the host."""
    expires_at: float
    """Unix time after which its arrival is no longer reported."""
    seen_as: str = ""
    """What appears on the host, if not ``key``: the MAC of the trunk of a branch interface."""
    details: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The identity of the device whose presence shows that it is attached."""
        return self.seen_as or self.key


class AttachmentState(Struct, frozen=True, kw_only=True):
    """State of one attachment: the row in the store, also shown to operators."""

    expected: ExpectedAttachment
    attached_at: float = 0.0
    """Unix time at which it was seen and its report stored; 0 while it is expected."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AttachmentState).decode


async def read_rows(store: StateStore) -> list[AttachmentState]:
    """Return what an earlier process awaited or reported, oldest first.

    Raises:
        StateFailure: the store cannot be read.
    """
    return list((await store.load(ROW, _decode)).values())


class Attachments:
    """Everything that Amazon ECS attached or is attaching. Belongs to one event loop."""

    def __init__(
        self,
        store: StateStore,
        rows: Iterable[AttachmentState],
        *,
        links: Hotplug,
        disks: Hotplug,
        clock: Callable[[], float] = time.time,
        knows: Callable[[str], bool] = lambda _task_arn: False,
        reconcile_s: float = RECONCILE_S,
    ) -> None:
        """Take the parts and the rows of an earlier process; nothing is watched before ``run``.

        Args:
            store: holds the rows and the reports.
            rows: what the store has of them, see ``read_rows``.
            links: MAC addresses of the host's links.
            disks: ids of the attached volumes.
            clock: Unix time.
            knows: whether the host holds a task; rows of such tasks are kept.
            reconcile_s: interval of full comparisons while something is expected.
        """
        self.liveness = Liveness("attachments")
        self._store = store
        self._sources: tuple[tuple[Hotplug, tuple[Kind, ...]], ...] = (
            (links, ("task-eni", "instance-eni")),
            (disks, ("ebs",)),
        )
        self._clock = clock
        self._knows = knows
        self._reconcile_s = reconcile_s
        self._rows: dict[str, AttachmentState] = {}
        self._deadlines: dict[str, float] = {}
        """Deadlines by key, in the event loop's time, so that changes of the wall clock have no
        effect."""
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self._logged_at: dict[str, float] = {}
        for row in rows:
            self._remember(row)

    @property
    def views(self) -> list[AttachmentState]:
        """Everything that is expected or attached, oldest first."""
        return list(self._rows.values())

    async def expect(self, expected: ExpectedAttachment) -> None:
        """Expect an attachment; durable when this returns. Idempotent.

        The same attachment again changes nothing: neither its deadline nor, once sent, its report.
        A different attachment with the same key replaces it.

        Raises:
            StateFailure: it could not be stored; the caller must not acknowledge it.
        """
        async with self._lock:
            before = self._rows.get(expected.key)
            if before is not None and _same(before.expected, expected):
                return
            batch = Batch()
            self._make_room(batch)
            row = AttachmentState(expected=self._bounded(expected))
            batch.put(ROW, expected.key, _encode(row))
            # In memory first: a commit is carried out even if the wait for it is cancelled.
            self._remember(row)
            try:
                await self._store.commit(batch)
            except StateFailure:
                self._forget(expected.key)
                if before is not None:
                    self._remember(before)
                raise
        self._news.set()

    async def run(self) -> None:
        """Match present devices with expected ones until cancelled."""
        try:
            while True:
                self._news.clear()
                await self._reconcile()
                if self._deadlines:
                    await self._pause()
                else:
                    await self._rest()
                    with self.liveness.resting("nothing is being attached"):
                        await self._news.wait()
        finally:
            self.liveness.rest()
            await self._rest()

    # --- matching -----------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        with self.liveness.within(2 * _LIST_LIMIT_S + WORK_S, "looking for attachments"):
            await self._drop_late()
            for source, kinds in self._sources:
                if self._awaited(kinds):
                    there = await self._list(source, kinds)
                    if there is not None:
                        await self._match(there, kinds)

    async def _match(self, there: frozenset[str], kinds: tuple[Kind, ...]) -> None:
        """Report what is expected and present; forget attached ones that are no longer needed."""
        now = asyncio.get_running_loop().time()
        rows = [row for row in self._rows.values() if row.expected.kind in kinds]
        gone = [
            row
            for row in rows
            if row.attached_at
            and row.expected.device not in there
            and not self._knows(row.expected.task_arn)
        ]
        await self._drop(gone, "attachments are gone")
        for row in rows:
            key = row.expected.key
            is_there = row.expected.device in there
            if not row.attached_at and is_there and now < self._deadlines.get(key, now):
                await self._report(row)

    async def _report(self, row: AttachmentState) -> None:
        """Store that it is attached, together with the report about it."""
        expected = row.expected
        async with self._lock:
            if self._rows.get(expected.key) is not row:
                return  # replaced in the meantime
            at = self._clock()
            done = msgspec.structs.replace(row, attached_at=at)
            batch = Batch()
            batch.put(ROW, expected.key, _encode(done))
            batch.enqueue(_change(expected, at))
            try:
                await self._store.commit(batch)
            except StateFailure as error:
                self._trouble("attachment not stored", error)
                return
            self._remember(done)
        _log.info("attached", kind=expected.kind, key=expected.key, task=expected.task_arn)

    async def _drop_late(self) -> None:
        now = asyncio.get_running_loop().time()
        late = [self._rows[key] for key, end in self._deadlines.items() if end <= now]
        await self._drop(late, "attachments did not arrive in time")

    async def _drop(self, rows: list[AttachmentState], why: str) -> None:
        """Forget these rows, except those that were replaced in the meantime."""
        if not rows:
            return
        async with self._lock:
            batch = Batch()
            for row in rows:
                if self._rows.get(row.expected.key) is row:
                    self._forget(row.expected.key)
                    batch.delete(ROW, row.expected.key)
            try:
                await self._store.commit(batch)
            except StateFailure as error:
                # The next process loads them and handles them again.
                self._trouble("attachments not removed", error)
        first = rows[0].expected
        _log.info(why, count=len(rows), kind=first.kind, key=first.key, task=first.task_arn)

    async def _list(self, source: Hotplug, kinds: tuple[Kind, ...]) -> frozenset[str] | None:
        try:
            async with asyncio.timeout(_LIST_LIMIT_S):
                return await source.present()
        except (AgentError, OSError) as error:
            self._trouble(f"cannot list attached devices ({kinds[0]})", error)
            return None

    # --- waiting ------------------------------------------------------------------------------

    async def _pause(self) -> None:
        """Wait for a device, a new expectation, a deadline, or the next comparison."""
        loop = asyncio.get_running_loop()
        wait_s = min(self._reconcile_s, min(self._deadlines.values()) - loop.time())
        waits: list[Coroutine[Any, Any, object]] = [self._news.wait()]
        for source, kinds in self._sources:
            if self._awaited(kinds):
                waits.append(self._changed(source, kinds))
            else:
                await source.rest()
        with self.liveness.within(self._reconcile_s + WORK_S, "waiting for attachments"):
            await _first_of(waits, max(0.0, wait_s))
            await asyncio.sleep(_SETTLE_S)

    async def _changed(self, source: Hotplug, kinds: tuple[Kind, ...]) -> None:
        try:
            await source.changed()
        except (AgentError, OSError) as error:
            self._trouble(f"cannot watch attached devices ({kinds[0]})", error)
            await asyncio.sleep(self._reconcile_s)

    async def _rest(self) -> None:
        for source, _ in self._sources:
            await source.rest()

    # --- memory -------------------------------------------------------------------------------

    def _remember(self, row: AttachmentState) -> None:
        key = row.expected.key
        self._rows[key] = row
        if row.attached_at:
            self._deadlines.pop(key, None)
        else:
            left_s = min(row.expected.expires_at - self._clock(), LONGEST_WAIT_S)
            self._deadlines[key] = asyncio.get_running_loop().time() + left_s

    def _forget(self, key: str) -> None:
        self._rows.pop(key, None)
        self._deadlines.pop(key, None)

    def _bounded(self, expected: ExpectedAttachment) -> ExpectedAttachment:
        latest = self._clock() + LONGEST_WAIT_S
        # Written this way so that NaN becomes the latest, too.
        end = max(0.0, expected.expires_at) if expected.expires_at < latest else latest
        return msgspec.structs.replace(expected, expires_at=end)

    def _make_room(self, batch: Batch) -> None:
        if len(self._deadlines) < PENDING_LIMIT:
            return
        key = min(self._deadlines, key=self._deadlines.__getitem__)
        self._forget(key)
        batch.delete(ROW, key)
        self._trouble("too many attachments are expected, one was dropped", None)

    def _awaited(self, kinds: tuple[Kind, ...]) -> bool:
        return any(self._rows[key].expected.kind in kinds for key in self._deadlines)

    def _trouble(self, what: str, error: Exception | None) -> None:
        """Log a problem, and repeat the same one only after a while."""
        now = time.monotonic()
        if now - self._logged_at.get(what, -_REMIND_S) < _REMIND_S:
            return
        self._logged_at[what] = now
        _log.warning(what, error=_words(error))


def _same(one: ExpectedAttachment, other: ExpectedAttachment) -> bool:
    return (one.kind, one.attachment_arn, one.task_arn) == (
        other.kind,
        other.attachment_arn,
        other.task_arn,
    )


def _change(expected: ExpectedAttachment, at: float) -> TaskChange:
    """Return the report of an arrival. A volume is reported for the host, even one of a task."""
    attachment = AttachmentChange(
        id=expected.attachment_arn, status="ATTACHED", details=expected.details
    )
    task_arn = expected.task_arn
    if expected.kind == "ebs":
        attachment = msgspec.structs.replace(attachment, type=EBS_TYPE)
        task_arn = ""
    return TaskChange(
        id=uuid.uuid4().hex, task_arn=task_arn, status="", at=at, attachments=[attachment]
    )


def _words(error: Exception | None) -> str:
    if error is None:
        return ""
    return str(error) or type(error).__name__


async def _first_of(waits: Iterable[Coroutine[Any, Any, object]], limit_s: float) -> None:
    """Return once one of them has returned or the time is up; cancels the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
