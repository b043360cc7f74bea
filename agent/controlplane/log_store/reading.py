"""Reads out of memory and segments, in the threads of the readers. Blocking.

What is in memory is looked at before the catalogue: an event that becomes part of a segment meanwhile
is found twice, at one position, and never missed.
"""

from __future__ import annotations

import heapq
import threading
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.controlplane.log_store import disk, paging, segments
from agent.controlplane.log_store.blocks import SPAN_MS, BlockBroken
from agent.controlplane.log_store.catalogue import Catalogue
from agent.controlplane.log_store.catalogue_file import connect
from agent.controlplane.log_store.contract import DAY_MS, LAST_MS, Event, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from agent.controlplane.log_store.contract import Bounds, Group
    from agent.controlplane.log_store.paging import Ask, Page
    from agent.controlplane.log_store.recent import Recent
    from agent.controlplane.log_store.segments import Block

_APART_MOST = 16
"""Streams that are each looked up by themselves; more are picked out of their group."""

_log = structlog.get_logger(__name__)


class Found(NamedTuple):
    """A page of events, and whose they are."""

    page: Page
    names: dict[int, str]
    """Of the streams of the events, by their ids."""


class Window(NamedTuple):
    """Events in the order they were taken."""

    events: list[Event]
    streams: dict[int, tuple[str, str]]
    """Names of group and stream by the stream's id."""
    next_sequence: int
    """Where the next window begins."""


