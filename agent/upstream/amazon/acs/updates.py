"""Messages that ask the agent to update itself: refused, with the text that Amazon ECS expects.

This agent is updated by the host's package manager. Source of the words: Amazon ECS agent 1.105.1,
``agent/acs/updater``, as it answers both messages without ``ECS_UPDATES_ENABLED``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.upstream.amazon.acs import messages

if TYPE_CHECKING:
    from agent.upstream.amazon.acs.message_queue import AcsMessage

DISABLED: Final = "Updates are disabled"


async def refuse(order: AcsMessage) -> None:
    """Refuse to download or install an update; raises ``UnusableMessage``, ``SocketClosed``."""
    await order.answer(messages.nack(messages.update(order.message), DISABLED))
