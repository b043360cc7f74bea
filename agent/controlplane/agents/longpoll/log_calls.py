"""Log events from agents: ``POST /v1/logs`` and ``POST /v1/logs/streams``.

A batch is taken whole but for events that are out of time, and once: its id is kept for a day. When the
log store cannot take more, the call is answered 503 and sent again, of which what was taken is known.

Tests: ``tests/unit/controlplane/agents/test_log_calls.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from agent.controlplane import bounds
from agent.controlplane.agents.log_rights import LogRights
from agent.controlplane.agents.longpoll.errors import (
    InvalidRequest,
    LogGroupMissing,
    LogsNotTaken,
)
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.log_store import rules
from agent.controlplane.log_store.changes import Batch
from agent.controlplane.log_store.contract import (
    GroupMissing,
    LogStoreBusy,
    LogStoreDown,
    LogStoreFull,
    LogStoreOff,
)
from agent.controlplane.log_store.rules import BatchRefused
from agent.errors import BAD_JSON
from agent.model.logs import LogBatch, Logs, LogsAnswer, LogStream, RefusedBatch

if TYPE_CHECKING:
    from agent.controlplane.log_store.store import LogStore
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord

EVENTS_MOST: Final = 100_000
BATCHES_MOST: Final = 1_000
ID_MOST: Final = 256
_RETRY_AFTER_S: Final = 2.0
_MISSING: Final = "ResourceNotFoundException"
_INVALID: Final = "InvalidParameterException"
_DENIED: Final = "AccessDeniedException"


_logs = msgspec.json.Decoder(Logs)
_stream = msgspec.json.Decoder(LogStream)


def read_logs(body: bytes) -> Logs:
    """Return the batches of a call; raises ``InvalidRequest``."""
    try:
        if body.count(b"[") > EVENTS_MOST:
            # There are brackets in messages, too: look closely before anything is built.
            bounds.look(body, most_items=EVENTS_MOST, most_values=4 * EVENTS_MOST)
        logs = _logs.decode(body)
    except OutOfBounds as error:
        raise InvalidRequest(f"the log events are not taken: {error}") from None
    except BAD_JSON as error:
        raise InvalidRequest(f"the log events cannot be read: {error}") from None
    if len(logs.batches) > BATCHES_MOST:
        raise InvalidRequest(f"more than {BATCHES_MOST} batches of log events in one call")
    ids = {batch.id for batch in logs.batches}
    if len(ids) < len(logs.batches) or not all(0 < len(one) <= ID_MOST for one in ids):
        raise InvalidRequest(f"batches must have ids of 1 to {ID_MOST} characters, each its own")
    return logs


def read_stream(body: bytes) -> LogStream:
    """Return what a call asks for; raises ``InvalidRequest``."""
    try:
        return _stream.decode(body)
    except BAD_JSON as error:
        raise InvalidRequest(f"the log stream cannot be read: {error}") from None


class LogCalls:
    """Answers the calls; stateless but for what hosts may."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rights = LogRights(parts.store)

    async def take(self, instance: InstanceRecord, logs: Logs) -> LogsAnswer:
        """Take batches, each by itself; those that are accepted are on the disk.

        Raises:
            LogsNotTaken: the log store cannot take more now; a part may be taken.
        """
        try:
            store = self._parts.logs()
        except LogStoreDown as error:
            _raise(error)
        except LogStoreOff as error:
            return LogsAnswer(
                refused=[
                    RefusedBatch(id=b.id, type=_DENIED, message=str(error)) for b in logs.batches
                ]
            )
        allowed = await self._rights.allowed(instance, {batch.group for batch in logs.batches})
        # In this order: nothing is awaited before a batch is queued.
        results = await asyncio.gather(
            *(_take(store, instance, batch, allowed) for batch in logs.batches),
            return_exceptions=True,
        )
        accepted: list[str] = []
        refused: list[RefusedBatch] = []
        for batch, result in zip(logs.batches, results, strict=True):
            if isinstance(result, BaseException):
                _raise(result)
            elif result is None:
                accepted.append(batch.id)
            else:
                refused.append(result)
        return LogsAnswer(accepted=accepted, refused=refused)

    async def make_stream(self, instance: InstanceRecord, asked: LogStream) -> None:
        """Make a stream that is not there.

        Raises:
            LogGroupMissing: its group is not there and not to be made, or none that the host may use.
            InvalidRequest: a name is invalid.
            LogsNotTaken: the log store cannot do it now.
        """
        try:
            _check_names(asked.group, asked.stream)
            if not await self._rights.allowed(instance, {asked.group}):
                raise LogGroupMissing(_not_allowed(asked.group))
            await self._parts.logs().ensure_stream(
                asked.group, asked.stream, make_group=asked.create_group
            )
        except BatchRefused as error:
            raise InvalidRequest(str(error)) from None
        except GroupMissing:
            raise LogGroupMissing("The specified log group does not exist.") from None
        except LogStoreOff as error:
            raise LogGroupMissing(str(error)) from None
        except (LogStoreBusy, LogStoreFull, LogStoreDown) as error:
            _raise(error)


async def _take(
    store: LogStore, instance: InstanceRecord, batch: LogBatch, allowed: set[str]
) -> RefusedBatch | None:
    try:
        _check_names(batch.group, batch.stream)
        if batch.group not in allowed:
            return RefusedBatch(id=batch.id, type=_DENIED, message=_not_allowed(batch.group))
        events = sorted(batch.events, key=_time)
        times, messages = [time for time, _ in events], [text for _, text in events]
        rules.check_sizes(times, messages)
        first, end = rules.within(times, int(store.clock() * 1000))
        await store.append(
            Batch(
                group=batch.group,
                stream=batch.stream,
                times=times[first:end],
                messages=messages[first:end],
                id=f"{instance.id}/{batch.id}",
                make_group=batch.create_group,
                make_stream=True,
            )
        )
    except BatchRefused as error:
        return RefusedBatch(id=batch.id, type=_INVALID, message=str(error))
    except GroupMissing:
        message = "The specified log group does not exist."
        return RefusedBatch(id=batch.id, type=_MISSING, message=message)
    left_out = len(events) - (end - first)
    if not left_out:
        return None
    return RefusedBatch(
        id=batch.id,
        type=_INVALID,
        message=f"{left_out} of {len(events)} log events are left out: they are older than 14 days or "
        "more than 2 hours ahead of control's clock",
    )


def _raise(error: BaseException) -> NoReturn:
    """Raise an error of the store as that of the call."""
    if isinstance(error, LogStoreBusy | LogStoreFull | LogStoreDown):
        raise LogsNotTaken(str(error), retry_after_s=_RETRY_AFTER_S) from None
    raise error


def _check_names(group: str, stream: str) -> None:
    if not (len(group) <= rules.NAME_MOST and rules.GROUP_NAME.fullmatch(group)):
        raise BatchRefused("the name of the log group is not valid in CloudWatch Logs")
    if not (len(stream) <= rules.NAME_MOST and rules.STREAM_NAME.fullmatch(stream)):
        raise BatchRefused("the name of the log stream is not valid in CloudWatch Logs")


def _not_allowed(group: str) -> str:
    return f"no task of this container instance logs to the group {group}"


def _time(event: tuple[int, str]) -> int:
    return event[0]
