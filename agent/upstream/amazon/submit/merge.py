"""What of the waiting reports still needs to be told. Pure.

A report is whole, so that of several with the same status of the same task the newest tells it all.
Each status that a task went through is told nevertheless, in order: an operator, and the scheduler,
count on having seen RUNNING before STOPPED.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from agent.model.changes import TaskChange
    from agent.upstream.amazon.submit.shapes import EcsCall

ACCEPTED_LIMIT: Final = 2000
"""Tasks of which it is remembered what was accepted last; forgetting one costs a request."""

_encode = msgspec.json.Encoder(order="deterministic").encode


class QueuedReport(NamedTuple):
    """A report and the number to settle it by."""

    seq: int
    change: TaskChange


def lane_key(change: TaskChange) -> str:
    """Return what a report must keep its order with: those of its task, or of its attachment."""
    if change.task_arn:
        return change.task_arn
    return "\n".join(["attachment", *(a.id for a in change.attachments)])


def is_foreign(task_arn: str, instance_arn: str) -> bool:
    """Tell whether a task is of another partition, region or account than the container instance.

    Amazon ECS orders no such task: it was left by another control that served this host before.
    """
    task, instance = task_arn.split(":", 5), instance_arn.split(":", 5)
    return len(task) == len(instance) == 6 and task[:5] != instance[:5]


def supersedes(newer: TaskChange, older: TaskChange) -> bool:
    """Tell whether nothing is lost if only the newer of two reports that follow each other is told."""
    return bool(newer.status) and newer.status == older.status


class TaskQueue:
    """The reports of one task that wait, oldest first; at most one is under way."""

    def __init__(self) -> None:
        self.under_way = False
        """True while the first row is being sent and must stay as it is."""
        self._rows: deque[QueuedReport] = deque()

    def __len__(self) -> int:
        """Return how many reports wait, the one under way included."""
        return len(self._rows)

    def add(self, row: QueuedReport) -> list[int]:
        """Take a report; return the numbers of those that need no telling any more."""
        done: list[int] = []
        if len(self._rows) > self.under_way and supersedes(row.change, self._rows[-1].change):
            done.append(self._rows.pop().seq)
        self._rows.append(row)
        return done

    def first(self) -> tuple[QueuedReport, list[int]]:
        """Return the report to send next, and the numbers of those that it made needless.

        Such a one was under way when its successor came, and failed.

        Raises:
            IndexError: nothing waits.
        """
        done: list[int] = []
        while len(self._rows) > 1 and supersedes(self._rows[1].change, self._rows[0].change):
            done.append(self._rows.popleft().seq)
        return self._rows[0], done

    def drop_first(self) -> int:
        """Take out the first report, whatever became of it; return its number."""
        return self._rows.popleft().seq


class Accepted:
    """What Amazon ECS took last of each task: the same again would tell it nothing."""

    def __init__(self, limit: int = ACCEPTED_LIMIT) -> None:
        self._limit = limit
        self._marks: OrderedDict[str, bytes] = OrderedDict()

    def has(self, key: str, call: EcsCall) -> bool:
        """Tell whether this very call was the last one accepted under this key."""
        return self._marks.get(key) == _mark(call)

    def note(self, key: str, call: EcsCall) -> None:
        """Remember the call; the key that was used least lately is forgotten when there are many."""
        self._marks[key] = _mark(call)
        self._marks.move_to_end(key)
        while len(self._marks) > self._limit:
            self._marks.popitem(last=False)


def _mark(call: EcsCall) -> bytes:
    return hashlib.blake2b(_encode(call), digest_size=16).digest()
