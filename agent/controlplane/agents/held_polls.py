"""How many polls of one host are held at once. Pure but for the events that it sets.

An agent holds one poll. One whose connection broke without a sign leaves its poll behind, until control
notices; so a few more are held, and the oldest is answered when another one comes.

Tests: ``tests/unit/controlplane/agents/test_held_polls.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

POLLS_MOST: Final = 4
"""Polls of one host, or of one ingress, that are held at once."""


class Ends(Protocol):
    """One poll that is held."""

    def end(self) -> None:
        """Have it answered now, with what there is."""


class PlaceOfPoll:
    """One poll that is held by a task."""

    def __init__(self, wakeup: asyncio.Event) -> None:
        """Take the event that wakes it."""
        self._wakeup = wakeup
        self.is_over = False
        """Whether it is to be answered now, with what there is."""

    def end(self) -> None:
        """Have it answered."""
        self.is_over = True
        self._wakeup.set()


class HeldPolls:
    """The polls that are held, by who holds them; for one event loop."""

    def __init__(self, most: int = POLLS_MOST) -> None:
        """Begin without any; ``most`` is how many of one are held."""
        self._most = most
        self._held: dict[str, dict[Ends, None]] = {}

    @contextlib.contextmanager
    def entered(self, owner: str, wakeup: asyncio.Event) -> Iterator[PlaceOfPoll]:
        """Hold a poll; the oldest of the same owner is ended if there are too many."""
        poll = PlaceOfPoll(wakeup)
        self.enter(owner, poll)
        try:
            yield poll
        finally:
            self.leave(owner, poll)

    def enter(self, owner: str, poll: Ends) -> None:
        """Hold a poll until ``leave``; likewise."""
        polls = self._held.setdefault(owner, {})
        polls[poll] = None
        if len(polls) > self._most:
            oldest = next(iter(polls))
            del polls[oldest]
            oldest.end()

    def leave(self, owner: str, poll: Ends) -> None:
        """Hold a poll no longer; one that was ended is ignored."""
        polls = self._held.get(owner)
        if polls is not None:
            polls.pop(poll, None)
            if not polls:
                del self._held[owner]

    def __len__(self) -> int:
        """Return how many are held of all owners."""
        return sum(map(len, self._held.values()))
