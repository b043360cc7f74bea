"""Reads events of one store from a place on, in order; waits for more at the end.

A place is a revision of the store. A reader that was away gives the place of the last event that it has,
and gets what came later, as long as the store keeps that history: ten minutes or more (``janitor``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.controlplane import access, records
from agent.controlplane.api.ecs.instance_shapes import InstanceLoad
from agent.controlplane.events import details
from agent.controlplane.events.changes import Changes
from agent.controlplane.events.envelope import Envelope, sealed
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import Compacted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from agent.controlplane.events.envelope import Draft
    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Event, Store, Watch

OLDEST: Final = 0
"""As a place: the oldest that the store still has."""


class Batch(NamedTuple):
    """The events up to a place."""

    place: int
    """Everything up to here is known after it."""
    events: list[tuple[int, Envelope]]
    """In order, each with the place from which a reader that has it resumes."""
    seen: Sequence[Event] = ()
    """The changes of the store that they come from."""
    is_gap: bool = False
    """Whether earlier events are lost to this reader: their history is gone."""


class EventFeed:
    """The events of a store for one reader; use it as an async context manager."""

    def __init__(
        self, store: Store, names: Names, clock: Callable[[], float], *, after: int | None
    ) -> None:
        """Take what is read; ``after`` is the place that the reader has, None for the newest."""
        self._store = store
        self._names = names
        self._clock = clock
        self._after = after
        self.began_at = store.revision
        """The newest place when the feed was opened."""
        self._origin = ""
        self._changes: Changes | None = None
        self._watch: Watch | None = None

    async def __aenter__(self) -> EventFeed:
        """Begin to follow the store."""
        control = await self._store.get(records.CONTROL_ID_KEY)
        self._origin = control.value.decode() if control is not None else ""
        after = self.began_at if self._after is None else min(self._after, self.began_at)
        self._changes = Changes(self._names, await self._instances())
        self._watch = self._store.watch("/", after_revision=after)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            await self._watch.aclose()

    async def next(self) -> Batch:
        """Return the next changes, waiting for some. After it was cancelled, the feed is of no use.

        Raises:
            StoreUnavailable: the store is closed, or cannot be read.
        """
        assert self._watch is not None  # noqa: S101 - the feed is open
        try:
            batch = await anext(self._watch)
        except Compacted as error:
            await self._watch.aclose()
            place = error.compact_revision
            self._watch = self._store.watch("/", after_revision=place)
            is_gap, self._after = self._after != OLDEST, None
            # What it remembers is from before the gap, in which hosts may have come.
            self._changes = Changes(self._names, await self._instances())
            return Batch(place, [], is_gap=is_gap)
        if self._after == OLDEST:
            # From here on, a compaction means that this reader has missed events.
            self._after = None
        return await self._told(batch.revision, batch.events)

    async def _told(self, place: int, seen: Sequence[Event]) -> Batch:
        assert self._changes is not None  # noqa: S101 - the feed is open
        by_revision: dict[int, list[Event]] = {}
        for event in seen:
            by_revision.setdefault(event.kv.mod_revision, []).append(event)
        told: list[tuple[int, Envelope]] = []
        touched: dict[str, int] = {}
        for revision, events in sorted(by_revision.items()):
            is_past = revision <= self.began_at
            happened = self._changes.of(events, self._clock(), is_past=is_past)
            told += self._sealed(revision, happened.drafts)
            touched |= dict.fromkeys(happened.instances, revision)
        for key, revision in touched.items():
            draft = await self._instance(key, revision)
            told += self._sealed(revision, [draft] if draft is not None else [], "instance")
        told.sort(key=lambda each: each[0])
        # Only the last event of a revision is a place from which nothing is missed.
        last = [
            i == len(told) - 1 or told[i + 1][0] != revision for i, (revision, _) in enumerate(told)
        ]
        return Batch(
            place,
            [
                (revision if is_last else revision - 1, envelope)
                for (revision, envelope), is_last in zip(told, last, strict=True)
            ],
            seen,
        )

    def _sealed(
        self, revision: int, drafts: Sequence[Draft], kind: str = ""
    ) -> list[tuple[int, Envelope]]:
        return [
            (
                revision,
                sealed(draft, self._names, origin=self._origin, place=f"{revision}/{kind}{number}"),
            )
            for number, draft in enumerate(drafts)
        ]

    async def _instance(self, key: str, revision: int) -> Draft | None:
        """Return the event of an instance as it is now; None if it is gone."""
        found = await access.find(self._store, InstanceRecord, key)
        if found is None:
            return None
        load = await InstanceLoad.read(self._store, found.record)
        return details.instance(found.record, load, self._names, at=self._clock(), version=revision)

    async def _instances(self) -> list[str]:
        pages = access.pages(self._store, records.INSTANCES)
        return [kv.key async for page in pages for kv in page]
