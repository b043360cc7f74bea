"""The agent's local store: one SQLite file, one writer thread, group commit.

::

    commit(batch) ─┐                         ┌─ one transaction ─► fsync ─► all futures at once
    commit(batch) ─┼─► queue (FIFO) ─► thread┤
    load(kind)    ─┘                         └─ reads, in their place in the queue

Batches that arrive while a transaction is being written form the next transaction together. So all
who wait share the cost of one fsync.

Accesses only its own file, the companions that SQLite creates, and the mirror. On a full or failing
disk, commits fail with ``StateFailure``; the store stays open, and the next commit tries again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent.errors import StateFailure
from agent.model import changes
from agent.state.batch import Batch
from agent.state.outbox import Outbox
from agent.state.writer import Writer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from agent.state.database import OutboxRow, SetAside

T = TypeVar("T")


class StateStore:
    """The agent's durable state. Open it with ``StateStore.open``; use it from one event loop."""

    def __init__(self, writer: Writer, outbox_size: int) -> None:
        self.path = writer.path
        self._writer = writer
        self._troubles = writer.troubles
        self.outbox = Outbox(
            outbox_size, read=self._outbox_head, forget=self._forget, count=self._outbox_count
        )
        writer.on_added(self.outbox.added)

    @classmethod
    async def open(cls, path: Path, *, kept_twice: frozenset[str] = frozenset()) -> StateStore:
        """Open or create the state file, rescue it if it is damaged, and migrate it.

        Creates a missing directory (mode 0700). The file is readable only by its owner.

        Args:
            path: the state file.
            kept_twice: single values that are also kept in the mirror, a file beside it; what one
                of the two files has lost is restored from the other.

        Raises:
            StateFailure: another agent uses it, a newer agent wrote it, or the disk fails; the text
                names the file and the fix.
        """
        writer = await Writer.open(path, kept_twice)
        database = writer.database
        try:
            outbox_size = await writer.call(database.outbox_size, "read")
            writer.troubles.opened(
                database.notes, await writer.call(database.all_set_aside, "read")
            )
        except BaseException:
            await writer.close()
            raise
        writer.watch()
        return cls(writer, outbox_size)

    @property
    def healthy(self) -> bool:
        """False from a failed write until the next successful one."""
        return self._troubles.failure is None

    @property
    def problems(self) -> list[str]:
        """One sentence per problem of the store; empty if there is none."""
        return self._troubles.sentences

    @property
    def set_aside(self) -> list[SetAside]:
        """All rows that were ever unreadable; their bodies are in the table ``set_aside``."""
        return self._troubles.set_aside

    def commit(self, batch: Batch) -> asyncio.Future[None]:
        """Make a batch durable; await the returned future to know that it is.

        The batch is taken at the call, not when the future is awaited: batches become durable in
        call order. Cancelling the wait does not cancel the batch. An empty batch is done when
        everything before it is.

        Raises:
            StateFailure: from the awaited future. Nothing of the batch was written; if
                ``retryable`` is set, the same call may succeed later.
        """
        return self._writer.write(batch.ops, durable=True)

    def note(self, batch: Batch) -> None:
        """Write a batch along with the next durable one, or soon after; returns at once.

        For values that are not worth waiting for, and that may be outdated after a crash. A failed
        write is reported like any other.
        """
        self._writer.write(batch.ops, durable=False)

    def beat(self) -> asyncio.Future[None]:
        """Ask the writer thread for a sign of life; the future is done when it has answered.

        Says nothing about the disk: a writer is alive even if all its writes fail. At most one beat
        should be pending at a time. The thread also checks that the file is still in its place, so
        that a removed file is put back even if nothing is written.

        Raises:
            StateFailure: the store is closed.
        """
        return self._writer.beat()

    async def load(self, kind: str, decode: Callable[[bytes], T]) -> dict[str, T]:
        """Read all records of a kind, by key, in the order in which they were first put.

        If ``decode`` raises for a row, the row is moved to the table ``set_aside``, reported in
        ``set_aside`` and ``problems``, and left out. ``decode`` runs in the store's thread.

        Raises:
            StateFailure: the file cannot be read.
        """
        good, moved, trouble = await self._writer.call(
            lambda: self._writer.database.load(kind, decode), "read"
        )
        self._troubles.unreadable(moved, trouble)
        return good

    async def get_meta(self, key: str) -> str | None:
        """Read one single value; raises ``StateFailure`` if the file cannot be read."""
        return await self._writer.call(lambda: self._writer.database.meta(key), "read")

    async def close(self) -> None:
        """Finish queued work, close the file and release the lock; idempotent."""
        await self._writer.close()

    async def _outbox_head(self, limit: int, after: int) -> list[OutboxRow]:
        good, moved, trouble = await self._writer.call(
            lambda: self._writer.database.outbox_head(limit, changes.decode, after), "read"
        )
        self._troubles.unreadable(moved, trouble)
        self.outbox.lost(len(moved))
        if trouble and not good:
            raise StateFailure(trouble[0])
        return good

    async def _outbox_count(self, task_arn: str) -> int:
        return await self._writer.call(lambda: self._writer.database.outbox_count(task_arn), "read")

    def _forget(self, seqs: tuple[int, ...]) -> asyncio.Future[None]:
        batch = Batch()
        for seq in seqs:
            batch.settle(seq)
        return self._writer.write(batch.ops, durable=False)
