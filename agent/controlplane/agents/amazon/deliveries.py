"""Which orders of one instance were sent, taken, or must be sent again. Pure; time is an argument.

An order is a row under ``/assign/<instance>/`` at one revision. It is **open** after it was sent until
the agent acknowledges the message; then it is **taken**. If a message is not acknowledged in time, its
tasks are sent again, each in its own message: one task that an agent cannot accept prevents the
acknowledgment of its whole message. Taken orders are remembered longer than a connection, because
Amazon's agent loses some of a task's state if it gets the task again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

OPEN_MESSAGES: Final = 8
"""How many messages may wait for an acknowledgment at once."""
RESEND_S: Final = 30.0
RESEND_LIMIT_S: Final = 300.0

Taken = dict[str, int]
"""Task id to the revision of the order that its agent has taken."""


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
        """Whether the agent must acknowledge something first."""
        return len(self._messages) >= OPEN_MESSAGES

    @property
    def next_at(self) -> float:
        """When the next open order is sent again; infinite if none is open."""
        return min((item.due_at for item in self._open.values()), default=float("inf"))

    def has_taken(self, task_id: str) -> bool:
        """Tell whether the agent has taken an order of a task, be it an older one."""
        return task_id in self._taken

    def is_due(self, task_id: str, revision: int, now: float) -> bool:
        """Return whether an order must be sent now."""
        if self._taken.get(task_id) == revision:
            return False
        item = self._open.get(task_id)
        return item is None or item.revision != revision or item.due_at <= now

    def is_again(self, task_id: str, revision: int) -> bool:
        """Return whether an order was already sent on this connection."""
        item = self._open.get(task_id)
        return item is not None and item.revision == revision

    def keep_only(self, task_ids: Collection[str]) -> None:
        """Forget the tasks that no longer belong to the instance."""
        for gone in self._taken.keys() - task_ids:
            del self._taken[gone]
        for gone in self._open.keys() - task_ids:
            self.forget(gone)

    def held(self, task_id: str, revision: int) -> None:
        """Record that the agent already has an order, from whatever source."""
        self.forget(task_id)
        self._taken[task_id] = revision

    def sent(self, message_id: str, orders: Iterable[tuple[str, int]], now: float) -> None:
        """Record that a message was sent with these tasks at these revisions."""
        self._messages[message_id] = {}
        for task_id, revision in orders:
            tries = self._open[task_id].tries + 1 if self.is_again(task_id, revision) else 0
            self.forget(task_id)
            wait_s = min(RESEND_S * 2**tries, RESEND_LIMIT_S)
            self._open[task_id] = _Open(revision, message_id, tries, now + wait_s)
            self._messages[message_id][task_id] = revision

    def acknowledged(self, message_id: str) -> bool:
        """Record that a message was acknowledged; False if it is not open."""
        orders = self._messages.pop(message_id, None)
        if orders is None:
            return False
        for task_id, revision in orders.items():
            self._open.pop(task_id, None)
            self._taken[task_id] = revision
        return True

    def forget(self, task_id: str) -> None:
        """Treat an order as not sent; one that is not open is ignored."""
        item = self._open.pop(task_id, None)
        if item is None:
            return
        orders = self._messages.get(item.message_id, {})
        orders.pop(task_id, None)
        if not orders:
            self._messages.pop(item.message_id, None)
