"""What parts of the agent count about themselves, for those who watch it. For one event loop.

Counting is an addition or two. Counters begin at 0 with the process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.model.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

_PULL_BOUNDS_S: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_COMPARISON_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class PullFigures:
    """Of pulls of images."""

    __slots__ = ("downloaded_bytes", "durations", "failed", "running", "waiting")

    def __init__(self) -> None:
        self.durations = Histogram(_PULL_BOUNDS_S)
        """Of those that succeeded, without the wait for their turn."""
        self.failed = 0
        self.downloaded_bytes = 0
        """Compressed layers that came from registries, as far as the engine tells."""
        self.running = 0
        self.waiting = 0
        """For their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFigures:
    """Of the network sandboxes of tasks."""

    warm: int
    """Ready for a task."""
    claimed: int
    hits: int
    """Counter: launches that found one ready."""
    misses: int
    """Counter: launches that had to wait for one to be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSandboxFigures:
    """Of the sandboxes of single containers."""

    ready: int
    held: int
    """By containers."""
    hits: int
    """Counter: launches that found one ready."""
    misses: int
    """Counter: launches that found none, and got their network from the engine."""


def comparisons() -> Histogram:
    """Return a histogram of comparisons with the engine's list of containers."""
    return Histogram(_COMPARISON_BOUNDS_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFigures:
    """What the agent counts about itself, at one moment."""

    pulls: PullFigures
    comparisons: Histogram
    sandboxes: SandboxFigures
    container_sandboxes: ContainerSandboxFigures
    launches: Mapping[str, Histogram] = field(default_factory=dict)
    """Durations of the phases of launches, by phase."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Steps that run now, by kind."""
    tasks_waiting: int = 0
    """Tasks that the host has no room for yet."""
    connects: int = 0
    """Counter: how often the connection to control was made."""
    unsent_since: float = 0.0
    """Unix time of the oldest report that control has not acknowledged; 0 if there is none."""
    task_requests: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Requests of tasks to their endpoint, by path and HTTP status."""
