"""What operators order and change while faults strike: pure, from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

MODES = ("awsvpc", "bridge", "host", "none")
ONCE, STEADY, PAIR = "once", "steady", "pair"
"""A task that ends by itself, one that runs until it is stopped, and one whose first container must succeed
before the second is started, which then ends by itself."""
SERVICES = {"web": "awsvpc", "worker": "bridge"}
MOST_TASKS = 5
"""Of a service."""


@dataclass(frozen=True)
class Act:
    """One thing that an operator does."""

    number: int
    at_s: float
    what: str
    """``run``, ``stop`` (some steady task), ``run and stop``, ``scale`` or ``deploy``."""
    kind: str = ""
    """Of the task that is run."""
    mode: str = ""
    run_s: float = 0.0
    """How long the task runs, if it ends by itself; how long until it is stopped, if it is stopped at once."""
    exit_code: int = 0
    service: str = ""
    count: int = 0
    chance: float = 0.0


WEIGHTS = {"run": 60, "stop": 18, "run and stop": 10, "scale": 7, "deploy": 5}


def draw(seed: int, minutes: float, *, gap_s: float = 2.0) -> list[Act]:
    """Return what is done, in the order of times.

    Args:
        seed: of everything that is chosen.
        minutes: how long there are orders.
        gap_s: mean time from one to the next.
    """
    chance = random.Random(f"work {seed}")
    found: list[Act] = []
    at_s = 0.0
    while at_s < minutes * 60.0:
        (what,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        number = len(found) + 1
        found.append(_act(chance, number, round(at_s, 3), what))
        at_s += chance.expovariate(1.0 / gap_s)
    return found


def _act(chance: random.Random, number: int, at_s: float, what: str) -> Act:
    if what in ("scale", "deploy"):
        service = chance.choice(list(SERVICES))
        return Act(number, at_s, what, service=service, count=chance.randrange(MOST_TASKS + 1))
    if what == "stop":
        return Act(number, at_s, what, chance=chance.random())
    (kind,) = chance.choices((ONCE, STEADY, PAIR), (5, 3, 2))
    if what == "run and stop":
        kind = chance.choice((STEADY, PAIR))
    return Act(
        number,
        at_s,
        what,
        kind=kind,
        mode=chance.choice(MODES),
        run_s=round(chance.uniform(0.0, 1.5 if what != "run" else 6.0), 2),
        exit_code=chance.choice((0, 0, 1, 5, 42)),
    )
