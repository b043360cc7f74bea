"""A view of the store in memory: loads prefixes once, then follows one watch.

What it costs to bring a view up to date depends on what has changed, not on how much there is.

Tests: ``tests/unit/controlplane/scheduler/test_fleet.py``,
``tests/unit/controlplane/monitoring/test_fleet_view.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

from agent.controlplane.store.contract import Compacted, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.controlplane.store.contract import Store, Watch

_PAGE: Final = 500


class View(Protocol):
    """What is known from the keys that were seen so far."""

    def apply(self, event: Event) -> None:
        """Take note of one key; it may come twice, and others than those of the prefixes come, too."""


ViewT = TypeVar("ViewT", bound=View)


class Follower(Generic[ViewT]):
    """Keeps one view up to date. For one event loop; its callers take turns."""

    def __init__(self, store: Store, prefixes: Sequence[str], make: Callable[[], ViewT]) -> None:
        """Take what is needed; nothing is read before ``read``.

        Args:
            store: what is followed.
            prefixes: of the keys that the view needs; they are loaded in this order.
            make: returns an empty view.
        """
        self._store = store
        self._prefixes = prefixes
        self._make = make
        self._followed: _Followed[ViewT] | None = None
        """None until the first read, and after one that failed."""

    async def read(self) -> ViewT:
        """Return the view with everything that was committed before the call.

        Raises:
            StoreFailure: the store cannot be read; the next call loads everything again.
        """
        target = self._store.revision
        try:
            return await self._caught_up(target)
        except Compacted:
            await self._forget()
            return await self._caught_up(target)
        except BaseException:
            await self._forget()
            raise

    async def _caught_up(self, target: int) -> ViewT:
        if self._followed is None:
            self._followed = await _Followed.load(self._store, self._prefixes, self._make())
        await self._followed.follow(target)
        return self._followed.view

    async def _forget(self) -> None:
        followed, self._followed = self._followed, None
        if followed is not None:
            await followed.close()


class _Followed(Generic[ViewT]):
    """A view as it was at one revision, and the watch that tells what came later."""

    def __init__(self, view: ViewT, watch: Watch, revision: int) -> None:
        self.view = view
        self._watch = watch
        self._revision = revision

    @classmethod
    async def load(cls, store: Store, prefixes: Sequence[str], view: ViewT) -> Self:
        """Load everything; the watch repeats changes made meanwhile, which does no harm."""
        revision = 0
        for prefix in prefixes:
            start_after, more = None, True
            while more:
                page = await store.range(prefix, start_after=start_after, limit=_PAGE)
                revision = revision or page.revision
                for kv in page.items:
                    view.apply(Event("put", kv))
                    start_after = kv.key
                more = page.more
        # Watch all keys, so that every commit advances the watch.
        return cls(view, store.watch("/", after_revision=revision), revision)

    async def follow(self, target: int) -> None:
        """Take in every change up to a revision; raises ``Compacted``."""
        while self._revision < target:
            batch = await anext(self._watch)
            for event in batch.events:
                self.view.apply(event)
            self._revision = batch.revision

    async def close(self) -> None:
        """End the watch."""
        await self._watch.aclose()
