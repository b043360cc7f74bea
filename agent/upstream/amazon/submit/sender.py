"""Sends reports to Amazon ECS: in order for each task, many tasks in parallel, retrying for ever.

::

    outbox ─► queue of task A ─► one request at a time ─┐
           ─► queue of task B ─► one request at a time ─┼─ at most ten in flight
           ─► ...                                      ─┘

The only consumer of the outbox. A row leaves it only if Amazon ECS has accepted it, has refused it
permanently, or does not need it because a newer report of the same task and status includes it. A
report that is refused because another control ordered its task stays on disk. This process does not
try it again, and it blocks nothing; it is sent if the host returns to that control. A report that
cannot be sent waits in its queue without using one of the ten slots, and other tasks continue. A
report is sent as soon as it is durable, without waiting for others. Rows in flight during a crash
are sent again.

Source: Amazon ECS agent 1.105.1, ``agent/eventhandler`` (order, ten in parallel, which error drops
an event). Its ticker of 10 to 30 seconds has no counterpart here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from msgspec import Struct

from agent.errors import AwsFailure, AwsRefused, AwsUnavailable, StateFailure
from agent.throttle import RepeatedWarning
from agent.upstream.amazon.submit import merge, shapes
from agent.upstream.amazon.submit.merge import Accepted, QueuedReport, TaskQueue
from agent.upstream.backoff import Backoff
from agent.upstream.connection import WARN_EVERY_S

if TYPE_CHECKING:
    from agent.state import Outbox
    from agent.upstream.amazon.calls import Api
    from agent.upstream.amazon.registration import Instance
    from agent.upstream.amazon.submit.shapes import EcsCall
    from agent.upstream.connection import ConnectionStatus

REFUSED_FOR_GOOD: Final = "InvalidParameterException"

_log = structlog.get_logger()


class Registered(Protocol):
    """Provides this host's registration."""

    async def instance(self) -> Instance:
        """Return the registration; waits for it."""


class SubmitSettings(Struct, frozen=True, kw_only=True):
    """The sender's limits, and what it leaves out."""

    exclude_ipv6: bool = True
    """Leave out port bindings on ``::`` (``ECS_EXCLUDE_IPV6_PORTBINDING``)."""
    side_by_side: int = 10
    """Maximum number of requests in flight."""
    call_limit_s: float = 42.0
    backoff_first_s: float = 0.1
    backoff_limit_s: float = 60.0
    page: int = 100
    """Number of reports read from the outbox at a time."""
    held_limit: int = 2000
    """Reports held in memory; more stay on disk until some of these were sent."""


