"""The agent's local store: one SQLite file, one writer thread, group commit.

::

    commit(batch) ─┐                         ┌─ one transaction ─► fsync ─► all futures at once
    commit(batch) ─┼─► queue (FIFO) ─► thread┤
    load(kind)    ─┘                         └─ reads, in their place in the queue

While one transaction is on its way to the disk, the batches that arrive wait together and become
the next transaction: the cost of an fsync is shared by everybody who waits.

Touches only its own file and the companions SQLite makes. A full or broken disk fails the commits
of that moment with ``StateFailure``; the store stays open and the next commit tries again.
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
    """What the agent must not forget. Open it with ``StateStore.open``; use it from one event loop."""

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
        """Open or make the state file, rescue it if it is damaged, and migrate it.

        The directory is made if it is absent (mode 0700); the file is readable for its owner only.

        Args:
            path: the state file.
            kept_twice: single values that are also kept in a second place, a file beside it; what
                one of the two places has lost is restored from the other.

        Raises:
            StateFailure: another agent holds it, a newer agent wrote it, or the disk refuses; the
                text names the file and the mend.
        """
        writer = Writer(path, kept_twice)
        database = writer.database
        try:
            await writer.call(database.open, "open")
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
        """False from a write that failed to the next that succeeds."""
        return self._troubles.failure is None

    @property
    def problems(self) -> list[str]:
        """One sentence for everything that is wrong with the store; empty when all is well."""
        return self._troubles.sentences

    @property
    def set_aside(self) -> list[SetAside]:
        """Rows that could not be read, of all times; their bodies are in the table ``set_aside``."""
        return self._troubles.set_aside

    def commit(self, batch: Batch) -> asyncio.Future[None]:
        """Make a batch durable; await the answer to know that it is.

        The batch is taken when this is called, not when the answer is awaited: batches become
        durable in the order of the calls. A cancelled wait does not take the batch back. An empty
        batch is done when everything before it is.

        Raises:
            StateFailure: from the awaited answer. Nothing of the batch was written; the same call
                may succeed later when ``retryable`` is set.
        """
        return self._writer.write(batch.ops, durable=True)

    def note(self, batch: Batch) -> None:
        """Write a batch along with the next one that is durable, or soon after; returns at once.

        For what is not worth waiting for, and may be older than it was after a crash. A disk that
        refuses it is told of as with every other write.
        """
        self._writer.write(batch.ops, durable=False)

    def beat(self) -> asyncio.Future[None]:
        """Ask the writer for a sign of life; the answer is there when the thread has come to it.

        Says nothing about the disk: a writer whose every write fails is alive. At most one question
        should be open at a time. The thread also looks whether the file is still where it belongs,
        so that a removed one is put back though nothing is written.

        Raises:
            StateFailure: the store is closed.
        """
        return self._writer.beat()

    async def load(self, kind: str, decode: Callable[[bytes], T]) -> dict[str, T]:
        """Read all records of a kind, by key, in the order in which they were first put.

        A row that ``decode`` raises for is moved to the table ``set_aside``, reported in
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
        """Read one single value; raises ``StateFailure`` when the file cannot be read."""
        return await self._writer.call(lambda: self._writer.database.meta(key), "read")

    async def close(self) -> None:
        """Finish what was handed in, close the file and give the lock back; idempotent."""
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
