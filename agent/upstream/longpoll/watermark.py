"""The newest state of control that this agent saw, and whether control went back since.

Control's store can be put back to an older copy. What it wants then is not what it wanted last, and
nobody may be stopped by it. So the agent keeps the history and the revision whose orders it took last,
and the generation of its registration, and compares them with every answer::

    another history                ─► control went back, and knows it
    the same history, less of it   ─► control went back, and does not know it yet
    another control                ─► nothing to compare: it is not the one that gave the tasks

Touches the ``meta`` table. The revision is written without waiting for the disk, along with whatever
is written next: an older one is only a little less to compare with.
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
    """What was seen of one control."""

    control_id: str = ""
    history: str = ""
    """Empty where that control does not know histories."""
    revision: int = 0


class Watermark:
    """What was seen of control; one per client."""

    def __init__(self, store: StateStore, seen: Seen) -> None:
        self.seen = seen
        self._store = store

    @classmethod
    async def open(cls, store: StateStore) -> Watermark:
        """Begin with what an earlier process saw.

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
        """Take note that control was asked, and from where on its answers count; returns at once."""
        self._note(Seen(control_id=control_id, history=history))

    def taken(self, control_id: str, orders: Assignments) -> None:
        """Take note that orders were taken; returns at once."""
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
    """Return of orders what can harm nothing: of a control that went back and does not know it. Pure."""
    tasks = [task for task in orders.tasks if task.desired_status != DesiredStatus.STOPPED]
    return replace(orders, full=False, tasks=tasks)


def went_back(seen: Seen, control_id: str, orders: Assignments) -> str:
    """Return why orders are of an older state than one that was seen; empty where they are not. Pure."""
    if not seen.control_id or seen.control_id != control_id:
        return ""
    if seen.history and orders.history and seen.history != orders.history:
        return "its store has another history"
    if orders.revision < seen.revision:
        return f"it is at revision {orders.revision}, and was at {seen.revision}"
    return ""
