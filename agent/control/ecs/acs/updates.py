"""Messages that ask the agent to replace itself: refused, in words that Amazon ECS knows.

This agent is updated by the host's package manager. Source of the words: Amazon ECS agent 1.105.1,
``agent/acs/update_handler``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.control.ecs.acs import messages

if TYPE_CHECKING:
    from agent.control.ecs.acs.lane import Order

DISABLED: Final = "Updates are disabled"
NOT_DOWNLOADED: Final = "Cannot perform update; update not downloaded"


async def stage(order: Order) -> None:
    """Refuse to download an update; raises ``Unusable`` and ``SocketClosed``."""
    await order.answer(messages.nack(messages.update(order.message), DISABLED))


async def perform(order: Order) -> None:
    """Refuse to put an update into place; raises ``Unusable`` and ``SocketClosed``."""
    await order.answer(messages.nack(messages.update(order.message), NOT_DOWNLOADED))
