"""What is known of a task only while this process lives: steps in flight, retries, doubts.

Pure data beside the record (``model.task``). The task's runner owns it; the task's steps, on the same
event loop, take notes in it while they are under way. A crash loses all of it without harm:
``runner.doubt_after_restart`` says what must be asked anew.
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
    """Tell whether the key of a step is of the task as a whole, and not of one container."""
    return key.startswith("@")


class StepKind(StrEnum):
    """What can be done for a task; ``steps`` has one method for each."""

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
"""Steps that remove what a task's past could be found by: not before that is on the disk."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    kind: StepKind
    key: str
    """A container's name, or for its task NETWORK, CLEAN or ``@`` and the name of a preparation."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A step that failed without telling anything about its outcome."""

    attempts: int
    next_at: float
    since: float
    why: str
    reason: str = ""
    """``why`` as ECS words it, for control."""


@dataclass(frozen=True, slots=True)
class FailedPull:
    """A pull that goes on although a try of it has failed."""

    reason: str
    """As ECS words it."""
    next_at: float = 0.0
    """When the next try begins; 0 once it is under way."""


@dataclass(slots=True)
class LiveState:
    """What is true of a task only while this process lives. Lost in a crash without harm."""

    inflight: dict[str, Step] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    """When the step in flight began, by key."""
    recheck: set[str] = field(default_factory=set)
    """Containers whose real state must be asked for."""
    unseen: set[str] = field(default_factory=set)
    """Those of them that the engine was not asked about since the agent came to know of them: the record
    may be older than what control was told, so nothing is told of the task yet."""
    joined: dict[str, str] = field(default_factory=dict)
    """Engine id of the container whose network each container was seen in, where it is another's."""
    unconfirmed_until: float = 0.0
    """Until then a restored task, of which the engine has nothing, waits for control to say that it is
    still wanted: the record may be an older copy, and the task may have run."""
    network_lost: str = ""
    """Why the task's sandbox is of no use any more; empty while it is, and without one."""
    networks_replaced: int = 0
    restarting: set[str] = field(default_factory=set)
    """Stopped containers that their restart policy wants started again."""
    astray: dict[str, float] = field(default_factory=dict)
    """Containers that have ended and run nevertheless, since when: somebody started them again."""
    retries: dict[str, Retry] = field(default_factory=dict)
    prepared: dict[str, Provision] = field(default_factory=dict)
    """What each preparation gave, by the key of its step. Each process prepares anew before it makes a
    container."""
    release_tried: bool = False
    """Giving the sandbox back was begun: the report of the end no longer waits for it."""
    network_doubtful: bool = False
    """A claim may have been made without our knowing: it failed halfway, or a crash lost its news."""
    progress: dict[str, str] = field(default_factory=dict)
    """The newest line of a pull, by container."""
    pulling_since: dict[str, float] = field(default_factory=dict)
    """When a pull began to ask a registry, by container; until its end is written down."""
    failed_pulls: dict[str, FailedPull] = field(default_factory=dict)
    """Pulls under way of which a try has failed, by container."""
    waiting_since: dict[str, float] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    """Process ids of running containers, where they are known; metrics read by them."""
    marks: dict[float, float] = field(default_factory=dict)
    """Recorded times that something is due after, and when that was by the clock as it is set now."""

    def mark(self, times: Iterable[float], now: float) -> None:
        """Keep track of these recorded times, and of no others.

        None of them lies in the future: one that seems to was recorded before the clock was set back.
        """
        self.marks = {at: self.marks.get(at, min(at, now)) for at in times if at}

    def when(self, recorded: float) -> float:
        """Return when a recorded time was, by the clock as it is set now."""
        return self.marks.get(recorded, recorded)

    def own_trouble(self, container: str) -> str:
        """Return why a step of the container has failed that is tried again, as ECS words it.

        Empty when none has.
        """
        if container in self.failed_pulls:
            return self.failed_pulls[container].reason
        return self.retries[container].reason if container in self.retries else ""

    def trouble(self, container: str) -> str:
        """Return what holds the container up and is tried again, its own or its task's trouble."""
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
