"""Delivers logs of containers to our own control: in order, at least once, for as long as it takes.

One request is in flight. A batch leaves the spool when control has taken it, or said that it never will;
control knows by its id one that comes twice. Composing and compressing happen in a thread.

Tests: ``tests/unit/upstream/longpoll/test_log_sender.py``.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from msgspec import Struct

from agent.errors import (
    ControlFailure,
    ControlUnavailable,
    InstanceUnknown,
    StaleGeneration,
    StateFailure,
)
from agent.model.logs import LogStream
from agent.upstream.longpoll.answers import NoLogGroup, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model.logs import SpooledBatch
    from agent.upstream.backoff import Backoff
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.longpoll.exchange import Identity
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.longpoll.registration import LongPollRegistration
    from agent.upstream.protocol import LogSource

_REQUEST_BYTES: Final = 2 * 1024 * 1024
"""Of JSON in one request, unless a single batch is larger."""
_REQUEST_BATCHES: Final = 500
_COMPRESS_LEVEL: Final = 1
_LOG_EVERY_S: Final = 60.0

_log = structlog.get_logger(__name__)


class _Batch(Struct, frozen=True, rename="camel", omit_defaults=True):
    """``model.logs.LogBatch``, with its events as the JSON that they are."""

    id: str
    group: str
    stream: str
    events: msgspec.Raw
    create_group: bool = False


class _Logs(Struct, frozen=True):
    instance: str
    batches: list[_Batch]


class LogSender:
    """Empties the spool of logs into one control endpoint."""

    def __init__(
        self,
        source: LogSource,
        client: HttpClient,
        registration: LongPollRegistration,
        link: ConnectionStatus,
        backoff: Backoff,
    ) -> None:
        self._source = source
        self._client = client
        self._registration = registration
        self._link = link
        self._backoff = backoff
        self._told_at: dict[str, float] = {}

    async def run(self) -> None:
        """Send until cancelled.

        Raises:
            StaleGeneration: another agent registered as this instance.
        """
        while True:
            await self._source.wait()
            identity = await self._registration.identity()
            try:
                rows = await self._source.peek(limit_bytes=_REQUEST_BYTES, limit=_REQUEST_BATCHES)
                if rows:
                    await self._send(identity, rows)
            except InstanceUnknown:
                await self._link.pause(self._backoff.next_s())
                await self._registration.renew(identity)
            except StaleGeneration as error:
                await self._registration.overtaken(identity, error)
            except (ControlFailure, StateFailure) as error:
                await self._wait_after(error)
            else:
                self._backoff.reset()

    async def make_stream(self, group: str, stream: str, *, create_group: bool) -> bool:
        """Have control make a stream; see ``protocol.Control.make_log_stream``."""
        identity = self._registration.current
        if identity is None or not self._link.connected:
            return True
        wanted = LogStream(
            instance=identity.instance_arn, group=group, stream=stream, create_group=create_group
        )
        try:
            await self._client.log_stream(identity, wanted)
        except NoLogGroup:
            return False
        except ControlFailure as error:
            self._tell("log stream not made yet", error)
        return True

    async def _wait_after(self, error: ControlFailure | StateFailure) -> None:
        # While control is away the poll has said so; this tells of trouble of its own.
        if self._link.connected:
            self._tell("log events not delivered", error)
        asked_s = error.retry_after_s if isinstance(error, ControlUnavailable) else 0.0
        await self._link.pause(self._backoff.next_s(asked_s))

    def _tell(self, what: str, error: object, **values: object) -> None:
        """Log trouble; the same again within a minute is passed over."""
        now = time.monotonic()
        self._told_at = {k: at for k, at in self._told_at.items() if now - at < _LOG_EVERY_S}
        about = f"{what} {values}"
        if about not in self._told_at:
            self._told_at[about] = now
            _log.warning(what, **values, error=str(error))

    async def _send(self, identity: Identity, rows: Sequence[SpooledBatch]) -> None:
        body = await asyncio.to_thread(_composed, identity.instance_arn, rows)
        try:
            answer = await self._client.logs(identity, body)
        except RequestRefused as error:
            if len(rows) == 1:
                self._refuse(rows[0], "InvalidParameterException", str(error))
                self._source.settle([], rows)
                return
            # One of them is the trouble; the others must not share its fate.
            for row in rows:
                await self._send(identity, [row])
            return
        refused = {each.id: each for each in answer.refused}
        taken = {*answer.accepted, *refused}
        known = next((n for n, row in enumerate(rows) if row.id not in taken), len(rows))
        answered = rows[:known]
        for row in answered:
            if row.id in refused:
                self._refuse(row, refused[row.id].type, refused[row.id].message)
        self._source.settle(
            [row for row in answered if row.id not in refused],
            [row for row in answered if row.id in refused],
        )
        if not answered:
            raise ControlUnavailable(f"control did not say what became of log batch {rows[0].id}")

    def _refuse(self, row: SpooledBatch, kind: str, message: str) -> None:
        self._tell("log events refused by control", message, group=row.group, kind=kind)


def _composed(instance: str, rows: Sequence[SpooledBatch]) -> bytes:
    """Return the body of a delivery, compressed. Blocks for some 10 ms a MiB."""
    batches = [
        _Batch(
            id=row.id,
            group=row.group,
            stream=row.stream,
            events=msgspec.Raw(row.body),
            create_group=row.create_group,
        )
        for row in rows
    ]
    return gzip.compress(msgspec.json.encode(_Logs(instance, batches)), _COMPRESS_LEVEL)
