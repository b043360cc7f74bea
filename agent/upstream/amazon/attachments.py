"""Network interfaces and volumes that Amazon ECS attaches to the host: awaited, seen, reported.

::

    expect() ─► row, durable ─► ack (by the caller)
                  │
    run() ────────┴─ what is expected ∩ what is there ─► row + report, one transaction
                     again when something came, and every 30 s; what did not come in time is dropped

Touches the store (rows of kind ``attachment``, one per MAC address or volume id) and the host
through ``protocol.Hotplug``. A store that cannot be written leaves a thing awaited, and it is tried
again; trouble with the host's own lists is logged once in a while and the timer goes on. Nothing
runs while nothing is awaited. The submission itself is the outbox's, so that a report is sent
until Amazon ECS has taken it.

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
"""``AttachmentChange.type`` of a volume; an interface has the type of its default."""
RECONCILE_S: Final = 30.0
"""How often everything is compared while something is awaited, whatever events said."""
LONGEST_WAIT_S: Final = 86_400.0
"""A wait that control asks for is cut to this, so that no row stays for ever."""
PENDING_LIMIT: Final = 1000
"""More than this is never awaited at once; the one that ends first makes room."""

_SETTLE_S: Final = 0.1
"""Events come in bursts: a link is made, renamed, raised. They are answered together."""
_LIST_LIMIT_S: Final = 10.0
_REMIND_S: Final = 300.0

_log = structlog.get_logger()


class ExpectedAttachment(Struct, frozen=True, kw_only=True):
    """Something that control says is being attached."""

    kind: Kind
    key: str
    """MAC address in lower case, or the volume's id (``vol-...``)."""
    attachment_arn: str
    task_arn: str = ""
    """Empty where it belongs to the host."""
    expires_at: float
    """Unix time after which its arrival is no longer reported."""
    details: dict[str, str] = field(default_factory=dict)


class AttachmentState(Struct, frozen=True, kw_only=True):
    """What is known of one attachment; the row in the store, and what operators see."""

    expected: ExpectedAttachment
    attached_at: float = 0.0
    """Unix time at which it was seen and its report written down; 0 while it is awaited."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AttachmentState).decode


async def read_rows(store: StateStore) -> list[AttachmentState]:
    """Return what an earlier process awaited or reported, oldest first.

    Raises:
        StateFailure: the store cannot be read.
    """
    return list((await store.load(ROW, _decode)).values())


class Attachments:
    """Everything that Amazon ECS attached or is attaching. Lives on one event loop."""

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
        """Begin with rows of an earlier process; nothing is watched before ``run``.

        Args:
            store: holds the rows and the reports.
            rows: what the store has of them, see ``read_rows``.
            links: MAC addresses of the host's links.
            disks: ids of the volumes that are attached.
            clock: Unix time.
            knows: whether the host holds a task; a row of such a task is kept.
            reconcile_s: how often everything is compared while something is awaited.
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
        """Of what is awaited, by key, in the loop's time: setting the wall clock changes none."""
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self._logged_at: dict[str, float] = {}
        for row in rows:
            self._remember(row)

    @property
    def views(self) -> list[AttachmentState]:
        """Everything that is awaited or attached, oldest first."""
        return list(self._rows.values())

    async def expect(self, expected: ExpectedAttachment) -> None:
        """Await a thing; durable when this returns. Safe to repeat.

        The same attachment again changes nothing: neither its end nor, once reported, its report.
        Another attachment of the same thing takes its place.

        Raises:
            StateFailure: it could not be written down; the caller must not acknowledge it.
        """
        async with self._lock:
            before = self._rows.get(expected.key)
            if before is not None and _same(before.expected, expected):
                return
            batch = Batch()
            self._make_room(batch)
            row = AttachmentState(expected=self._bounded(expected))
            batch.put(ROW, expected.key, _encode(row))
            # First in memory: a commit whose wait is cancelled is carried out all the same.
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
        """Match arrivals with what is awaited until cancelled."""
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
        """Report what is there and awaited; forget what was attached and is of no use any more."""
        now = asyncio.get_running_loop().time()
        rows = [row for row in self._rows.values() if row.expected.kind in kinds]
        gone = [
            row
            for row in rows
            if row.attached_at
            and row.expected.key not in there
            and not self._knows(row.expected.task_arn)
        ]
        await self._drop(gone, "attachments are gone")
        for row in rows:
            key = row.expected.key
            if not row.attached_at and key in there and now < self._deadlines.get(key, now):
                await self._report(row)

    async def _report(self, row: AttachmentState) -> None:
        """Write down that it is attached, together with the report of it."""
        expected = row.expected
        async with self._lock:
            if self._rows.get(expected.key) is not row:
                return  # replaced meanwhile
            at = self._clock()
            done = msgspec.structs.replace(row, attached_at=at)
            batch = Batch()
            batch.put(ROW, expected.key, _encode(done))
            batch.enqueue(_change(expected, at))
            try:
                await self._store.commit(batch)
            except StateFailure as error:
                self._trouble("attachment not written down", error)
                return
            self._remember(done)
        _log.info("attached", kind=expected.kind, key=expected.key, task=expected.task_arn)

    async def _drop_late(self) -> None:
        now = asyncio.get_running_loop().time()
        late = [self._rows[key] for key, end in self._deadlines.items() if end <= now]
        await self._drop(late, "attachments did not arrive in time")

    async def _drop(self, rows: list[AttachmentState], why: str) -> None:
        """Forget these, but for what was replaced meanwhile."""
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
                # The next process loads them and finds them as late or gone as they are.
                self._trouble("attachments not removed", error)
        first = rows[0].expected
        _log.info(why, count=len(rows), kind=first.kind, key=first.key, task=first.task_arn)

    async def _list(self, source: Hotplug, kinds: tuple[Kind, ...]) -> frozenset[str] | None:
        try:
            async with asyncio.timeout(_LIST_LIMIT_S):
                return await source.present()
        except (AgentError, OSError) as error:
            self._trouble(f"cannot list what is attached ({kinds[0]})", error)
            return None

    # --- waiting ------------------------------------------------------------------------------

    async def _pause(self) -> None:
        """Wait for an arrival, a new expectation, the end of one, or the next comparison."""
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
            self._trouble(f"cannot watch what is attached ({kinds[0]})", error)
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
        # Written this way round, what is not a number becomes the latest as well.
        end = max(0.0, expected.expires_at) if expected.expires_at < latest else latest
        return msgspec.structs.replace(expected, expires_at=end)

    def _make_room(self, batch: Batch) -> None:
        if len(self._deadlines) < PENDING_LIMIT:
            return
        key = min(self._deadlines, key=self._deadlines.__getitem__)
        self._forget(key)
        batch.delete(ROW, key)
        self._trouble("too many attachments are awaited, one was dropped", None)

    def _awaited(self, kinds: tuple[Kind, ...]) -> bool:
        return any(self._rows[key].expected.kind in kinds for key in self._deadlines)

    def _trouble(self, what: str, error: Exception | None) -> None:
        """Log a trouble, and the same one again only after a while."""
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
    """Return the report of an arrival. That of a volume is the host's, whose ever the volume is."""
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
    """Return when one of them has, or the time is up; nothing of the others is left behind."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
