"""Reports what this host holds after control's store went back to an older copy.

Control adds the tasks that it lost and updates the others. Ends of tasks that this host has
forgotten since are put into the outbox again; no report is sent before the full report. Nothing is
stopped or started because of it. Sends ``held`` of ``agent.model.wire`` and writes to the outbox.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from agent.model.wire import Held
from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model.wire import HeldTask
    from agent.state import StateStore
    from agent.upstream.longpoll.exchange import Identity
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.protocol import Holding

_TASKS: Final = 200
"""Maximum tasks per call; control accepts a thousand."""
_BYTES: Final = 2 * 1024 * 1024
"""Approximate maximum of payload bytes per call; control accepts 8 MiB."""

_log = structlog.get_logger()


class FullReport:
    """Reports everything that the host holds; one per client."""

    def __init__(self, client: HttpClient, holding: Holding, store: StateStore) -> None:
        self._client = client
        self._holding = holding
        self._store = store
        self.left = asyncio.Event()
        """Set while some tasks of an earlier instance are undecided: ask about them again."""
        self._queued_for: tuple[str, str] | None = None
        """The history of control for which the ends of tasks are in the outbox."""

    async def tell(self, identity: Identity) -> None:
        """Report everything; returns once control has taken all of it. Idempotent.

        Raises:
            ControlFailure: control may not have taken all of it.
            StateFailure: the reports of ended tasks cannot be stored.
        """
        # First, because this is not called again if the answer to the last part is lost.
        await self._queue_ended(identity)
        held = self._holding.held(identity.control_id)
        for part in _parts(held):
            await self._send(identity, part)
        _log.warning("everything was reported to control again", held=len(held))

    async def bring(self, identity: Identity) -> None:
        """Ask what to do with tasks that were not ordered for this instance. Idempotent.

        Raises:
            ControlFailure: control did not answer; nothing was stopped.
        """
        told = await self._holding.brought(identity.control_id, identity.instance_arn)
        kept: set[str] = set()
        for part in _parts(told) if told else ():
            answer = await self._client.brought(identity, part)
            arns = {task.change.id: task.change.task_arn for task in part.tasks}
            for result in answer.results:
                arn = arns.get(result.id, "")
                if result.status == "ok":
                    self._holding.belongs_to(arn, identity.instance_arn)
                elif result.status == "rejected":
                    _log.warning(
                        "control does not want a task from before", task=arn, why=result.message
                    )
                    self._holding.not_wanted(arn, result.message)
                else:
                    _log.warning("a task from before stays as it is", task=arn, why=result.message)
                    kept.add(arn)
        self._holding.keep(frozenset(kept))
        if kept:
            self.left.set()
        else:
            self.left.clear()

    async def _queue_ended(self, identity: Identity) -> None:
        """Add the ends of forgotten tasks to the outbox, once per history of control."""
        state = (identity.control_id, identity.history)
        if state == self._queued_for:
            return
        batch = Batch()
        for change in self._holding.ended(identity.control_id):
            batch.enqueue(change)
        if len(batch):
            await self._store.commit(batch)
        self._queued_for = state

    async def _send(self, identity: Identity, part: Held) -> None:
        answer = await self._client.held(identity, part)
        for result in answer.results:
            if result.status != "ok":
                task = next((t for t in part.tasks if t.change.id == result.id), None)
                arn = task.change.task_arn if task is not None else ""
                _log.error("control refuses a reported task", task=arn, message=result.message)


def _parts(held: list[HeldTask]) -> Iterator[Held]:
    """Split everything into calls that control accepts; the last one is marked."""
    part: list[HeldTask] = []
    size = 0
    for task in held:
        if part and (len(part) >= _TASKS or size + len(task.payload) > _BYTES):
            yield Held(tasks=part)
            part, size = [], 0
        part.append(task)
        size += len(task.payload)
    yield replace(Held(tasks=part), last=True)
