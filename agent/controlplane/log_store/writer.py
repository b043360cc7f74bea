"""The one thread that changes the log store: takes waiting jobs, does them, makes them durable together.

::

    jobs ──► catalogue: one transaction ──► journal: one frame, one fdatasync ──► readers see it, callers
                                                                                  are told
    journal full ──► frozen ──► a segment, in the sealer's thread ──► a job: catalogue, journal removed

When two journals are full, it waits for the segment: what is queued waits too, and is bounded.
A job that is refused has changed nothing. When the disk refuses the events of a group, those jobs fail
and nothing of them is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from agent.controlplane.log_store import disk
from agent.controlplane.log_store.contract import LogStoreFailure, LogStoreFull
from agent.controlplane.log_store.journal import Journal
from agent.controlplane.log_store.recent import Times
from agent.errors import AgentError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.log_store.catalogue import Catalogue
    from agent.controlplane.log_store.contract import Bounds, Run
    from agent.controlplane.log_store.recent import Recent

GROUP_MOST: Final = 512
"""Jobs in one commit."""
GROUP_BYTES: Final = 4 * 1024 * 1024
"""Of events in one commit."""
RUN_BYTES: Final = 512
"""What a run takes of memory beside its events."""
_NOTE_TIMES_S: Final = 1.0
_SWEEP_S: Final = 60.0
_SEAL_AGAIN_S: Final = 5.0
_LOOK_AT_DISK_S: Final = 1.0
_WAIT_FOR_SEGMENT_S: Final = 10.0
_NEVER: Final = float("inf")

_log = structlog.get_logger(__name__)


class Turn:
    """What the jobs of one group commit work with."""

    def __init__(self, writer: Writer) -> None:
        self.catalogue = writer.catalogue
        self.recent = writer.recent
        self.now_ms = int(writer.clock() * 1000)
        self.runs: list[Run] = []
        self.effects: list[Callable[[], None]] = []
        """What is done once all of it is durable."""
        self.is_bound = False
        """Whether what the job of the moment returns holds only if the runs of the group are written."""
        self._writer = writer
        self._batches: set[bytes] = set()

    @property
    def next_sequence(self) -> int:
        """The sequence of the next event that is taken."""
        return self._writer.next_sequence

    def take(self, run: Run) -> None:
        """Add a run to the group; its sequences must begin at ``next_sequence``."""
        self._writer.next_sequence = run.first_sequence + run.count
        self.runs.append(run)
        self._batches.add(run.batch)
        self.is_bound = True

    def check_room(self) -> None:
        """Return when the disk has room for events; raises ``LogStoreFull``."""
        self._writer.check_room()

    def has_batch(self, digest: bytes) -> bool:
        """Tell whether a batch was taken already, now or before."""
        if digest in self._batches:
            self.is_bound = True
            return True
        return self.recent.has_batch(digest) or self.catalogue.has_batch(digest)

    def forget(self, stream_ids: list[int]) -> None:
        """Have the runs of streams forgotten, those of this group too."""
        gone = set(stream_ids)
        self.runs = [run for run in self.runs if run.stream_id not in gone]
        self.effects.append(lambda: self.recent.forget(gone))


Job = Callable[[Turn], Any]
"""Changes something and returns what its caller gets; raises ``AgentError`` before it changed anything."""


class Outcome(Struct, frozen=True):
    """What became of one job."""

    future: asyncio.Future[Any]
    result: Any
    """What the caller gets; an exception is raised there."""


class Writer:
    """Runs jobs in a thread of its own; ``submit`` and ``close`` may be called from any thread."""

    def __init__(  # noqa: PLR0913 - all that it changes
        self,
        directory: Path,
        catalogue: Catalogue,
        recent: Recent,
        bounds: Bounds,
        *,
        next_sequence: int,
        clock: Callable[[], float],
        deliver: Callable[[list[Outcome]], None],
        seal: Callable[[], None],
        sweep: Job,
    ) -> None:
        """Take what it works with.

        Args:
            directory: of the journals.
            catalogue: changed by this thread alone.
            recent: what readers see of the journals.
            bounds: when a journal is full, and how full a disk may be.
            next_sequence: of the next event.
            clock: Unix seconds.
            deliver: is given the outcomes of each group.
            seal: begins to make the frozen generation a segment, which ends with a job that drops it.
            sweep: the job that is done every minute, and at once again when it says that there is more.
        """
        self.catalogue = catalogue
        self.recent = recent
        self.clock = clock
        self.next_sequence = next_sequence
        self.problem = ""
        """Why the last group could not be written; read from any thread."""
        self._directory = directory
        self._bounds = bounds
        self._deliver = deliver
        self._seal = seal
        self._sweep = sweep
        self._jobs: queue.SimpleQueue[tuple[Job, asyncio.Future[Any] | None, int] | None]
        self._jobs = queue.SimpleQueue()
        self._own: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._waiting_lock = threading.Lock()
        self._journal: Journal | None = None
        self._journal_since = time.monotonic()
        self._times: dict[int, Times] = {}
        self._times_due = 0.0
        self._sweep_due = time.monotonic()
        self._seal_due = _NEVER
        self._disk_due = 0.0
        self._free_bytes = 0
        self._thread = threading.Thread(target=self._run, name="control-log-writer", daemon=True)

    def start(self, journal: Journal | None) -> None:
        """Begin to work; goes on with the journal of the active generation, where there is one."""
        self._journal = journal
        for generation in (self.recent.frozen, self.recent.active):
            for runs in generation.runs.values() if generation is not None else ():
                for run in runs:
                    self._note(run)
        if self.recent.frozen is not None:
            self._seal()
        self._thread.start()

    def submit(self, job: Job, future: asyncio.Future[Any] | None, size_bytes: int = 0) -> bool:
        """Queue a job, whose outcome is delivered; False when more waits than may wait."""
        with self._waiting_lock:
            if size_bytes and self._waiting_bytes + size_bytes > self._bounds.waiting_bytes:
                return False
            self._waiting_bytes += size_bytes
        self._jobs.put((job, future, size_bytes))
        return True

    def submit_own(self, job: Job) -> None:
        """Queue a job of the store's own, which is done before all others."""
        self._own.put(job)
        self.submit(_nothing, None)  # Which wakes the thread.

    def close(self) -> None:
        """Finish the queued jobs and end the thread; blocks."""
        self._jobs.put(None)
        self._thread.join()
        if self._journal is not None:
            self._journal.close()

    def seal_failed(self, error: Exception) -> None:
        """Have the frozen generation tried again in a while; from any thread."""
        _log.error("log segment cannot be written; tried again", error=str(error))
        self.problem = f"a log segment cannot be written: {error}"
        self._seal_due = time.monotonic() + _SEAL_AGAIN_S
        self.submit(_nothing, None)  # Which wakes the thread.

    def check_room(self) -> None:
        """Return when the disk has room for events; raises ``LogStoreFull``."""
        now = time.monotonic()
        if now >= self._disk_due:
            self._disk_due = now + _LOOK_AT_DISK_S
            self._free_bytes = disk.free_bytes(self._directory)
        if self._free_bytes < self._bounds.keep_free_bytes // 2:
            raise LogStoreFull(
                f"the disk of {self._directory} has {self._free_bytes >> 20} MiB left, and others need "
                "them: free some space"
            )

    @property
    def is_behind(self) -> bool:
        """Whether memory holds as much as it may, since no segment can be written."""
        return self._is_full(2)

    def _is_full(self, times: int) -> bool:
        active = self.recent.active
        size_bytes = active.size_bytes + active.count * RUN_BYTES
        return size_bytes >= times * self._bounds.journal_bytes

    def _run(self) -> None:
        closing = False
        while not closing:
            group, closing = self._next_group()
            self._do_own()
            if group:
                outcomes = self._commit(group)
                with self._waiting_lock:
                    self._waiting_bytes -= sum(size for *_, size in group)
                self._deliver(outcomes)
            self._tidy(closing=closing)

    def _do_own(self) -> None:
        """Do the jobs of the store's own; wait for a segment while memory is full, unless that failed."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._by_itself(self._own.get_nowait())
        until = time.monotonic() + _WAIT_FOR_SEGMENT_S
        with contextlib.suppress(queue.Empty):
            while self.is_behind and self.recent.frozen is not None and self._seal_due == _NEVER:
                self._by_itself(self._own.get(timeout=max(0.0, until - time.monotonic())))
        if self.recent.frozen is None and self._is_due(time.monotonic()):
            self._rotate()

    def _next_group(self) -> tuple[list[tuple[Job, asyncio.Future[Any] | None, int]], bool]:
        group: list[tuple[Job, asyncio.Future[Any] | None, int]] = []
        size_bytes = 0
        with contextlib.suppress(queue.Empty):
            item = self._jobs.get(timeout=self._wait_s())
            while item is not None:
                group.append(item)
                size_bytes += item[2]
                if len(group) >= GROUP_MOST or size_bytes >= GROUP_BYTES:
                    return group, False
                item = self._jobs.get_nowait()
            return group, True
        return group, False

    def _wait_s(self) -> float:
        due = min(self._sweep_due, self._seal_due, self._times_due if self._times else _NEVER)
        return max(0.0, due - time.monotonic())

    def _commit(self, group: list[tuple[Job, asyncio.Future[Any] | None, int]]) -> list[Outcome]:
        turn = Turn(self)
        try:
            results, bound = self._change(turn, [job for job, *_ in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live on
            results, bound = [self._failure(error)] * len(group), []
        else:
            try:
                self._write(turn.runs)
            except OSError as error:
                failure = self._failure(error)
                for place in bound:
                    results[place] = failure
            for effect in turn.effects:
                effect()
        return [
            Outcome(future, result)
            for (_, future, _), result in zip(group, results, strict=True)
            if future is not None
        ]

    def _change(self, turn: Turn, jobs: list[Job]) -> tuple[list[Any], list[int]]:
        """Do jobs in one transaction; return their results, and the places of those that are bound."""
        connection = self.catalogue.connection
        results: list[Any] = []
        bound: list[int] = []
        connection.execute("BEGIN")
        try:
            for place, job in enumerate(jobs):
                turn.is_bound = False
                try:
                    results.append(job(turn))
                except AgentError as refusal:
                    results.append(refusal)
                if turn.is_bound:
                    bound.append(place)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results, bound

    def _write(self, runs: list[Run]) -> None:
        if not runs:
            return
        if self._journal is None:
            self._journal = Journal.create(self._directory, self.recent.active.number)
            self._journal_since = time.monotonic()
        self._journal.append(runs)
        self.recent.add(runs)
        if self._seal_due == _NEVER:
            self.problem = ""
        for run in runs:
            self._note(run)

    def _tidy(self, *, closing: bool) -> None:
        """Do what is due between groups."""
        now = time.monotonic()
        if self._times and (closing or now >= self._times_due):
            noted, self._times = self._times, {}
            self._by_itself(lambda turn: _note_times(turn, noted))
        if closing:
            return
        if now >= self._seal_due:
            self._seal_due = _NEVER
            self._seal()
        if now >= self._sweep_due:
            self._sweep_due = now + _SWEEP_S
            if self._by_itself(self._sweep):
                self._sweep_due = now  # There is more to sweep, after what waits.

    def _by_itself(self, job: Job) -> Any:
        """Do a job that nobody waits for; return its result, None when it failed."""
        turn = Turn(self)
        try:
            (result,), _ = self._change(turn, [job])
        except Exception as error:  # noqa: BLE001 - as in _commit
            self._failure(error)
            if self.recent.frozen is not None:
                self._seal_due = time.monotonic() + _SEAL_AGAIN_S
            return None
        for effect in turn.effects:
            effect()
        return None if isinstance(result, AgentError) else result

    def _is_due(self, now: float) -> bool:
        if self._journal is None or not self.recent.active.count:
            return False
        return self._is_full(1) or now - self._journal_since > self._bounds.journal_age_s

    def _rotate(self) -> None:
        """Begin the next journal, and have the full one made a segment."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self.recent.freeze(self.recent.active.number + 1)
        self._seal()

    def _note(self, run: Run) -> None:
        old = self._times.get(run.stream_id)
        if old is None:
            old = Times(run.least_ms, run.most_ms, run.ingested_ms)
        if not self._times:
            self._times_due = time.monotonic() + _NOTE_TIMES_S
        self._times[run.stream_id] = Times(
            min(old.first_ms, run.least_ms),
            max(old.last_ms, run.most_ms),
            max(old.ingested_ms, run.ingested_ms),
        )

    def _failure(self, error: Exception) -> LogStoreFailure | LogStoreFull:
        if isinstance(error, OSError | sqlite3.Error):
            _log.error("logs cannot be written", error=str(error))
        else:
            _log.exception("logs cannot be written")
        self.problem = f"logs cannot be written to {self._directory}: {error}"
        return LogStoreFull(self.problem)


def _nothing(_turn: Turn) -> None:
    """Change nothing."""


def _note_times(turn: Turn, times: dict[int, Times]) -> None:
    for stream_id, seen in times.items():
        turn.catalogue.note_times(stream_id, seen)
