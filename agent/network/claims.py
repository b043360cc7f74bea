"""Finds networks of the host that overlap the pool of task addresses. Pure.

Used by the agent, which refuses such a pool at its start, and by ``ecs-agent doctor``, which
reports it in advance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network


class Route(NamedTuple):
    """An IPv4 route or address of the host, which claims a network."""

    network: IPv4Network
    interface: str
    via_gateway: bool


def clash(pool: IPv4Network, bridge: str, routes: Iterable[Route]) -> Route | None:
    """Return a route or address of the host that claims addresses of the pool.

    A wider route through a gateway does not count, because the pool's own route is more specific.
    """
    for route in routes:
        if route.interface == bridge or not route.network.overlaps(pool):
            continue
        if route.network.prefixlen == 0:
            continue
        if route.via_gateway and route.network.prefixlen < pool.prefixlen:
            continue
        return route
    return None
