"""Sends the outbox: in order, at least once, retrying for ever.

One request is in flight at a time, and a row leaves the outbox only when control has answered it.
The sender wakes up as soon as a commit adds rows. A report that control refuses permanently is
settled and logged, because it would block all later ones.

Tests: ``tests/unit/upstream/test_outbox_sender.py``.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import (
    ControlFailure,
    ControlUnavailable,
    InstanceUnknown,
    StaleGeneration,
    StateFailure,
)
from agent.upstream.longpoll.answers import RequestRefused

if TYPE_CHECKING:
    from agent.model.changes import TaskChange
    from agent.model.wire import ChangeAnswer
    from agent.state import Outbox
    from agent.upstream.backoff import Backoff
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.longpoll.exchange import Identity
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.longpoll.registration import LongPollRegistration

_log = structlog.get_logger()

_LOG_EVERY_S: Final = 60.0

Rows = list[tuple[int, "TaskChange"]]


class OutboxSender:
    """Sends all reports in the outbox to one control endpoint."""

    def __init__(
        self,
        outbox: Outbox,
        client: HttpClient,
        registration: LongPollRegistration,
        link: ConnectionStatus,
        backoff: Backoff,
        *,
        batch_limit: int,
    ) -> None:
        self.error = ""
        """Why reports cannot be sent now; empty if they can."""
        self._outbox = outbox
        self._client = client
        self._registration = registration
        self._link = link
        self._backoff = backoff
        self._batch_limit = batch_limit
        self._logged_at = -math.inf

    async def run(self) -> None:
        """Send until cancelled.

        Raises:
            StaleGeneration: another agent registered as this instance.
        """
        while True:
            await self._outbox.wait()
            identity = await self._registration.identity()
            try:
                await self._send(identity, await self._outbox.peek(self._batch_limit))
            except InstanceUnknown:
                await self._link.pause(self._backoff.next_s())
                await self._registration.renew(identity)
            except StaleGeneration as error:
                await self._registration.overtaken(identity, error)
            except (ControlFailure, StateFailure) as error:
                await self._wait_after(error)
            else:
                self._backoff.reset()
                self.error = ""
                if not self._link.connected:
                    self._link.wake()

    async def _wait_after(self, error: ControlFailure | StateFailure) -> None:
        # While control is unavailable, the poll has logged it; this logs other problems.
        now = time.monotonic()
        if self._link.connected and now - self._logged_at > _LOG_EVERY_S:
            _log.warning("reports not sent", unsent=self._outbox.size, error=str(error))
            self._logged_at = now
        self.error = str(error)
        asked_s = error.retry_after_s if isinstance(error, ControlUnavailable) else 0.0
        await self._link.pause(self._backoff.next_s(asked_s))

    async def _send(self, identity: Identity, rows: Rows) -> None:
        if not rows:
            return
        try:
            answer = await self._client.changes(identity, [change for _, change in rows])
        except RequestRefused as error:
            if len(rows) == 1:
                self._settle_refused(rows[0], str(error))
                return
            # One of them is the cause; send each alone, so that the others are not refused with it.
            for row in rows:
                await self._send(identity, [row])
            return
        self._settle(rows, {result.id: result for result in answer.results})

    def _settle(self, rows: Rows, results: dict[str, ChangeAnswer]) -> None:
        """Settle rows up to the first unanswered one, to keep the order."""
        done: list[int] = []
        for seq, change in rows:
            result = results.get(change.id)
            if result is None or result.status not in {"ok", "rejected"}:
                break
            if result.status == "rejected":
                self._log_refused(change, result.message)
            done.append(seq)
        self._outbox.settle(done)
        if len(done) < len(rows):
            change = rows[len(done)][1]
            raise ControlUnavailable(
                f"control did not answer report {change.id} ({change.task_arn})"
            )

    def _settle_refused(self, row: tuple[int, TaskChange], message: str) -> None:
        self._log_refused(row[1], message)
        self._outbox.settle([row[0]])

    def _log_refused(self, change: TaskChange, message: str) -> None:
        _log.error(
            "report refused by control",
            task=change.task_arn,
            status=change.status,
            change=change.id,
            message=message,
        )
