"""Finds networks of the host that overlap the pool of task addresses. Pure.

Used by the agent, which refuses such a pool at its start, and by ``ecs-agent doctor``, which
reports it in advance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.network.addresses import address_of_link

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from agent.network.address_pool import AddressPool


class Route(NamedTuple):
    """A route of the host, or the network of one of its addresses."""

    network: IPv4Network | IPv6Network
    interface: str
    """Empty if the route leads nowhere."""
    via_gateway: bool


def not_of_links(routes: Iterable[Route], pool: AddressPool) -> list[Route]:
    """Return the routes that the agent did not make itself for tasks with links of their own."""
    gateways = {f"{pool.gateway}/32", f"{pool.ipv6_gateway}/128"}
    return [
        route
        for route in routes
        if address_of_link(route.interface) is None
        and str(route.network) not in gateways
        and not (route.network in (pool.network, pool.ipv6_network) and not route.interface)
    ]


def clash(pool: IPv4Network | IPv6Network, bridge: str, routes: Iterable[Route]) -> Route | None:
    """Return a route or address of the host in whose network there are addresses of the pool.

    A wider route through a gateway, or one that leads nowhere, does not count, because the pool's own route
    is more specific.
    """
    for route in routes:
        if route.interface == bridge or not route.network.overlaps(pool):
            continue
        if route.network.prefixlen == 0:
            continue
        if (route.via_gateway or not route.interface) and route.network.prefixlen < pool.prefixlen:
            continue
        return route
    return None
