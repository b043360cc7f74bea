"""Tasks that have ended and were forgotten: their last report, kept for a day.

Control had acknowledged it. But control's store can be restored from an older copy, in which such a
task still runs or is still to run. Then the report must be sent again, and the task must not be
started a second time. Each is one row of the store, written in the transaction that deletes the
task's record.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.model.changes import TaskChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.state import Batch, StateStore

KIND: Final = "ended"
KEPT_S: Final = 24 * 3600.0
"""How old a copy of control's store may be for its ended tasks to be recognized."""
KEPT: Final = 2000
"""Maximum number kept; above it, the oldest are dropped."""


class EndedTask(Struct, frozen=True, kw_only=True):
    """The end of one task."""

    origin: str
    """Id of the control that ordered it."""
    at: float
    """Unix time at which it was forgotten."""
    change: TaskChange
    """The last report, with the complete result of the task."""


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(EndedTask).decode


class EndedTasks:
    """All ended tasks, by ARN, oldest first. Belongs to the engine's event loop."""

    def __init__(self, ended: Mapping[str, EndedTask] | None = None) -> None:
        self._ended = dict(ended or {})

    @classmethod
    async def open(cls, store: StateStore) -> EndedTasks:
        """Return those that an earlier process kept.

        Raises:
            StateFailure: they cannot be read.
        """
        rows = await store.load(KIND, decode)
        return cls(dict(sorted(rows.items(), key=lambda row: row[1].at)))

    def __contains__(self, arn: str) -> bool:
        return arn in self._ended

    def keep(self, batch: Batch, ended: EndedTask) -> None:
        """Add one, and drop the oldest if there are too many; durable with the batch."""
        arn = ended.change.task_arn
        self._ended.pop(arn, None)
        self._ended[arn] = ended
        batch.put(KIND, arn, encode(ended))
        for old, known in list(self._ended.items()):
            if len(self._ended) <= KEPT and 0 <= ended.at - known.at <= KEPT_S:
                break
            del self._ended[old]
            batch.delete(KIND, old)

    def again(self, arn: str, control_id: str) -> TaskChange | None:
        """Return one task's report to send again; None if unknown, or if of another control."""
        known = self._ended.get(arn)
        if known is None or known.origin != control_id:
            return None
        return replace(known.change, id=uuid.uuid4().hex)

    def all_of(self, control_id: str) -> list[TaskChange]:
        """Return the reports of all tasks of one control, to send again."""
        found = (self.again(arn, control_id) for arn in self._ended)
        return [change for change in found if change is not None]
