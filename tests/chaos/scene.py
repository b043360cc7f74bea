"""What faults work on, and what they entitle tasks to: the oracle excuses that and nothing else."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.history import History
    from tests.chaos.plan import Fault
    from tests.chaos.world import World


STARTING_S = 3.0
"""How long an engine takes at most, on a busy machine, to write down that it has started a container."""


class Skip(Exception):
    """A fault has nothing to strike now, and says why."""


@dataclass
class Excuses:
    """What was done to tasks themselves, behind everybody's back."""

    hits: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Faults that end a task, by its ARN."""
    restarted: set[str] = field(default_factory=set)
    """Tasks with an ended container that was started again by hand."""
    gone_back: list[tuple[float, float]] = field(default_factory=list)
    """Times, in seconds since the beginning, of which control has forgotten everything."""

    engine_deaths: list[tuple[float, float]] = field(default_factory=list)
    """When the engine was killed, and when it answered again, in seconds of the wall clock."""

    def engine_died_at(self, at_s: float) -> bool:
        """Return whether the engine was killed right after some time, or was dead then."""
        return any(begin - STARTING_S <= at_s <= end for begin, end in self.engine_deaths)

    def was_forgotten(self, from_s: float, to_s: float) -> bool:
        """Return whether control has forgotten a part of a time."""
        return any(begin <= to_s and from_s <= end for begin, end in self.gone_back)


@dataclass
class Scene:
    """The host that is broken, and what is known of it."""

    world: World
    excuses: Excuses = field(default_factory=Excuses)
    one_loss: threading.Lock = field(default_factory=threading.Lock)
    """State is lost in one place at a time: what two losses at once do is promised nowhere."""
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def history(self) -> History:
        """The time line."""
        return self.world.history

    def number(self, fault: Fault) -> int:
        """Return which agent or which proxy a fault strikes."""
        return int(fault.target.lstrip("agentwork"))

    def hold(self, fault: Fault) -> None:
        """Wait while a fault lasts; less if the run is over."""
        self.is_over.wait(fault.for_s)
