"""What RunTask costs without HTTP, hosts and operator: processor time of the process, on a store with so many hosts.

It hardly depends on what else the machine does, so it shows growth where the other figures cannot.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Final

from agent.controlplane.store.sqlite import SqliteStore
from tests.bench.fleet.operator import BATCH
from tests.support.many_services import World

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ROUNDS: Final = 15


async def measured(
    directory: Path, hosts: int, strategies: Mapping[str, Sequence[dict[str, str]]]
) -> dict[str, float]:
    """Return the seconds of processor time for one task of a batch, by strategy; medians."""
    store = await SqliteStore.open(directory / "placing.db")
    try:
        world = World(store, time.time())
        await world.begin(hosts)
        return {name: await _cost(world, strategy) for name, strategy in strategies.items()}
    finally:
        await store.close()


async def _cost(world: World, strategy: Sequence[dict[str, str]]) -> float:
    took = []
    for number in range(ROUNDS + 1):
        began = time.process_time()
        told = await world.call(
            "RunTask", taskDefinition="web", count=BATCH, placementStrategy=list(strategy)
        )
        took.append(time.process_time() - began)
        assert len(told["tasks"]) == BATCH, told["failures"][:3]
        if number == 0:
            took.clear()  # loads the fleet, and parts it
    return median(took) / BATCH
