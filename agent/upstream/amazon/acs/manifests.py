"""``TaskManifestMessage``: compares the tasks that Amazon ECS wants here with those on this host.

A task that runs here but is not in the manifest is not stopped for that alone: the agent asks about
it, and stops it if ECS says so. A manifest older than the newest order is ignored; orders and
manifests share one sequence number, which is kept in the ``meta`` table.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/session/task_manifest_responder.go`` and
``task_stop_verification_ack_responder.go`` (behaviour).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from agent.model.status import DesiredStatus
from agent.model.wire import Assignment, Assignments
from agent.state import Batch
from agent.upstream.amazon.acs import messages
from agent.upstream.amazon.acs.fields import UnusableMessage
from agent.upstream.amazon.registration import MANIFEST_SEQ

if TYPE_CHECKING:
    from agent.state import StateStore
    from agent.upstream.amazon.acs.message_queue import AcsMessage
    from agent.upstream.amazon.acs.messages import ManifestMessage
    from agent.upstream.protocol import TakeAssignments, TaskHost

_log = structlog.get_logger()


class ManifestHandler:
    """The state of the newest order and the newest manifest. Outlives connections."""

    def __init__(self, store: StateStore, host: TaskHost, take: TakeAssignments) -> None:
        self.latest = 0
        """The highest sequence number of a payload or an accepted manifest."""
        self._store = store
        self._host = host
        self._take = take
        self._begun = False
        self._asked = ""
        """Message id of the newest manifest, until ECS has answered the question about it."""
        self._missing: frozenset[str] | None = None
        """Tasks in the newest manifest that are not here yet; None before the first manifest."""
        self._listed = False

    async def begin(self) -> None:
        """Read the sequence number of this instance's last manifest; only once.

        Raises:
            StateFailure: the store cannot be read; call again.
        """
        if not self._begun:
            self.latest = _number(await self._store.get_meta(MANIFEST_SEQ))
            self._begun = True

    def reached(self, seq_num: int) -> None:
        """Record the sequence number of a payload."""
        self.latest = max(self.latest, seq_num)

    def settle(self) -> None:
        """Tell the host, once, that everything ECS wants has arrived here.

        A task that is over here does not come any more: ECS has not heard of its end yet, or has forgotten it.
        """
        if self._missing is None or self._listed:
            return
        host = self._host
        self._missing = frozenset(
            arn for arn in self._missing if not (host.knows(arn) or host.is_over(arn))
        )
        if not self._missing:
            self._listed = True
            self._host.listed()

    async def manifest(self, order: AcsMessage) -> None:
        """Accept a newer manifest, and ask about tasks that it does not list.

        Raises:
            UnusableMessage: it is not newer than the last one, or cannot be read.
            StateFailure: its sequence number cannot be stored now.
            SocketClosed: the answer can no longer be sent.
        """
        message = messages.manifest(order.message)
        if message.timeline <= self.latest:
            raise UnusableMessage(f"its timeline {message.timeline} is not above {self.latest}")
        batch = Batch()
        batch.put_meta(MANIFEST_SEQ, str(message.timeline))
        await self._store.commit(batch)
        self.latest = message.timeline
        self._asked = message.origin.message_id
        candidates = self._unlisted(message, order.instance.arn)
        self._missing = message.running
        self.settle()
        await order.answer(messages.ack(message.origin))
        if candidates:
            _log.warning("tasks are not in Amazon's manifest; asking", count=len(candidates))
            await order.answer(messages.stop_verification(message.origin, candidates))

    async def verified(self, order: AcsMessage) -> None:
        """Stop the tasks that ECS does not want, if this answers the last question.

        Raises:
            UnusableMessage: it does not answer the last question, or cannot be read.
            StateFailure: the stops cannot be stored now; they are carried out nevertheless.
        """
        message = messages.stop_verified(order.message)
        if message.message_id != self._asked:
            raise UnusableMessage("it answers no manifest, or one that was already answered")
        self._asked = ""
        stops = [
            Assignment(task_arn=arn, desired_status=DesiredStatus.STOPPED)
            for arn in dict.fromkeys(message.task_arns)
            if self._host.knows(arn)
        ]
        if stops:
            _log.warning("stopping tasks that Amazon ECS does not want", count=len(stops))
            await self._take(Assignments(revision=0, tasks=stops), order.instance.arn)

    def _unlisted(self, message: ManifestMessage, instance_arn: str) -> list[str]:
        if message.nameless:
            # Any task that seems to be missing might be one of these.
            return []
        named = message.running | message.others
        return [arn for arn in self._host.wanted(instance_arn) if arn not in named]


def _number(saved: str | None) -> int:
    try:
        return int(saved or "0")
    except ValueError:
        return 0
