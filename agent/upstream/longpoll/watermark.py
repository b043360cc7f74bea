"""The newest state of control that this agent has seen, to notice when control goes back.

Control's store can be restored from an older copy. What control wants then is outdated, and must
not stop any task. So the agent remembers the history and the revision of the last orders that it
took, and the generation of its registration, and compares every answer with them::

    other history                  ─► control went back, and knows it
    same history, lower revision   ─► control went back, and does not know it yet
    other control                  ─► nothing to compare: it did not order the tasks

Accesses the ``meta`` table. The revision is written along with the next commit, without waiting for
the disk: an older value only makes the comparison less precise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from agent.model.status import DesiredStatus
from agent.state import Batch

if TYPE_CHECKING:
    from agent.model.wire import Assignments
    from agent.state import StateStore

CONTROL: Final = "seenControl"
HISTORY: Final = "seenHistory"
REVISION: Final = "seenRevision"


class Seen(Struct, frozen=True, kw_only=True):
    """The last state seen of one control."""

    control_id: str = ""
    history: str = ""
    """Empty if that control has no histories."""
    revision: int = 0


class Watermark:
    """The newest state seen of control; one per client."""

    def __init__(self, store: StateStore, seen: Seen) -> None:
        self.seen = seen
        self._store = store

    @classmethod
    async def open(cls, store: StateStore) -> Watermark:
        """Read the value that an earlier process saved.

        Raises:
            StateFailure: it cannot be read.
        """
        revision = await store.get_meta(REVISION) or ""
        seen = Seen(
            control_id=await store.get_meta(CONTROL) or "",
            history=await store.get_meta(HISTORY) or "",
            revision=int(revision) if revision.isascii() and revision.isdecimal() else 0,
        )
        return cls(store, seen)

    def begin(self, control_id: str, history: str) -> None:
        """Record the state from which answers of this control count; returns at once."""
        self._note(Seen(control_id=control_id, history=history))

    def taken(self, control_id: str, orders: Assignments) -> None:
        """Record that orders were taken; returns at once."""
        self._note(Seen(control_id=control_id, history=orders.history, revision=orders.revision))

    def _note(self, now: Seen) -> None:
        if now == self.seen:
            return
        batch = Batch()
        batch.put_meta(REVISION, str(now.revision))
        if now.control_id != self.seen.control_id:
            batch.put_meta(CONTROL, now.control_id)
        if now.history != self.seen.history:
            batch.put_meta(HISTORY, now.history)
        self.seen = now
        self._store.note(batch)


def cautious(orders: Assignments) -> Assignments:
    """Return the harmless part of orders from a control that went back without knowing it. Pure."""
    tasks = [task for task in orders.tasks if task.desired_status != DesiredStatus.STOPPED]
    return replace(orders, full=False, tasks=tasks)


def went_back(seen: Seen, control_id: str, orders: Assignments) -> str:
    """Return why orders are from an older state than one seen before, or nothing. Pure."""
    if not seen.control_id or seen.control_id != control_id:
        return ""
    if seen.history and orders.history and seen.history != orders.history:
        return "its store has another history"
    if orders.revision < seen.revision:
        return f"it is at revision {orders.revision}, but was at {seen.revision}"
    return ""
