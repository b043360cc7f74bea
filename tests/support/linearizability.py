"""Whether a recorded history of calls could have happened one after the other: by porcupine's method.

Each call takes effect at one moment between its beginning and its end. A call whose outcome is unknown may take
effect at any moment after its beginning, or never. Keys are independent of each other, so each is checked alone:
that keeps the search small. The search goes through the calls by time, tries each that may come next, remembers
which sets of calls with which state led nowhere (Wing and Gong's search with Lowe's memory), and ends when all
calls with a known outcome are placed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Call:
    """One call on one key."""

    key: str
    kind: Literal["get", "put", "swap"]
    began: float
    ended: float
    """``inf`` if the outcome is unknown."""
    wrote: int = 0
    """The value of a put, or of a swap that succeeds."""
    expected: int | None = None
    """The value that a swap requires; None for a missing key."""
    got: int | None = None
    """What a get returned."""
    succeeded: bool = True
    """Of a swap."""

    @property
    def is_known(self) -> bool:
        """Whether its outcome is known."""
        return self.ended != inf

    def after(self, state: int | None) -> list[int | None]:
        """Return the states that it can lead to; none if it cannot have happened in this state."""
        if self.kind == "get":
            return [state] if self.got == state or not self.is_known else []
        if self.kind == "put":
            return [self.wrote]
        does = state == self.expected
        if self.is_known and does != self.succeeded:
            return []
        return [self.wrote if does else state]


def wrong_key(history: Iterable[Call]) -> str | None:
    """Return a key whose calls cannot have happened one after the other; None if all can."""
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in history:
        by_key[call.key].append(call)
    return next((key for key, calls in by_key.items() if not is_linearizable(calls)), None)


def is_linearizable(calls: Sequence[Call]) -> bool:
    """Tell whether the calls on one key can have happened one after the other, from a missing key."""
    ordered = sorted(calls, key=lambda call: call.began)
    known = sum(1 << place for place, call in enumerate(ordered) if call.is_known)
    seen: set[tuple[int, int | None]] = set()
    waiting: list[tuple[int, int | None]] = [(0, None)]
    while waiting:
        done, state = waiting.pop()
        if done & known == known:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        for place in _next_ones(ordered, done):
            waiting += [(done | 1 << place, then) for then in ordered[place].after(state)]
    return False


def _next_ones(ordered: Sequence[Call], done: int) -> list[int]:
    """Return the calls that may be next: those that began before any other that is left ended."""
    first_end, found = inf, []
    for place, call in enumerate(ordered):
        if done >> place & 1:
            continue
        if call.began > first_end:
            break
        found.append(place)
        first_end = min(first_end, call.ended)
    return found
