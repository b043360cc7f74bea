"""``PayloadMessage``: tasks to run and to stop.

The acknowledgement is sent only after the tasks are durable. If they could not be stored, nothing
is sent, and Amazon ECS orders them again.

Source: Amazon ECS agent 1.105.1, ``agent/acs/session/payload_responder.go`` (behaviour).

Tests: ``tests/unit/upstream/amazon/acs/test_orders.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import StateFailure
from agent.model.status import DesiredStatus
from agent.model.wire import Assignments
from agent.upstream.amazon.acs import messages, tasks
from agent.upstream.amazon.acs.fields import UnusableMessage

if TYPE_CHECKING:
    from agent.model.wire import Assignment
    from agent.upstream.amazon.acs.manifests import ManifestHandler
    from agent.upstream.amazon.acs.message_queue import AcsMessage
    from agent.upstream.amazon.acs.messages import PayloadMessage
    from agent.upstream.amazon.acs.tasks import TaskOrder
    from agent.upstream.protocol import CredentialStore, TakeAssignments, TaskHost


class PayloadHandler:
    """Handles payloads one at a time."""

    def __init__(
        self,
        take: TakeAssignments,
        host: TaskHost,
        keep: CredentialStore,
        manifests: ManifestHandler,
    ) -> None:
        self._take = take
        self._host = host
        self._keep = keep
        self._manifests = manifests

    async def handle(self, order: AcsMessage) -> None:
        """Pass on every task that has an ARN; acknowledge if all of them do.

        Raises:
            UnusableMessage: the message, or one of its tasks, lacks its ARN.
            StateFailure: the tasks cannot be stored now.
            SocketClosed: the answer can no longer be sent.
            Exception: a task made the engine fail; the other tasks are passed on.
        """
        message = messages.payload(order.message)
        read, nameless = _read(message)
        assignments = [a for task in read if (a := self._assignment(task)) is not None]
        assignments.sort(key=lambda one: one.desired_status != DesiredStatus.STOPPED)
        await self._hand_on(assignments, order.instance.arn)
        if message.seq_num is not None:
            self._manifests.reached(message.seq_num)
        self._manifests.settle()
        if nameless:
            raise UnusableMessage(f"{len(nameless)} of {len(message.tasks)} tasks: {nameless[0]}")
        await order.answer(messages.ack(message.origin))
        for task in read:
            for _, credentials in task.credentials:
                answer = messages.credentials_ack(message.origin.message_id, credentials)
                await order.answer(answer)

    async def _hand_on(self, assignments: list[Assignment], control_id: str) -> None:
        """Have the tasks taken, together if possible: that is one transaction."""
        if not assignments:
            return
        try:
            await self._take(Assignments(revision=0, tasks=assignments), control_id)
        except StateFailure:
            raise
        except Exception:
            if len(assignments) == 1:
                raise
            middle = len(assignments) // 2
            failure: Exception | None = None
            for some in (assignments[:middle], assignments[middle:]):
                try:
                    await self._hand_on(some, control_id)
                except Exception as error:  # noqa: BLE001 - raised below, after the other tasks are taken
                    failure = error
            if failure is not None:
                raise failure from None

    def _assignment(self, task: TaskOrder) -> Assignment | None:
        """Return a task's assignment for the engine, after storing its credentials."""
        known = self._host.knows(task.arn)
        if task.unreadable and known:
            # The engine has a readable copy: a broken one does not stop the task.
            return None
        if known or not task.stops:
            for role_type, credentials in task.credentials:
                self._keep.keep(task.arn, role_type, credentials)
        return task.assignment


def _read(message: PayloadMessage) -> tuple[list[TaskOrder], list[str]]:
    """Return the tasks of a message, and what was wrong with those without an ARN."""
    read: list[TaskOrder] = []
    nameless: list[str] = []
    for raw in message.tasks:
        try:
            read.append(tasks.read(raw))
        except UnusableMessage as error:
            nameless.append(str(error))
    return read, nameless
