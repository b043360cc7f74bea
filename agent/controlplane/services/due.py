"""When services take a turn even if nothing changes. Pure.

To note a time, and to find the first one, costs no more with thousands of services that wait: the times are in a heap.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.controlplane.services.view import ServiceKey

_SLACK: Final = 64
"""At least this many past times stay in the heap before they are cleared away."""


class DueTimes:
    """At most one time for each service, in Unix seconds."""

    def __init__(self) -> None:
        self._at: dict[ServiceKey, float] = {}
        self._heap: list[tuple[float, ServiceKey]] = []
        """Every time that is in ``_at``, and others that were replaced or dropped."""

    def note(self, key: ServiceKey, at: float) -> None:
        """Let a service be due at a time, unless it is due earlier."""
        known = self._at.get(key)
        if known is not None and known <= at:
            return
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._heap = [(time, name) for name, time in self._at.items()]
            heapq.heapify(self._heap)

    def drop(self, key: ServiceKey) -> None:
        """Forget the time of a service."""
        self._at.pop(key, None)

    def first(self) -> float | None:
        """Return the earliest time; None if no service has one."""
        while self._heap:
            at, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def take(self, now: float) -> list[ServiceKey]:
        """Return the services that are due, and forget their times."""
        taken = []
        while (at := self.first()) is not None and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            taken.append(key)
        return taken
