"""Leads ports of aliases of Service Connect to ports of containers, in the namespace of the task that serves them.

A client reaches a task at the port of the alias; the task listens on another. One table of the task's own namespace
changes the port, also for what the task sends to itself. It goes with the namespace. Blocks.

Tests: ``tests/unit/network/test_alias_ports.py``, ``tests/integration/e2e/test_fleet_network.py``.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.errors import NetworkFailure
from agent.network.kernel import namespaces, nft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model.payload import AliasPort
    from agent.model.task import TaskNetwork

FAMILY: Final = "inet"
TABLE: Final = "ecs_agent_aliases"
"""Whatever the agent's own tables are called: no other agent writes into the task's namespace."""
_DSTNAT: Final = -100


def commands(network: TaskNetwork, ports: Sequence[AliasPort]) -> list[dict[str, Any]]:
    """Return the commands that replace the table of a task, for ports of which each is there once. Pure."""
    place = {"family": FAMILY, "table": TABLE}
    addresses = (("ip", network.ipv4), ("ip6", network.ipv6))
    rules = [
        (
            f"port {port.port} of an alias",
            [
                nft.match(nft.field(family, "daddr"), address),
                nft.match(nft.field("tcp", "dport"), port.port),
                {"dnat": {"family": family, "addr": address, "port": port.container_port}},
            ],
        )
        for family, address in addresses
        if address
        for port in ports
    ]
    chains = ("prerouting", "output")
    return nft.replacement(
        FAMILY,
        TABLE,
        [
            *(nft.hooked(place, chain, "nat", chain, _DSTNAT) for chain in chains),
            *(each for chain in chains for each in nft.rules(place, chain, rules)),
        ],
    )


def lead(network: TaskNetwork, ports: Sequence[AliasPort]) -> None:
    """Write the table into the namespace of a task; the same again has no effect.

    Raises:
        NetworkFailure: the sandbox has ended, or the kernel refused.
    """
    process = namespaces.identify(network.sandbox_pid)
    if process is None:
        raise NetworkFailure("the task's network sandbox has ended")
    netns = namespaces.open_netns(process)
    try:
        namespaces.inside(netns, partial(nft.apply, commands(network, ports)))
    except OSError as error:
        raise NetworkFailure(f"a network namespace cannot be entered: {error}") from None
    finally:
        os.close(netns)
