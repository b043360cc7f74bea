"""The events that are in no segment yet, in memory, as runs. For one writer and any number of readers.

Two generations: what is added to, and what is being made a segment meanwhile (frozen). A reader that
looks here first and in the catalogue after misses nothing; what it finds in both has one position.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from agent.controlplane.log_store.contract import Run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Times(NamedTuple):
    """Of the events of one stream in memory."""

    first_ms: int
    last_ms: int
    ingested_ms: int


class Generation(Struct):
    """The runs of one journal."""

    number: int
    runs: dict[int, list[Run]] = field(default_factory=dict)
    """By stream."""
    size_bytes: int = 0
    count: int = 0
    batches: set[bytes] = field(default_factory=set)

    def add(self, run: Run) -> None:
        """Add a run."""
        self.runs.setdefault(run.stream_id, []).append(run)
        self.size_bytes += len(run.body)
        self.count += 1
        if run.batch:
            self.batches.add(run.batch)


class Recent:
    """All that is in memory; every method may be called from any thread."""

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._active = Generation(number)
        self._frozen: Generation | None = None

    @property
    def active(self) -> Generation:
        """What is added to; changed by the writer alone."""
        return self._active

    @property
    def frozen(self) -> Generation | None:
        """What is being made a segment."""
        return self._frozen

    def add(self, runs: Iterable[Run]) -> None:
        """Show runs to readers."""
        with self._lock:
            for run in runs:
                self._active.add(run)

    def freeze(self, next_number: int) -> Generation:
        """Begin the next generation; the frozen one must have been dropped."""
        with self._lock:
            if self._frozen is not None:
                raise ValueError("a generation is frozen already")
            self._frozen, self._active = self._active, Generation(next_number)
            return self._frozen

    def restore(self, frozen: Iterable[Run], number: int) -> None:
        """Put a generation in that was being made a segment when the process ended."""
        generation = Generation(number)
        for run in frozen:
            generation.add(run)
        with self._lock:
            self._frozen = generation

    def frozen_runs(self) -> dict[int, list[Run]]:
        """Return the runs of the frozen generation by stream."""
        with self._lock:
            return {} if self._frozen is None else dict(self._frozen.runs)

    def drop_frozen(self) -> None:
        """Forget the frozen generation: it is a segment now."""
        with self._lock:
            self._frozen = None

    def forget(self, stream_ids: Collection[int]) -> None:
        """Forget the runs of streams that are deleted."""
        with self._lock:
            for generation in self._generations():
                for stream_id in stream_ids:
                    for run in generation.runs.pop(stream_id, ()):
                        generation.size_bytes -= len(run.body)
                        generation.count -= 1

    def has_batch(self, digest: bytes) -> bool:
        """Tell whether a batch is among them."""
        with self._lock:
            return any(digest in generation.batches for generation in self._generations())

    def of_streams(self, stream_ids: Iterable[int]) -> list[Run]:
        """Return the runs of some streams."""
        with self._lock:
            return [
                run
                for stream_id in stream_ids
                for generation in self._generations()
                for run in generation.runs.get(stream_id, ())
            ]

    def of_group(self, group_id: int) -> list[Run]:
        """Return the runs of a group."""
        with self._lock:
            return [
                run
                for generation in self._generations()
                for runs in generation.runs.values()
                if runs and runs[0].group_id == group_id
                for run in runs
            ]

    def since(self, sequence: int) -> list[Run]:
        """Return the runs with events of that sequence or later, in order."""
        with self._lock:
            found = [
                run
                for generation in self._generations()
                for runs in generation.runs.values()
                for run in runs
                if run.first_sequence + run.count > sequence
            ]
        return sorted(found, key=lambda run: run.first_sequence)

    def times_of(self, stream_id: int) -> Times | None:
        """Return the times of a stream's events in memory; None for none."""
        return times(self.of_streams([stream_id]))

    def _generations(self) -> list[Generation]:
        return [self._active] if self._frozen is None else [self._frozen, self._active]


def times(runs: Collection[Run]) -> Times | None:
    """Return the times of some runs; None for none."""
    if not runs:
        return None
    return Times(
        min(run.least_ms for run in runs),
        max(run.most_ms for run in runs),
        max(run.ingested_ms for run in runs),
    )
