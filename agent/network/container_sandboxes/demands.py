"""How many sandboxes of each kind are kept ready: the kinds in use share the memory. Pure.

Tests: ``tests/unit/network/container_sandboxes/test_demands.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.network import demand
from agent.network.demand import Demand

if TYPE_CHECKING:
    from agent.network.container_sandboxes.kinds import Kind

MOST_KINDS: Final = 32
"""Of more kinds than this, those that were launched last are known."""


class Demands:
    """The launches of every kind so far. Times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._by_kind: dict[Kind, Demand] = {}
        """The kind that was launched last is at the end."""
        self._caps: dict[Kind, int] = {}
        """How many there can be of a kind for other reasons than memory, until its next launch."""

    def launched(self, kind: Kind, now: float) -> None:
        """Count a launch."""
        self._caps.pop(kind, None)
        self._put(kind, self._by_kind.pop(kind, Demand()).launched(now))

    def found(self, kind: Kind, now: float, count: int) -> None:
        """Take what an earlier process kept ready for the demand that it knew of."""
        self._by_kind.pop(kind, None)
        self._put(kind, Demand(1, now, float(count)))

    def cap(self, kind: Kind, count: int) -> None:
        """Want no more of this kind than these until its next launch."""
        self._caps[kind] = count

    @property
    def last(self) -> float:
        """When the last launch was; 0 before the first."""
        return max((each.last for each in self._by_kind.values()), default=0.0)

    def wanted(self, now: float, *, least: int, free_bytes: int) -> dict[Kind, int]:
        """Return how many of each kind to keep; the ones launched last come first.

        Args:
            now: the time.
            least: for a kind in use; 0 keeps none.
            free_bytes: available memory, with that of all ready sandboxes.
        """
        share = max(0, free_bytes) // demand.MEMORY_SHARE
        found = {}
        for kind, launches in reversed(self._by_kind.items()):
            most = min(share // kind.bytes, self._caps.get(kind, share))
            found[kind] = launches.wanted(now, least=least, most=most)
            share -= found[kind] * kind.bytes
        return found

    def _put(self, kind: Kind, known: Demand) -> None:
        self._by_kind[kind] = known
        if len(self._by_kind) > MOST_KINDS:
            oldest = next(iter(self._by_kind))
            del self._by_kind[oldest]
            self._caps.pop(oldest, None)
