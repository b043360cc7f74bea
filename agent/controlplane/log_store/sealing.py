"""Makes the frozen generation a segment, and segments that are mostly dead smaller ones. One thread.

The files are written here; what they change in the catalogue is a job for the writer.
"""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from agent.controlplane.log_store import disk, journal, segments
from agent.controlplane.log_store.contract import LogStoreFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from agent.controlplane.log_store.catalogue import Catalogue
    from agent.controlplane.log_store.contract import Bounds, Event, Run
    from agent.controlplane.log_store.recent import Generation, Recent
    from agent.controlplane.log_store.segments import Footer
    from agent.controlplane.log_store.writer import Job, Turn

_log = structlog.get_logger(__name__)


class Sealer:
    """Writes segments in a thread of its own."""

    def __init__(
        self,
        directory: Path,
        catalogue: Catalogue,
        recent: Recent,
        bounds: Bounds,
        graveyard: disk.Graveyard,
        *,
        submit: Callable[[Job], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Take what it works with.

        Args:
            directory: of the segments.
            catalogue: read by this thread alone.
            recent: has the frozen generation.
            bounds: how large a block is.
            graveyard: takes the files of segments that were rewritten.
            submit: hands a job to the writer.
            failed: is told why the frozen generation could not be written.
        """
        self._directory = directory
        self._recent = recent
        self._bounds = bounds
        self._graveyard = graveyard
        self._submit = submit
        self._failed = failed
        self._catalogue = catalogue
        self._rewriting = threading.Event()
        self._closing = threading.Event()
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="control-log-sealer")

    def seal(self) -> None:
        """Begin to make the frozen generation a segment; from any thread."""
        self._lane.submit(self._seal)

    def rewrite(self, number: int) -> None:
        """Begin to write a segment anew without what is dead in it, unless one is being written."""
        if not self._rewriting.is_set():
            self._rewriting.set()
            self._lane.submit(self._rewrite, number)

    def close(self) -> None:
        """End what was begun, which is begun again at the next start; blocks."""
        self._closing.set()
        self._lane.shutdown(wait=True, cancel_futures=True)
        self._catalogue.connection.close()

    def _seal(self) -> None:
        generation = self._recent.frozen
        if generation is None:
            return
        try:
            made = self._write(generation.number)
        except Exception as error:  # noqa: BLE001 - it is tried again, whatever it is
            if not self._closing.is_set():
                self._failed(error)
            return
        self._submit(lambda turn: self._sealed(turn, generation, made))

    def _write(self, number: int) -> tuple[Footer, str, int] | None:
        """Write the segment; None where all of it was deleted meanwhile."""
        runs = self._recent.frozen_runs()
        catalogue = self._catalogue
        streams = {stream.id: stream for stream in catalogue.streams_by_id(runs)}
        groups = catalogue.groups_by_id({stream.group_id for stream in streams.values()})
        if not streams:
            return None
        order = sorted(streams.values(), key=lambda stream: (stream.group_id, stream.name))
        file = disk.segment_name(number)
        footer = segments.write(
            self._directory / file,
            number,
            groups,
            streams,
            self._sorted_events(runs[stream.id] for stream in order),
            self._bounds.block_bytes,
        )
        return footer, file, (self._directory / file).stat().st_size

    def _sealed(
        self, turn: Turn, generation: Generation, made: tuple[Footer, str, int] | None
    ) -> None:
        """Let readers find the segment in place of the journal: a job of the writer."""
        if made is not None:
            turn.catalogue.add_segment(*made)
        turn.catalogue.add_batches(generation.batches, turn.now_ms)
        turn.catalogue.set_meta("segment", generation.number)
        turn.catalogue.set_meta("sequence", turn.next_sequence - 1)
        path = journal.path_of(self._directory, generation.number)
        turn.effects += [self._recent.drop_frozen, lambda: path.unlink(missing_ok=True)]

    def _rewrite(self, number: int) -> None:
        try:
            made = self._written_anew(number)
        except (OSError, LogStoreFailure, sqlite3.Error) as error:
            _log.warning("log segment cannot be made smaller", segment=number, error=str(error))
            self._rewriting.clear()
            return
        self._submit(lambda turn: self._rewritten(turn, made))

    def _written_anew(self, number: int) -> tuple[Footer, str, int] | None:
        catalogue = self._catalogue
        old = catalogue.file_of(number)
        alive = catalogue.blocks("segment = ? ORDER BY offset", number)
        if not old or not alive:
            return None
        file = disk.next_name(old)
        footer = segments.rewrite(
            self._directory / file,
            self._directory / old,
            segments.read_footer(self._directory / old),
            alive,
        )
        return footer, file, (self._directory / file).stat().st_size

    def _rewritten(self, turn: Turn, made: tuple[Footer, str, int] | None) -> None:
        """Let readers find what is alive in the new file: a job of the writer."""
        self._rewriting.clear()
        if made is None:
            return
        footer, file, size_bytes = made
        old = turn.catalogue.file_of(footer.number)
        if not old:  # It was dropped meanwhile.
            turn.effects.append(lambda: self._graveyard.bury(file))
            return
        turn.catalogue.replace_segment(footer, file, size_bytes)
        turn.effects.append(lambda: self._graveyard.bury(old))

    def _sorted_events(self, runs_of_streams: Iterable[list[Run]]) -> Iterator[list[Event]]:
        for runs in runs_of_streams:
            if self._closing.is_set():
                raise LogStoreFailure("the store is closed")
            yield sorted(event for run in runs for event in run.events())
