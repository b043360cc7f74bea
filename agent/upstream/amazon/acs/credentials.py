"""``IAMRoleCredentialsMessage``: new credentials for a task's roles, kept in memory only.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/session/refresh_credentials_responder.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.upstream.amazon.acs import messages
from agent.upstream.amazon.acs.fields import UnusableMessage

if TYPE_CHECKING:
    from agent.upstream.amazon.acs.message_queue import AcsMessage
    from agent.upstream.protocol import CredentialStore, TaskHost


class CredentialsHandler:
    """Stores credentials, and acknowledges those of tasks on this host."""

    def __init__(self, host: TaskHost, keep: CredentialStore) -> None:
        self._host = host
        self._keep = keep

    async def handle(self, order: AcsMessage) -> None:
        """Store credentials. Those of an unknown task are stored too, but not acknowledged.

        Raises:
            UnusableMessage: they cannot be read, or the task is unknown.
            SocketClosed: the answer can no longer be sent.
        """
        message = messages.credentials(order.message)
        self._keep.keep(message.task_arn, message.role_type, message.credentials)
        if not self._host.knows(message.task_arn):
            raise UnusableMessage(f"the task {message.task_arn} is unknown on this host")
        await order.answer(messages.credentials_ack(message.message_id, message.credentials))