class Reader:
    """Reads one store; any number of threads may, each with a connection of its own."""

    def __init__(
        self, directory: Path, recent: Recent, bounds: Bounds, clock: Callable[[], float]
    ) -> None:
        """``clock`` gives Unix seconds."""
        self._directory = directory
        self._recent = recent
        self._bounds = bounds
        self._clock = clock
        self._local = threading.local()
        self._opened: list[Catalogue] = []
        self._told: set[int] = set()
        self.damaged_segments: set[int] = set()
        """Numbers of segments in which something could not be read."""

    def close(self) -> None:
        """Close all connections; no thread may read any more."""
        for catalogue in self._opened:
            catalogue.connection.close()

    @property
    def catalogue(self) -> Catalogue:
        """That of the calling thread."""
        known: Catalogue | None = getattr(self._local, "catalogue", None)
        if known is None:
            known = Catalogue(connect(self._directory / disk.CATALOGUE))
            self._local.catalogue = known
            self._opened.append(known)
        return known

    def page(self, group_name: str, ask: Ask, streams: Sequence[str] | None, prefix: str) -> Found:
        """Return a page of a group.

        Args:
            group_name: of the group.
            ask: what is wanted.
            streams: names of the streams; None for all.
            prefix: of the names of streams, where none are named.

        Raises:
            GroupMissing: there is no such group.
            StreamMissing: one of the named streams is not there.
        """
        group = self.catalogue.group(group_name)
        ask = ask._replace(start_ms=max(ask.start_ms, self.kept_since_ms(group)))
        ids = self._ids(group, streams, prefix)
        if ids is not None and len(ids) <= _APART_MOST:
            runs = self._recent.of_streams(ids)
            found = [self._blocks("stream", one, ask) for one in ids]
        else:
            runs = [r for r in self._recent.of_group(group.id) if ids is None or r.stream_id in ids]
            of_group = self._blocks("group", group.id, ask)
            found = [(b for b in of_group if ids is None or b.stream_id in ids)]
        page = paging.page(ask, _in_order(ask, runs, found), self._load)
        of_page = {event.stream_id for event in page.events}
        names = {stream.id: stream.name for stream in self.catalogue.streams_by_id(of_page)}
        # Those of a stream that was deleted just now have no name any more.
        page = page._replace(events=[event for event in page.events if event.stream_id in names])
        return Found(page, names)

    def window(self, sequence: int, most_events: int, most_bytes: int) -> Window:
        """Return events from a sequence on, in the order they were taken."""
        runs = self._recent.since(sequence)
        segment = self.catalogue.segment_with(sequence)
        events: list[Event] = []
        if segment is not None:
            number, last = segment
            end = last + 1
            listed = self.catalogue.blocks("segment = ? AND last_sequence >= ?", number, sequence)
            events = sorted(
                (e for block in listed for e in self._load(block) if e.sequence >= sequence),
                key=lambda event: event.sequence,
            )
        else:
            end = sequence
            for run in runs:
                events += [event for event in run.events() if event.sequence >= sequence]
                end = run.first_sequence + run.count
                if len(events) >= most_events:
                    break
        taken = list(_at_most(events, most_events, most_bytes))
        if len(taken) < len(events):
            end = taken[-1].sequence + 1
        return self._window(taken, end)

    def kept_since_ms(self, group: Group) -> int:
        """Return from which time on events of a group count."""
        days = group.retention_days or self._bounds.retention_days
        return 0 if days is None else int(self._clock() * 1000) - days * DAY_MS

    def _window(self, events: list[Event], end: int) -> Window:
        streams = self.catalogue.streams_by_id({event.stream_id for event in events})
        groups = {
            group.id: group.name
            for group in self.catalogue.groups_by_id({stream.group_id for stream in streams})
        }
        names = {s.id: (groups[s.group_id], s.name) for s in streams if s.group_id in groups}
        return Window([event for event in events if event.stream_id in names], names, end)

    def _ids(self, group: Group, streams: Sequence[str] | None, prefix: str) -> set[int] | None:
        """Return the ids of the streams that are meant; None for all of the group."""
        if streams is not None:
            return {self.catalogue.stream(group.id, name).id for name in streams}
        if not prefix:
            return None
        return {stream.id for stream in self.catalogue.streams(group.id, prefix, "", -1)}

    def _blocks(self, kind: str, one: int, ask: Ask) -> Iterator[Block]:
        """Yield the blocks of a stream or a group that may hold what is asked for, in order."""
        which = f"{kind}_id = ?"
        by_least, by_most = (
            f"INDEXED BY block_of_{kind}_by_least",
            f"INDEXED BY block_of_{kind}_by_most",
        )
        if ask.forward:
            start = max(ask.at.timestamp_ms, ask.start_ms)
            yield from self.catalogue.stored_blocks(
                f"{by_most} WHERE {which} AND most_ms >= ? AND most_ms <= ? AND least_ms < ? "
                "ORDER BY least_ms",
                (one, start, start + SPAN_MS, start),
            )
            yield from self.catalogue.stored_blocks(
                f"{by_least} WHERE {which} AND least_ms >= ? AND least_ms <= ? ORDER BY least_ms",
                (one, start, ask.end_ms),
            )
        else:
            end = min(ask.at.timestamp_ms, ask.end_ms)
            yield from self.catalogue.stored_blocks(
                f"{by_most} WHERE {which} AND most_ms > ? AND most_ms <= ? AND least_ms <= ? "
                "ORDER BY most_ms DESC",
                (one, end, min(end + SPAN_MS, LAST_MS), end),
            )
            yield from self.catalogue.stored_blocks(
                f"{by_most} WHERE {which} AND most_ms <= ? AND most_ms >= ? ORDER BY most_ms DESC",
                (one, end, ask.start_ms),
            )

    def _load(self, piece: Block | Run) -> Sequence[Event]:
        """Return the events of a piece; none of one that cannot be read, which is told once."""
        if isinstance(piece, Run):
            return piece.events()
        file = self.catalogue.file_of(piece.segment)
        try:
            return segments.read_block(self._directory / file, piece)
        except (BlockBroken, OSError) as error:
            self.damaged_segments.add(piece.segment)
            if piece.segment not in self._told:
                self._told.add(piece.segment)
                _log.critical(
                    "log segment is damaged; what is damaged is left out",
                    file=str(self._directory / file),
                    error=str(error),
                )
            return ()


def _in_order(
    ask: Ask, runs: Iterable[Run], blocks: Iterable[Iterator[Block]]
) -> Iterator[Block | Run]:
    """Merge runs and blocks by where they begin; backwards, by where they end."""
    if ask.forward:
        return heapq.merge(sorted(runs, key=_least), *blocks, key=_least)
    return heapq.merge(sorted(runs, key=_most, reverse=True), *blocks, key=_most, reverse=True)


def _least(piece: Block | Run) -> int:
    return piece.least_ms


def _most(piece: Block | Run) -> int:
    return piece.most_ms


def _at_most(events: Iterable[Event], most_events: int, most_bytes: int) -> Iterator[Event]:
    """Yield events until they are too many; at least one."""
    size_bytes = 0
    for count, event in enumerate(events):
        size_bytes += len(event.message.encode())
        if count and (count >= most_events or size_bytes > most_bytes):
            return
        yield event
