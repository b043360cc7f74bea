"""Decides which waiting reports still have to be sent. Pure.

A report is complete, so of several reports with the same task and status only the newest is sent.
But each status that a task passed through is reported, in order: operators and the scheduler rely
on seeing RUNNING before STOPPED.
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
"""Tasks whose last accepted report is remembered; forgetting one only costs a request."""

_encode = msgspec.json.Encoder(order="deterministic").encode


class QueuedReport(NamedTuple):
    """A report and the number to settle it by."""

    seq: int
    change: TaskChange


def queue_key(change: TaskChange) -> str:
    """Return the key of the queue in which a report keeps its order: its task or attachment."""
    if change.task_arn:
        return change.task_arn
    return "\n".join(["attachment", *(a.id for a in change.attachments)])


def is_foreign(task_arn: str, instance_arn: str) -> bool:
    """Return whether a task is in another partition, region or account than the container instance.

    Amazon ECS orders no such task: it was left by another control that this host had before.
    """
    task, instance = task_arn.split(":", 5), instance_arn.split(":", 5)
    return len(task) == len(instance) == 6 and task[:5] != instance[:5]


def supersedes(newer: TaskChange, older: TaskChange) -> bool:
    """Return whether the older of two consecutive reports may be dropped for the newer one."""
    return bool(newer.status) and newer.status == older.status


class TaskQueue:
    """The waiting reports of one task, oldest first; at most one is in flight."""

    def __init__(self) -> None:
        self.under_way = False
        """True while the first row is being sent and must stay as it is."""
        self._rows: deque[QueuedReport] = deque()

    def __len__(self) -> int:
        """Return the number of waiting reports, including the one in flight."""
        return len(self._rows)

    def add(self, row: QueuedReport) -> list[int]:
        """Add a report; return the numbers of those that need not be sent any more."""
        done: list[int] = []
        if len(self._rows) > self.under_way and supersedes(row.change, self._rows[-1].change):
            done.append(self._rows.pop().seq)
        self._rows.append(row)
        return done

    def first(self) -> tuple[QueuedReport, list[int]]:
        """Return the report to send next, and the numbers of those that it supersedes.

        A superseded report was in flight when the newer one came, and failed.

        Raises:
            IndexError: there is no report.
        """
        done: list[int] = []
        while len(self._rows) > 1 and supersedes(self._rows[1].change, self._rows[0].change):
            done.append(self._rows.popleft().seq)
        return self._rows[0], done

    def drop_first(self) -> int:
        """Remove the first report, whatever its result; return its number."""
        return self._rows.popleft().seq


class Accepted:
    """The last call that Amazon ECS accepted for each task; sending it again changes nothing."""

    def __init__(self, limit: int = ACCEPTED_LIMIT) -> None:
        self._limit = limit
        self._marks: OrderedDict[str, bytes] = OrderedDict()

    def has(self, key: str, call: EcsCall) -> bool:
        """Return whether exactly this call was the last one accepted for this key."""
        return self._marks.get(key) == _mark(call)

    def note(self, key: str, call: EcsCall) -> None:
        """Remember the call; above the limit, the least recently used key is forgotten."""
        self._marks[key] = _mark(call)
        self._marks.move_to_end(key)
        while len(self._marks) > self._limit:
            self._marks.popitem(last=False)


def _mark(call: EcsCall) -> bytes:
    return hashlib.blake2b(_encode(call), digest_size=16).digest()