class Submitter:
    """Sends all reports in the outbox to Amazon ECS. Created and used on one event loop."""

    def __init__(
        self,
        outbox: Outbox,
        api: Api,
        registration: Registered,
        link: ConnectionStatus,
        settings: SubmitSettings | None = None,
    ) -> None:
        self._outbox = outbox
        self._api = api
        self._registration = registration
        self._link = link
        self._settings = settings or SubmitSettings()
        self._queues: dict[str, TaskQueue] = {}
        self._held = 0
        self._room = asyncio.Event()
        self._room.set()
        self._places = asyncio.Semaphore(self._settings.side_by_side)
        self._accepted = Accepted()
        self._troubles: dict[str, str] = {}
        """Why a queue is blocked, by its key; the empty key is the outbox itself."""
        self._not_sent = RepeatedWarning("reports not sent", every_s=WARN_EVERY_S)
        self._kept = RepeatedWarning(
            "reports are kept for the control that ordered their tasks", every_s=WARN_EVERY_S
        )

    @property
    def error(self) -> str:
        """Why reports cannot be sent now; empty if they can."""
        if not self._troubles:
            return ""
        newest = next(reversed(self._troubles.values()))
        others = len(self._troubles) - 1
        return f"{newest} (and {others} more)" if others else newest

    async def run(self) -> None:
        """Send until cancelled; reports without an acknowledgement stay in the outbox."""
        self._queues.clear()
        self._troubles.clear()
        self._count(-self._held)
        async with asyncio.TaskGroup() as group:
            await self._hand_out(group)

    async def _hand_out(self, group: asyncio.TaskGroup) -> None:
        """Add every report to the queue of its task, in the order of the outbox."""
        seq = 0
        backoff = self._backoff()
        while True:
            await self._room.wait()
            try:
                rows = await self._outbox.after(seq, self._settings.page)
            except StateFailure as error:
                await self._pause("", str(error), backoff.next_s())
                continue
            backoff.reset()
            self._troubles.pop("", None)
            if not rows:
                await self._outbox.more()
                continue
            seq = rows[-1][0]
            self._take(group, [QueuedReport(*row) for row in rows])

    def _take(self, group: asyncio.TaskGroup, rows: list[QueuedReport]) -> None:
        needless: list[int] = []
        self._count(len(rows))
        for row in rows:
            key = merge.queue_key(row.change)
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = TaskQueue()
                group.create_task(self._serve(key, queue), name=f"report {key}")
            needless.extend(queue.add(row))
        self._settle(needless)

    async def _serve(self, key: str, queue: TaskQueue) -> None:
        """Send the reports in a queue; return when it is empty."""
        backoff = self._backoff()
        while len(queue):
            try:
                async with self._places:
                    await self._send_first(key, queue)
            except AwsFailure as error:
                asked_s = error.retry_after_s if isinstance(error, AwsUnavailable) else 0.0
                await self._pause(key, str(error), backoff.next_s(asked_s))
            except Exception as error:  # noqa: BLE001 - one report must not stop all the others
                await self._pause(key, f"{type(error).__name__}: {error}", backoff.next_s())
            else:
                backoff.reset()
                self._recovered(key)
        # No await between the last check of the queue and this: the next report creates a new one.
        del self._queues[key]

    async def _send_first(self, key: str, queue: TaskQueue) -> None:
        instance = await self._registration.instance()
        row, needless = queue.first()
        self._settle(needless)
        call = shapes.call_of(
            row.change,
            shapes.ReportFormat(
                instance.cluster, self._settings.exclude_ipv6, instance.control_is_ours
            ),
        )
        is_done = True
        if call is not None and not self._accepted.has(key, call):
            queue.under_way = True
            try:
                is_done = await self._submit(key, row, call, instance)
            finally:
                queue.under_way = False
        seq = queue.drop_first()
        if is_done:
            self._settle([seq])
        else:
            self._count(-1)

    async def _submit(self, key: str, row: QueuedReport, call: EcsCall, instance: Instance) -> bool:
        """Make the call; return whether the report is finished and need not be sent again."""
        try:
            await self._api.call(
                call.operation, call.request, attempts=1, limit_s=self._settings.call_limit_s
            )
        except AwsRefused as error:
            if merge.is_foreign(row.change.task_arn, instance.arn):
                self._kept.tell(task=row.change.task_arn, error=str(error))
                return False
            if error.code != REFUSED_FOR_GOOD:
                raise
            _log.error(
                "report refused by Amazon ECS",
                task=row.change.task_arn,
                status=row.change.status,
                change=row.change.id,
                message=str(error),
            )
        else:
            self._accepted.note(key, call)
        return True

    def _recovered(self, key: str) -> None:
        if self._troubles.pop(key, None) is not None and not self._link.connected:
            self._link.wake()  # the cause of this failure may be over for the others, too

    def _settle(self, seqs: list[int]) -> None:
        if seqs:
            self._outbox.settle(seqs)
            self._count(-len(seqs))

    def _count(self, more: int) -> None:
        self._held += more
        if self._held < self._settings.held_limit:
            self._room.set()
        else:
            self._room.clear()

    async def _pause(self, key: str, error: str, seconds: float) -> None:
        self._troubles.pop(key, None)
        self._troubles[key] = error
        self._not_sent.tell(unsent=self._outbox.size, task=key, error=error)
        await self._link.pause(seconds)

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.backoff_first_s, self._settings.backoff_limit_s)
