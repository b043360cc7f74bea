"""The log store: what control's event loop works with.

::

    changes ──► writer thread ──► catalogue, journal ──► the caller is told
    reads   ──► two reader threads ──► memory, segments

Every change is durable when it returns. A call that is cancelled may still happen.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog

from agent.controlplane.log_store import changes, disk, recovery
from agent.controlplane.log_store.contract import Bounds, LogStoreBusy, LogStoreFailure
from agent.controlplane.log_store.reading import Reader
from agent.controlplane.log_store.sealing import Sealer
from agent.controlplane.log_store.sweeping import Sweep
from agent.controlplane.log_store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.controlplane.log_store.changes import Batch, Taken
    from agent.controlplane.log_store.contract import Group, Stream
    from agent.controlplane.log_store.paging import Ask
    from agent.controlplane.log_store.reading import Found, Window
    from agent.controlplane.log_store.writer import Job, Outcome

READERS = 2

ResultT = TypeVar("ResultT")

_log = structlog.get_logger(__name__)


class Usage(NamedTuple):
    """What the store takes of the disk."""

    taken_bytes: int
    most_bytes: int
    segments: int
    damaged_segments: int


class LogStore:
    """Log events of all groups; open one with ``await LogStore.open(directory)``."""

    def __init__(
        self,
        directory: Path,
        opened: recovery.Opened,
        bounds: Bounds,
        clock: Callable[[], float],
    ) -> None:
        """Take what ``open`` found."""
        self.bounds = bounds
        self.clock = clock
        """Unix seconds."""
        self.directory = directory
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] | None = None
        self.batches_taken = 0
        """How often ``append`` took something; see ``grown``."""
        self._grown = asyncio.Event()
        graveyard = disk.Graveyard(directory)
        self._writer = Writer(
            directory,
            opened.catalogue,
            opened.recent,
            bounds,
            next_sequence=opened.next_sequence,
            clock=clock,
            deliver=self._deliver_from_thread,
            seal=lambda: self._sealer.seal(),  # noqa: PLW0108 - it is made below
            sweep=Sweep(
                directory,
                bounds,
                graveyard,
                lambda number: self._sealer.rewrite(number),  # noqa: PLW0108 - as above
            ),
        )
        self._sealer = Sealer(
            directory,
            opened.for_sealer,
            opened.recent,
            bounds,
            graveyard,
            submit=self._writer.submit_own,
            failed=self._writer.seal_failed,
        )
        self._reader = Reader(directory, opened.recent, bounds, clock)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="control-log-reader")

    @classmethod
    async def open(
        cls,
        directory: Path,
        bounds: Bounds | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> LogStore:
        """Open the store in a directory, making it when it is missing; its parent must exist.

        Raises:
            LogStoreFailure: it cannot be used; the text says why.
        """
        opened = await asyncio.to_thread(recovery.open_directory, directory)
        store = cls(directory, opened, bounds or Bounds(), clock)
        store._writer.start(opened.journal)
        return store

    @property
    def problem(self) -> str:
        """What is wrong, for a person: writing that failed the last time, damage that was found."""
        damaged = len(self._reader.damaged_segments)
        return self._writer.problem or (
            f"{damaged} segments in {self.directory} are damaged, see the log" if damaged else ""
        )

    def kept_since_ms(self, group: Group) -> int:
        """Return from which time on events of a group count."""
        return self._reader.kept_since_ms(group)

    # Groups and streams.

    async def create_group(
        self, name: str, *, retention_days: int | None = None, tags: dict[str, str] | None = None
    ) -> None:
        """Make a group; raises ``GroupExists``."""
        await self._change(changes.create_group(name, retention_days, tags or {}))

    async def delete_group(self, name: str) -> None:
        """Delete a group with its streams and events; raises ``GroupMissing``."""
        await self._change(changes.delete_group(name))

    async def change_group(self, name: str, decide: Callable[[Group], Group]) -> Group:
        """Change retention or tags of a group; ``decide`` is pure and runs in a thread.

        Raises:
            GroupMissing: there is no such group.
        """
        changed: Group = await self._change(changes.change_group(name, decide))
        return changed

    async def group(self, name: str) -> Group:
        """Return a group; raises ``GroupMissing``."""
        return await self._read(lambda: self._reader.catalogue.group(name))

    async def groups(
        self, *, prefix: str = "", pattern: str = "", after: str = "", most: int
    ) -> list[Group]:
        """Return groups by name, behind one, that begin with ``prefix`` and hold ``pattern``."""
        return await self._read(lambda: self._reader.catalogue.groups(prefix, pattern, after, most))

    async def create_stream(self, group: str, name: str) -> None:
        """Make a stream; raises ``GroupMissing`` and ``StreamExists``."""
        await self._change(changes.create_stream(group, name))

    async def ensure_stream(self, group: str, name: str, *, make_group: bool) -> None:
        """Make a stream that is not there; raises ``GroupMissing`` unless the group is made, too."""
        await self._change(changes.ensure_stream(group, name, make_group=make_group))

    async def delete_stream(self, group: str, name: str) -> None:
        """Delete a stream with its events; raises ``GroupMissing`` and ``StreamMissing``."""
        await self._change(changes.delete_stream(group, name))

    async def streams(
        self, group: str, *, prefix: str = "", after: str = "", most: int, backwards: bool = False
    ) -> list[Stream]:
        """Return streams of a group by name, behind one; raises ``GroupMissing``."""

        def read() -> list[Stream]:
            catalogue = self._reader.catalogue
            group_id = catalogue.group(group).id
            if backwards:
                return catalogue.streams_backwards(group_id, prefix, after, most)
            return catalogue.streams(group_id, prefix, after, most)

        return await self._read(read)

    async def streams_by_time(
        self, group: str, *, after: tuple[int, str] | None, most: int, newest_first: bool
    ) -> list[Stream]:
        """Return streams of a group by the time of their last event; raises ``GroupMissing``.

        Times are up to a second old.
        """

        def read() -> list[Stream]:
            catalogue = self._reader.catalogue
            group_id = catalogue.group(group).id
            return catalogue.streams_by_time(group_id, after, most, newest_first=newest_first)

        return await self._read(read)

    # Events.

    async def append(self, batch: Batch) -> Taken:
        """Take a batch: it is on the disk on return.

        Raises:
            GroupMissing: there is no such group, and it is not to be made.
            StreamMissing: the same for the stream.
            LogStoreBusy: too much is waiting; nothing was done.
            LogStoreFull: the disk does not take it; nothing was done.
        """
        taken: Taken = await self._change(changes.append(self._writer, batch), batch.size_bytes)
        self.batches_taken += 1
        self._grown.set()
        self._grown = asyncio.Event()
        return taken

    async def page(
        self, group: str, ask: Ask, *, streams: Sequence[str] | None = None, prefix: str = ""
    ) -> Found:
        """Return a page of a group's events, of all streams or some.

        Raises:
            GroupMissing: there is no such group.
            StreamMissing: a stream that is named is not there.
        """
        return await self._read(lambda: self._reader.page(group, ask, streams, prefix))

    # For who reads everything once.

    async def window(self, sequence: int, *, most_events: int, most_bytes: int) -> Window:
        """Return events from a sequence on, of all groups, in the order they were taken."""
        return await self._read(lambda: self._reader.window(sequence, most_events, most_bytes))

    @property
    def next_sequence(self) -> int:
        """The sequence of the next event that is taken."""
        return self._writer.next_sequence

    async def cursor(self, name: str) -> int | None:
        """Return up to where a reader of everything has come; None for one that is not known."""
        return await self._read(lambda: self._reader.catalogue.cursor(name))

    async def set_cursor(self, name: str, sequence: int) -> None:
        """Keep up to where a reader of everything has come."""
        await self._change(changes.set_cursor(name, sequence))

    async def grown(self, batches_taken: int) -> None:
        """Return when more batches were taken than there were when a reader looked."""
        while self.batches_taken == batches_taken:
            await self._grown.wait()

    async def usage(self) -> Usage:
        """Return what the store takes."""

        def read() -> Usage:
            segments = self._reader.catalogue.segments()
            taken = disk.size_bytes(self.directory) + sum(size for *_, size, _ in segments)
            damaged = len(self._reader.damaged_segments)
            return Usage(taken, self.bounds.most_bytes, len(segments), damaged)

        return await self._read(read)

    async def close(self) -> None:
        """Finish what was accepted; may be repeated."""
        if self._closed is None:
            self._closed = self._loop.run_in_executor(None, self._shut_down)
        await asyncio.shield(self._closed)

    def _shut_down(self) -> None:
        self._writer.close()
        self._sealer.close()
        self._readers.shutdown(wait=True)
        self._reader.close()
        self._opened.catalogue.connection.close()
        self._opened.lock.release()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise LogStoreFailure("the log store is closed")

    async def _change(self, job: Job, size_bytes: int = 0) -> Any:
        self._check_open()
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._writer.submit(job, future, size_bytes):
            raise LogStoreBusy
        return await future

    async def _read(self, read: Callable[[], ResultT]) -> ResultT:
        self._check_open()
        try:
            return await self._loop.run_in_executor(self._readers, read)
        except sqlite3.Error as error:
            _log.error("log catalogue cannot be read", error=str(error))
            raise LogStoreFailure(
                f"the log catalogue in {self.directory} cannot be read: {error}; restart control, which "
                "makes a damaged one anew"
            ) from error

    def _deliver_from_thread(self, outcomes: list[Outcome]) -> None:
        try:
            self._loop.call_soon_threadsafe(_deliver, outcomes)
        except RuntimeError:
            # The loop is closed: nobody waits any more, and the changes are on disk.
            return


def _deliver(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.future.done():
            continue
        if isinstance(outcome.result, Exception):
            outcome.future.set_exception(outcome.result)
        else:
            outcome.future.set_result(outcome.result)
