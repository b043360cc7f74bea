"""What control counts while it works: calls by operation and status, and how long they and placements took.

Counting is an addition or two; there is no library and no lock in the way of a call. For one event loop.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from agent.model.histogram import Histogram

CALL_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PLACEMENT_BOUNDS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)

OTHER: Final = "other"
"""Stands for operations that do not exist, so that callers cannot make up series."""


class Call(NamedTuple):
    """How calls of an API are counted."""

    api: str
    """botocore's name of the API; ``agents`` for the long poll."""
    operation: str
    status: int
    """Of HTTP."""


class Figures:
    """The counts of one control endpoint since it started."""

    def __init__(self) -> None:
        self.calls: Counter[Call] = Counter()
        self.durations: dict[str, Histogram] = {}
        """Of calls by API, without the calls of agents, which may be held."""
        self.placements = Histogram(PLACEMENT_BOUNDS_S)
        """From a checked order to the commit of its tasks, with the wait for its turn."""
        self.placed = 0
        """Tasks."""
        self.unplaced = 0
        """Copies that no host had room for."""
        self.refused_hosts: Counter[str] = Counter()
        """Calls in the name of a container instance of another host, by wire."""

    def called(self, call: Call, duration_s: float | None = None) -> None:
        """Count one call that was answered."""
        self.calls[call] += 1
        if duration_s is not None:
            durations = self.durations.get(call.api)
            if durations is None:
                durations = self.durations[call.api] = Histogram(CALL_BOUNDS_S)
            durations.observe(duration_s)
