"""Wakes held polls when something of their instance was committed.

One watch of the store per kind of key serves all polls, and each poll has its own event under its
instance, so that a commit only wakes the polls of one instance. A poll registers its event **before**
it reads the store: later commits set the event, and earlier ones are seen by the read.

It is also known which instances have had nothing new since their last poll, so that the next one need not look.

``run`` belongs in the server's task group. If a watch was too slow and lost its place, all events are
set: the polls read the store again.

Tests: ``tests/unit/controlplane/agents/test_wake_up.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from agent.controlplane import records
from agent.controlplane.loadbalancing import ingress_view
from agent.controlplane.recent import Recent
from agent.controlplane.store.contract import Compacted, StoreFailure
from agent.model.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from agent.controlplane.store.contract import Store

_RETRY_S = 1.0
WAKE_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

_log = structlog.get_logger(__name__)


INGRESSES: Final = "ingresses"
"""Woken as an instance would be, by what ingresses are told."""


class WakeUp(Protocol):
    """What wakes one held poll: an event, or what stands for it."""

    def set(self) -> None:
        """Wake it; must neither block nor raise, nor change what waits before it returns."""


class Quiet(NamedTuple):
    """A poll for which there is nothing new."""

    asked: Hashable
    """What it asks."""
    had_news: bool = False
    """Whether the poll before it had news."""


class WakeUps:
    """The events of held polls by instance; for one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: defaultdict[str, set[WakeUp]] = defaultdict(set)
        self._quiet: Recent[str, Quiet] = Recent()
        """The instances for which there is nothing new, until the next wake-up."""
        self.times = Histogram(WAKE_BOUNDS_S)
        """From a wake-up to the answer of the poll."""
        self._woken_at: dict[str, float] = {}
        """Since when held polls are to be answered, by instance; monotonic seconds."""
        self._left_at: Recent[str, float] = Recent()
        """Since when an instance holds no poll."""

    async def run(self) -> None:
        """Wake polls until cancelled."""
        async with asyncio.TaskGroup() as group:
            # /assign/<instance>/<task> and /instances/<cluster>/<instance>
            group.create_task(self._follow(records.ASSIGNMENTS, lambda key: key.split("/")[-2]))
            group.create_task(self._follow(records.INSTANCES, lambda key: key.split("/")[-1]))
            for prefix in ingress_view.PREFIXES:
                group.create_task(self._follow(prefix, lambda _: INGRESSES))

    @contextlib.contextmanager
    def taken(
        self, instance_id: str, wakeup: asyncio.Event | None = None
    ) -> Iterator[asyncio.Event]:
        """Register an event for the instance, a given or a new one; every later commit sets it."""
        wakeup = wakeup or asyncio.Event()
        self.enter(instance_id, wakeup)
        try:
            yield wakeup
        finally:
            self.leave(instance_id, wakeup)

    def enter(self, instance_id: str, wakeup: WakeUp) -> None:
        """Register what wakes a poll of the instance, until ``leave``."""
        self._waiting[instance_id].add(wakeup)
        self._left_at.pop(instance_id, None)

    def leave(self, instance_id: str, wakeup: WakeUp, *, goes_on: bool = False) -> None:
        """Register it no longer; ``goes_on`` if the poll is about to be held again, and not answered yet."""
        waiting = self._waiting[instance_id]
        waiting.discard(wakeup)
        if not waiting:
            del self._waiting[instance_id]
            if not goes_on:
                self._woken_at.pop(instance_id, None)
            self._left_at[instance_id] = time.monotonic()

    def quiet(self, instance_id: str, asked: Hashable) -> Quiet | None:
        """Return what is known of a poll that finds nothing new; None if that is not known.

        Args:
            instance_id: whose poll.
            asked: what it asks.
        """
        found = self._quiet.get(instance_id)
        return found if found is not None and found.asked == asked else None

    def rest(self, instance_id: str, quiet: Quiet) -> None:
        """Note for which poll there is nothing new; only while an event that was taken before looking is not set."""
        self._quiet[instance_id] = quiet

    def answered(self, instance_id: str) -> None:
        """Note that a held poll of an instance is answered, with what it was woken for if it was."""
        began = self._woken_at.pop(instance_id, None)
        if began is not None:
            self.times.observe(time.monotonic() - began)

    def silent(self, least_s: float) -> list[tuple[str, float]]:
        """Return the instances that have held no poll for some time, and for how long, longest first."""
        now = time.monotonic()
        # They are in order of time, so that only those that count are looked at.
        found = itertools.takewhile(lambda one: now - one[1] >= least_s, self._left_at.items())
        return [(instance_id, now - at) for instance_id, at in found if instance_id != INGRESSES]

    def forget(self, instance_id: str) -> None:
        """Have an instance not count as silent: it is gone."""
        self._left_at.pop(instance_id, None)
        self._woken_at.pop(instance_id, None)

    @property
    def held(self) -> int:
        """How many polls wait now."""
        return sum(map(len, self._waiting.values()))

    def wake_all(self) -> None:
        """Wake every held poll: the server stops, or something may have been missed."""
        self._quiet.clear()
        for wakeups in self._waiting.values():
            for wakeup in wakeups:
                wakeup.set()

    async def _follow(self, prefix: str, whom: Callable[[str], str]) -> None:
        while True:
            try:
                watch = self._store.watch(prefix, after_revision=self._store.revision)
                self.wake_all()
                async with watch:
                    async for batch in watch:
                        for event in batch.events:
                            self.wake(whom(event.kv.key))
            except Compacted:
                _log.warning("wake-ups fell behind; all polls read the store again", prefix=prefix)
            except StoreFailure as error:
                _log.warning("wake-ups paused", prefix=prefix, error=str(error))
                await asyncio.sleep(_RETRY_S)

    def wake(self, instance_id: str) -> None:
        """Wake the held polls of an instance."""
        self._quiet.pop(instance_id, None)
        waiting = self._waiting.get(instance_id)
        if waiting:
            self._woken_at.setdefault(instance_id, time.monotonic())
            for wakeup in waiting:
                wakeup.set()
