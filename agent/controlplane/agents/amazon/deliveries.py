"""Which orders of one instance were sent, taken, or must be sent again. Pure but for the time given.

An order is a row under ``/assign/<instance>/`` at one revision. It is **open** from its being sent
until the agent acknowledges the message, and **taken** then. What is not acknowledged in time is sent
again, each task in a message of its own: one that an agent cannot take keeps its whole message
from being acknowledged. What was taken is remembered for longer than a connection, because Amazon's
agent forgets some of a task's state when it is given the task once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

OPEN_MESSAGES: Final = 8
"""Most messages that wait for an acknowledgment side by side."""
RESEND_S: Final = 30.0
RESEND_LIMIT_S: Final = 300.0

Taken = dict[str, int]
"""Task id to the revision of the order that its agent took."""


class _Open(Struct):
    revision: int
    message_id: str
    tries: int
    due_at: float


class Deliveries:
    """The orders of one connection."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._open: dict[str, _Open] = {}
        self._messages: dict[str, dict[str, int]] = {}

    @property
    def is_full(self) -> bool:
        """Whether the agent must first acknowledge something."""
        return len(self._messages) >= OPEN_MESSAGES

    @property
    def next_at(self) -> float:
        """When the next open order is sent again; infinite when none is open."""
        return min((item.due_at for item in self._open.values()), default=float("inf"))

    def has_taken(self, task_id: str) -> bool:
        """Tell whether the agent has taken an order of a task, be it an older one."""
        return task_id in self._taken

    def is_due(self, task_id: str, revision: int, now: float) -> bool:
        """Tell whether an order must be sent now."""
        if self._taken.get(task_id) == revision:
            return False
        item = self._open.get(task_id)
        return item is None or item.revision != revision or item.due_at <= now

    def is_again(self, task_id: str, revision: int) -> bool:
        """Tell whether an order was sent before on this connection."""
        item = self._open.get(task_id)
        return item is not None and item.revision == revision

    def keep_only(self, task_ids: Collection[str]) -> None:
        """Forget the tasks that are no longer the instance's."""
        for gone in self._taken.keys() - task_ids:
            del self._taken[gone]
        for gone in self._open.keys() - task_ids:
            self.forget(gone)

    def held(self, task_id: str, revision: int) -> None:
        """Note that the agent has an order already, however it came by it."""
        self.forget(task_id)
        self._taken[task_id] = revision

    def sent(self, message_id: str, orders: Iterable[tuple[str, int]], now: float) -> None:
        """Note that a message went out with these tasks at these revisions."""
        self._messages[message_id] = {}
        for task_id, revision in orders:
            tries = self._open[task_id].tries + 1 if self.is_again(task_id, revision) else 0
            self.forget(task_id)
            wait_s = min(RESEND_S * 2**tries, RESEND_LIMIT_S)
            self._open[task_id] = _Open(revision, message_id, tries, now + wait_s)
            self._messages[message_id][task_id] = revision

    def acknowledged(self, message_id: str) -> bool:
        """Note that a message was taken; False for one that is not open."""
        orders = self._messages.pop(message_id, None)
        if orders is None:
            return False
        for task_id, revision in orders.items():
            self._open.pop(task_id, None)
            self._taken[task_id] = revision
        return True

    def forget(self, task_id: str) -> None:
        """Take an order for not sent; one that is not open is fine."""
        item = self._open.pop(task_id, None)
        if item is None:
            return
        orders = self._messages.get(item.message_id, {})
        orders.pop(task_id, None)
        if not orders:
            self._messages.pop(item.message_id, None)
