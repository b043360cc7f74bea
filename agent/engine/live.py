"""State of a task that exists only in this process: steps in flight, retries, unverified facts.

Plain data beside the record (``model.task``). The task's runner owns it; the task's steps, on the
same event loop, also write to it while they run. A crash loses all of it without harm:
``restored.doubt_after_restart`` says what must be checked again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.engine.preparations.contract import Provision

NETWORK = "@network"
CLEAN = "@clean"


def is_of_task(key: str) -> bool:
    """Return whether a step's key is of the task as a whole, not of one container."""
    return key.startswith("@")


class StepKind(StrEnum):
    """The kinds of steps; ``steps`` has one method for each."""

    CLAIM_NETWORK = "claim network"
    RELEASE_NETWORK = "release network"
    RENEW_NETWORK = "replace network"
    PREPARE = "prepare"
    PULL = "pull"
    CREATE = "create"
    START = "start"
    STOP = "stop"
    INSPECT = "inspect"
    CLEAN = "clean up"


DESTRUCTIVE = frozenset({StepKind.RELEASE_NETWORK, StepKind.RENEW_NETWORK, StepKind.CLEAN})
"""Steps that remove evidence of what the task did: only after everything else is on disk."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    kind: StepKind
    key: str
    """A container's name; for the task, NETWORK, CLEAN or ``@`` and the name of a preparation."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A step that failed without showing its outcome, and is retried."""

    attempts: int
    next_at: float
    since: float
    why: str
    reason: str = ""
    """``why`` as worded by ECS, for control."""


@dataclass(frozen=True, slots=True)
class FailedPull:
    """A failed try of a pull that is retried."""

    reason: str
    """As worded by ECS."""
    next_at: float = 0.0
    """When the next try starts; 0 once it is running."""


@dataclass(slots=True)
class LiveState:
    """State of a task that exists only in this process. Lost in a crash without harm."""

    inflight: dict[str, Step] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    """When each step in flight started, by key."""
    recheck: set[str] = field(default_factory=set)
    """Containers whose real state must be read from the engine."""
    unseen: set[str] = field(default_factory=set)
    """Those of them that were never inspected since the agent loaded the task. The record may be
    older than the last report to control, so nothing is reported about the task yet."""
    joined: dict[str, str] = field(default_factory=dict)
    """For containers in another container's network: the engine id of that other container."""
    unconfirmed_until: float = 0.0
    """Until then, a restored task without containers waits for control to confirm that it is still
    wanted: the record may be an older copy, and the task may already have run."""
    network_lost: str = ""
    """Why the task's sandbox can no longer be used; empty if it can, or if there is none."""
    networks_replaced: int = 0
    restarting: set[str] = field(default_factory=set)
    """Stopped containers that their restart policy will start again."""
    astray: dict[str, float] = field(default_factory=dict)
    """Containers that had ended and run again because somebody started them, since when."""
    retries: dict[str, Retry] = field(default_factory=dict)
    prepared: dict[str, Provision] = field(default_factory=dict)
    """What each preparation provided, by the key of its step. Each process prepares again before it
    creates a container."""
    release_tried: bool = False
    """A release of the sandbox was tried: the final report no longer waits for it."""
    network_doubtful: bool = False
    """The task may have a claim that is not recorded: it failed halfway, or a crash lost its
    result."""
    progress: dict[str, str] = field(default_factory=dict)
    """The latest progress line of a pull, by container."""
    pulling_since: dict[str, float] = field(default_factory=dict)
    """When a pull first contacted a registry, by container; kept until the end is recorded."""
    image_variables: dict[str, frozenset[str]] = field(default_factory=dict)
    """Names of the variables that the image of a container sets, as of its pull by this process."""
    failed_pulls: dict[str, FailedPull] = field(default_factory=dict)
    """Pulls in progress with a failed try, by container."""
    waiting_since: dict[str, float] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    """Process ids of running containers, if known; used for metrics."""
    marks: dict[float, float] = field(default_factory=dict)
    """Recorded times that a timeout counts from, with the same moment by the current wall clock."""

    def mark(self, times: Iterable[float], now: float) -> None:
        """Keep track of these recorded times, and drop all others.

        None can be in the future: one that seems to be was recorded before the clock was set back.
        """
        self.marks = {at: self.marks.get(at, min(at, now)) for at in times if at}

    def when(self, recorded: float) -> float:
        """Convert a recorded time to the current wall clock."""
        return self.marks.get(recorded, recorded)

    def own_trouble(self, container: str) -> str:
        """Return why a retried step of the container failed, as worded by ECS.

        Empty if none failed.
        """
        if container in self.failed_pulls:
            return self.failed_pulls[container].reason
        return self.retries[container].reason if container in self.retries else ""

    def trouble(self, container: str) -> str:
        """Return the retried failure that delays the container, its own or its task's."""
        of_task = (
            retry.reason for key, retry in self.retries.items() if is_of_task(key) and key != CLEAN
        )
        return self.own_trouble(container) or next(of_task, "")

    def clock_was_set(self, by_s: float) -> None:
        """Move everything that is waited for along with the wall clock."""
        for name, failed in self.failed_pulls.items():
            if failed.next_at:
                self.failed_pulls[name] = replace(failed, next_at=failed.next_at + by_s)
        if self.unconfirmed_until:
            self.unconfirmed_until += by_s
        for times in (self.since, self.waiting_since, self.pulling_since, self.astray):
            for key in times:
                times[key] += by_s
        for at in self.marks:
            self.marks[at] += by_s
        for key, retry in self.retries.items():
            self.retries[key] = replace(
                retry, next_at=retry.next_at + by_s, since=retry.since + by_s
            )
