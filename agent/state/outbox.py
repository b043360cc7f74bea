"""The outbox: state changes that control has not acknowledged yet, oldest first.

``Batch.enqueue`` adds a row in the same transaction as the record it is about; the sender removes
it with ``settle``. The oldest rows are kept in memory, so that a report is sent as soon as its
commit is durable, without another read. During a long outage, the remaining rows are only on disk.

Belongs to the event loop. Has one consumer, because two would send rows twice. The consumer either
takes the oldest rows (``wait``, ``peek``), or holds many rows at once and reads on past those that
cannot be sent yet (``more``, ``after``).

Tests: ``tests/unit/state/test_outbox_after.py``, ``tests/unit/upstream/test_outbox_sender.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from agent.model import changes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.model.changes import TaskChange
    from agent.state.database import OutboxRow

_IN_MEMORY: Final = 500
"""Number of rows kept in memory."""


class Outbox:
    """Reports to be sent: at least once, oldest first. Created by ``StateStore``."""

    def __init__(
        self,
        size: int,
        *,
        read: Callable[[int, int], Awaitable[list[OutboxRow]]],
        forget: Callable[[tuple[int, ...]], asyncio.Future[None]],
        count: Callable[[str], Awaitable[int]],
    ) -> None:
        self._size = size
        self._read = read
        self._forget = forget
        self._count = count
        self._on_removed: list[Callable[[], None]] = []
        self._on_acknowledged: list[Callable[[TaskChange], None]] = []
        self._head: deque[tuple[int, TaskChange]] = deque()
        self._settled: set[int] = set()
        """Acknowledged rows that are not yet removed from the disk."""
        self._leaving: set[int] = set()
        """Those of them that are being removed."""
        self._filled = asyncio.Event()
        self._more = asyncio.Event()
        self._signal()

    @property
    def size(self) -> int:
        """The number of reports that control has not acknowledged."""
        return self._size

    @property
    def oldest_at(self) -> float:
        """Unix time of the oldest report that is in memory; 0 if there is none."""
        return self._head[0][1].at if self._head else 0.0

    async def wait(self) -> None:
        """Wait until there is a report to send."""
        await self._filled.wait()

    async def peek(self, limit: int) -> list[tuple[int, TaskChange]]:
        """Return up to ``limit`` of the oldest reports, each with the number to settle it by.

        May return fewer than there are; returns nothing if the rows turned out to be unreadable
        (then they are set aside).

        Raises:
            StateFailure: the store cannot be read now.
        """
        if not self._head and self._size:
            await self._fill()
        return [self._head[index] for index in range(min(limit, len(self._head)))]

    async def more(self) -> None:
        """Wait until a report is added; those added since ``after`` started count."""
        await self._more.wait()

    async def after(self, seq: int, limit: int) -> list[tuple[int, TaskChange]]:
        """Return up to ``limit`` reports newer than ``seq``, oldest first; may return none.

        Older reports need not be settled, so one that cannot be sent does not delay the others. May
        return fewer than there are. New reports are returned without a read, as long as memory
        holds everything before them.

        Raises:
            StateFailure: the store cannot be read now.
        """
        self._more.clear()
        found = self._younger(seq, limit)
        if found or len(self._head) >= self._size:
            return found
        await self._fill()
        found = self._younger(seq, limit)
        if found or len(self._head) >= self._size:
            return found
        # Memory holds only reports that the consumer already has.
        rows = await self._read(limit, seq)
        return [(row.seq, changes.decode(row.body)) for row in rows if row.seq not in self._settled]

    def _younger(self, seq: int, limit: int) -> list[tuple[int, TaskChange]]:
        if not self._head or self._head[-1][0] <= seq:
            return []
        return list(islice((item for item in self._head if item[0] > seq), limit))

    async def _fill(self) -> None:
        """Read the rows that follow those in memory, as far as there is room."""
        room = _IN_MEMORY - len(self._head)
        if room <= 0:
            return
        last = self._head[-1][0] if self._head else 0
        rows = await self._read(room + len(self._settled), last)
        # Reports may have been added or settled while reading.
        last = self._head[-1][0] if self._head else 0
        self._head.extend(
            (row.seq, changes.decode(row.body))
            for row in rows
            if row.seq > last and row.seq not in self._settled
        )

    async def pending(self, task_arn: str) -> bool:
        """Return whether an unacknowledged report of this task is on disk.

        Raises:
            StateFailure: the store cannot be read now.
        """
        return bool(await self._count(task_arn))

    def on_removed(self, callback: Callable[[], None]) -> None:
        """Register a function to call each time acknowledged reports were removed from disk."""
        self._on_removed.append(callback)

    def on_acknowledged(self, callback: Callable[[TaskChange], None]) -> None:
        """Register a function to call with each report that control has acknowledged.

        It must be quick. It is not called for reports that are only on disk, after a long outage.
        """
        self._on_acknowledged.append(callback)

    def settle(self, seqs: Iterable[int]) -> None:
        """Mark reports as acknowledged, so that they are not offered again.

        Returns at once. The rows are removed from disk with the next commit or soon after. After a
        crash before that they are offered once more, and control gives the same answer as before.
        """
        done = set(seqs) - self._settled
        self._settled |= done
        self._size = max(0, self._size - len(done))
        answered = [change for seq, change in self._head if seq in done]
        while self._head and self._head[0][0] in self._settled:
            self._head.popleft()
        if any(seq in done for seq, _ in self._head):
            self._head = deque(item for item in self._head if item[0] not in done)
        self._signal()
        for change in answered:
            for callback in self._on_acknowledged:
                callback(change)
        # Retry rows whose removal failed before, but skip those that are being removed.
        numbers = tuple(self._settled - self._leaving)
        if numbers:
            self._leaving.update(numbers)
            self._forget(numbers).add_done_callback(lambda done: self._forgot(numbers, done))

    def added(self, rows: list[OutboxRow]) -> None:
        """Add rows that became durable; called by the store in commit order."""
        for row in rows:
            # Only while memory holds every row before this one; later rows are read when needed.
            if len(self._head) == self._size < _IN_MEMORY:
                self._head.append((row.seq, changes.decode(row.body)))
            self._size += 1
        self._more.set()
        self._signal()

    def lost(self, count: int) -> None:
        """Subtract rows that were set aside because they cannot be read."""
        self._size = max(0, self._size - count)
        self._signal()

    def _forgot(self, numbers: tuple[int, ...], outcome: asyncio.Future[None]) -> None:
        self._leaving.difference_update(numbers)
        if not outcome.cancelled() and outcome.exception() is None:
            self._settled.difference_update(numbers)
            for callback in self._on_removed:
                callback()

    def _signal(self) -> None:
        if self._size:
            self._filled.set()
        else:
            self._filled.clear()
