"""A view of the store in memory: loads prefixes once, then follows one watch.

What it costs to bring a view up to date depends on what has changed, not on how much there is.

Tests: ``tests/unit/controlplane/scheduler/test_fleet.py``,
``tests/unit/controlplane/monitoring/test_fleet_view.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.controlplane.store.contract import Compacted, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.controlplane.store.contract import Store, Watch

_PAGE: Final = 500


class Follower:
    """Keeps one view up to date; for one event loop."""

    def __init__(
        self,
        store: Store,
        prefixes: Sequence[str],
        *,
        apply: Callable[[Event], None],
        clear: Callable[[], None],
    ) -> None:
        """Take what the view consists of; nothing is read before ``catch_up``.

        Args:
            store: what is followed.
            prefixes: of the keys that the view needs; they are loaded in this order.
            apply: puts a change into the view. Changes may come twice, and changes of other keys come
                too. It must not block.
            clear: empties the view, because it will be loaded again.
        """
        self._store = store
        self._prefixes = prefixes
        self._apply = apply
        self._clear = clear
        self._watch: Watch | None = None
        self._revision = 0
        self._turn = asyncio.Lock()

    async def catch_up(self) -> None:
        """Put everything into the view that was committed before the call.

        Raises:
            StoreFailure: the store cannot be read; the view is empty.
        """
        async with self._turn:
            target = self._store.revision
            try:
                await self._follow(target)
            except Compacted:
                await self._forget()
                await self._follow(target)
            except BaseException:
                await self._forget()
                raise

    async def _follow(self, target: int) -> None:
        if self._watch is None:
            self._watch = await self._load()
        while self._revision < target:
            batch = await anext(self._watch)
            for event in batch.events:
                self._apply(event)
            self._revision = batch.revision

    async def _load(self) -> Watch:
        """Load everything; the watch repeats changes made meanwhile, which does no harm."""
        for prefix in self._prefixes:
            start_after, more = None, True
            while more:
                page = await self._store.range(prefix, start_after=start_after, limit=_PAGE)
                self._revision = self._revision or page.revision
                for kv in page.items:
                    self._apply(Event("put", kv))
                    start_after = kv.key
                more = page.more
        # Watch all keys, so that every commit advances the watch.
        return self._store.watch("/", after_revision=self._revision)

    async def _forget(self) -> None:
        watch, self._watch = self._watch, None
        self._revision = 0
        self._clear()
        if watch is not None:
            await watch.aclose()
