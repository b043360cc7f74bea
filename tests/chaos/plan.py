"""Which faults strike, when, and for how long: pure, so that a seed tells all of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

BOUNDARIES = (
    "order acknowledged",
    "stop acknowledged",
    "order sent to agent",
    "report sent to control",
    "agent's store written",
    "control's store written",
    "link made or removed",
    "container created",
    "container started",
    "container ended",
    "container removed",
)
"""Steps of a task's life whose begin or end can be seen from outside."""

AGENT, CONTROL, ENGINE, NETWORK, HOST = "agent", "control", "engine", "network", "host"


class Kind(NamedTuple):
    """How often a kind of fault strikes, what it strikes, and how long it lasts."""

    target: str
    weight: int
    """How many of them there are in each round of the plan."""
    shortest_s: float
    longest_s: float
    at_boundary: bool = False
    """It strikes at a boundary of a step, and not at a time alone."""


KINDS = {
    "agent killed": Kind(AGENT, 6, 0.0, 4.0, at_boundary=True),
    "agent paused": Kind(AGENT, 2, 0.2, 12.0, at_boundary=True),
    "control killed": Kind(CONTROL, 5, 0.0, 3.0, at_boundary=True),
    "control paused": Kind(CONTROL, 2, 0.2, 10.0, at_boundary=True),
    "engine killed": Kind(ENGINE, 2, 0.0, 6.0, at_boundary=True),
    "engine paused": Kind(ENGINE, 2, 0.2, 8.0, at_boundary=True),
    "connection cut": Kind(NETWORK, 2, 0.1, 10.0, at_boundary=True),
    "connection stalled": Kind(NETWORK, 1, 1.0, 12.0, at_boundary=True),
    "connection slow": Kind(NETWORK, 1, 5.0, 15.0),
    "answers cut short": Kind(NETWORK, 2, 3.0, 10.0),
    "packets dropped": Kind(NETWORK, 1, 2.0, 12.0, at_boundary=True),
    "packets lost at random": Kind(NETWORK, 1, 4.0, 12.0),
    "agent's disk full": Kind(AGENT, 1, 2.0, 10.0, at_boundary=True),
    "agent's disk read-only": Kind(AGENT, 1, 2.0, 8.0),
    "control's disk full": Kind(CONTROL, 1, 2.0, 10.0, at_boundary=True),
    "control's disk read-only": Kind(CONTROL, 1, 2.0, 8.0),
    "agent's state file lost": Kind(AGENT, 1, 0.0, 2.0, at_boundary=True),
    "agent's state file damaged": Kind(AGENT, 1, 0.0, 2.0, at_boundary=True),
    "agent's state replaced by an older copy": Kind(AGENT, 1, 3.0, 12.0),
    "agent's directory lost": Kind(AGENT, 1, 0.0, 2.0, at_boundary=True),
    "agent's directory removed while it runs": Kind(AGENT, 1, 0.0, 0.0),
    "control's store replaced by an older copy": Kind(CONTROL, 1, 3.0, 10.0),
    "container killed": Kind(HOST, 2, 0.0, 0.0),
    "container removed": Kind(HOST, 2, 0.0, 0.0),
    "sandbox killed": Kind(HOST, 1, 0.0, 0.0),
    "sandbox removed": Kind(HOST, 1, 0.0, 0.0),
    "ended container started again": Kind(HOST, 1, 0.0, 0.0),
    "container with a sandbox's name made": Kind(HOST, 1, 5.0, 15.0),
    "container taken off its network": Kind(HOST, 1, 0.0, 0.0),
    "link of a task deleted": Kind(HOST, 2, 0.0, 0.0),
    "link of a task down": Kind(HOST, 1, 0.0, 0.0),
    "foreign link on the bridge": Kind(HOST, 1, 3.0, 10.0),
    "bridge deleted": Kind(HOST, 1, 0.0, 0.0),
    "bridge without address": Kind(HOST, 1, 0.0, 0.0),
    "firewall table deleted": Kind(HOST, 2, 0.0, 0.0),
    "engine's rules flushed": Kind(HOST, 1, 0.0, 0.0),
    "forwarding off": Kind(HOST, 1, 0.0, 0.0),
    "operator socket removed": Kind(HOST, 1, 0.0, 0.0),
    "pause image removed": Kind(HOST, 1, 0.0, 0.0),
    "agent short of memory": Kind(AGENT, 1, 2.0, 8.0),
    "control short of memory": Kind(CONTROL, 1, 2.0, 8.0),
    "processors taken": Kind(HOST, 1, 3.0, 10.0),
}
CLOCK = "clock stepped"
"""Only where the clock is this host's own."""
CLOCK_KIND = Kind(HOST, 2, 2.0, 10.0)


@dataclass(frozen=True)
class Fault:
    """One fault of a plan."""

    number: int
    at_s: float
    """Seconds from the beginning, at the earliest."""
    kind: str
    target: str
    """What it strikes: ``agent0``, ``control``, ``engine``, ``network1``, ``host``."""
    boundary: str
    """Which step it waits for; empty for none."""
    after_s: float
    """How long after the boundary."""
    for_s: float
    chance: float
    """From 0 to 1, for what else its kind has to choose."""


def draw(
    seed: int, minutes: float, agents: int, *, kinds: dict[str, Kind], gap_s: float = 4.0
) -> list[Fault]:
    """Return the faults of a run in the order of their times.

    Kinds are dealt like cards, so that each strikes equally often whatever the seed; boundaries likewise.

    Args:
        seed: of everything that is chosen.
        minutes: how long faults strike.
        agents: how many there are.
        kinds: from which to choose.
        gap_s: mean time from one fault to the next.
    """
    chance = random.Random(f"faults {seed}")
    deck = [name for name, kind in kinds.items() for _ in range(kind.weight)]
    dealt = _Deck(chance, deck)
    boundaries: dict[str, _Deck] = {
        name: _Deck(chance, BOUNDARIES) for name in kinds if kinds[name].at_boundary
    }
    found: list[Fault] = []
    at_s = chance.uniform(1.0, 2 * gap_s)
    while at_s < minutes * 60.0:
        name = dealt.next()
        kind = kinds[name]
        target = kind.target
        if target in (AGENT, NETWORK):
            target += str(chance.randrange(agents))
        boundary = boundaries[name].next() if kind.at_boundary else ""
        found.append(
            Fault(
                number=len(found) + 1,
                at_s=round(at_s, 3),
                kind=name,
                target=target,
                boundary=boundary,
                after_s=chance.choice((0.0, 0.0, 0.005, 0.02, 0.05, 0.15)) if boundary else 0.0,
                for_s=round(_skewed(chance, kind.shortest_s, kind.longest_s), 3),
                chance=chance.random(),
            )
        )
        at_s += chance.expovariate(1.0 / gap_s)
    return found


def _skewed(chance: random.Random, shortest: float, longest: float) -> float:
    """Most faults are short, some last long."""
    return shortest + (longest - shortest) * chance.random() ** 2


class _Deck:
    """Deals cards without end, all of them before any a second time."""

    def __init__(self, chance: random.Random, cards: tuple[str, ...] | list[str]) -> None:
        self._chance, self._cards, self._left = chance, list(cards), list[str]()

    def next(self) -> str:
        if not self._left:
            self._left = list(self._cards)
            self._chance.shuffle(self._left)
        return self._left.pop()
