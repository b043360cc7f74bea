"""Refuses a pool that another network of the host uses, too. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import NetworkFailure
from agent.network import host_routes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from agent.network.address_pool import AddressPool
    from agent.network.host_routes import Route


def refuse_overlap(
    pool: AddressPool, own: str, routes: Iterable[Route], *, ipv6: bool = False
) -> None:
    """Refuse a pool that overlaps a network of the host.

    Args:
        pool: the addresses of tasks.
        own: name of the link whose networks do not count.
        routes: routes and addresses of the host, of the family that is looked at.
        ipv6: whether that is IPv6.

    Raises:
        NetworkFailure: it overlaps; the text names the setting and what uses its addresses.
    """
    setting = pool.named
    network: IPv4Network | IPv6Network = pool.network
    if ipv6:
        if pool.ipv6_network is None:
            return
        setting, network = pool.ipv6_named, pool.ipv6_network
    elif pool.is_ipv6_only:
        # A range inside one that is for single links: it is more specific, and meets nobody.
        routes = [route for route in routes if route.network.prefixlen >= network.prefixlen]
        setting = "the addresses by which tasks with IPv6 alone reach the agent"
    found = host_routes.clash(network, own, routes)
    if found is not None:
        raise NetworkFailure(
            f"{setting}={network} overlaps {found.network} of this host "
            f"({found.interface or 'no interface'}); choose a network that nothing else uses"
        )
