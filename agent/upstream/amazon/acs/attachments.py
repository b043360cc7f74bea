"""Attach messages: interfaces and volumes that will appear on the host, or already have.

Each is stored as expected before the message is acknowledged; Amazon's agent acknowledges at once.
Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/session/attach_eni_common.go`` and
``attach_resource_responder.go`` (validation, keys and waits).

Tests: ``tests/unit/upstream/amazon/acs/test_orders.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from agent.upstream.amazon.acs import messages
from agent.upstream.amazon.attachments import ExpectedAttachment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.upstream.amazon.acs.message_queue import AcsMessage

    Expect: TypeAlias = Callable[[ExpectedAttachment], Awaitable[None]]


class AttachHandler:
    """Passes attachments on. All methods raise ``UnusableMessage`` and ``StateFailure``."""

    def __init__(self, expect: Expect) -> None:
        self._expect = expect

    async def task_interfaces(self, order: AcsMessage) -> None:
        """Expect the interfaces of a task."""
        await self._interfaces(order, of_task=True)

    async def instance_interfaces(self, order: AcsMessage) -> None:
        """Expect the interfaces of the host."""
        await self._interfaces(order, of_task=False)

    async def volume(self, order: AcsMessage) -> None:
        """Expect a volume; one of an older form is only acknowledged."""
        message = messages.volume(order.message)
        if message.volume is not None:
            await self._expect(
                ExpectedAttachment(
                    kind="ebs",
                    key=message.volume.volume_id,
                    attachment_arn=message.volume.attachment_arn,
                    task_arn=message.task_arn,
                    expires_at=order.at + message.wait_s,
                    details=message.volume.details,
                )
            )
        await order.answer(messages.ack(message.origin))

    async def _interfaces(self, order: AcsMessage, *, of_task: bool) -> None:
        message = messages.interfaces(order.message, of_task=of_task)
        for interface in message.interfaces:
            await self._expect(
                ExpectedAttachment(
                    kind="task-eni" if of_task else "instance-eni",
                    key=interface.mac,
                    attachment_arn=interface.attachment_arn,
                    task_arn=message.task_arn,
                    expires_at=order.at + message.wait_s,
                    seen_as=interface.trunk_mac,
                    details=interface.details,
                )
            )
        await order.answer(messages.ack(message.origin))
