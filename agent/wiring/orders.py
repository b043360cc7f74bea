"""In which order an agent takes what control says.

Tests: ``tests/integration/network``, ``tests/integration/e2e/test_fleet_network.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.engine.engine import Engine
    from agent.model.fleet import FleetUpdate
    from agent.model.wire import Assignments
    from agent.network.pool import TaskNetworks
    from agent.wiring.names import TaskNames


async def take_orders(
    networks: TaskNetworks,
    engine: Engine,
    names: TaskNames,
    take_range: Callable[[FleetUpdate], Awaitable[None]],
    assignments: Assignments,
    control_id: str,
    instance: str = "",
) -> None:
    """Take what control says: the range of tasks and rules of security groups before the tasks.

    Tasks do not wait until other hosts can be reached.
    """
    if assignments.fleet is not None:
        await take_range(assignments.fleet)
    if assignments.security_groups is not None:
        await networks.take_groups(assignments.security_groups)
    if assignments.names is not None:
        names.take(assignments.names)
    await engine.apply(assignments, control_id, instance)
    if assignments.fleet is not None:
        await networks.take_fleet(assignments.fleet)
