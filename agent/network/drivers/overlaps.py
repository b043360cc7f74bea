"""Refuses a pool that another network of the host uses, too. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import NetworkFailure
from agent.network import claims

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.addresses import AddressPool
    from agent.network.claims import Route


def refuse_overlap(pool: AddressPool, own: str, routes: Iterable[Route]) -> None:
    """Refuse a pool that overlaps a network of the host.

    Args:
        pool: the addresses of tasks.
        own: name of the link whose networks do not count.
        routes: routes and addresses of the host.

    Raises:
        NetworkFailure: it overlaps; the text names the setting and what uses its addresses.
    """
    found = claims.clash(pool.network, own, routes)
    if found is not None:
        raise NetworkFailure(
            f"{pool.named}={pool.network} overlaps {found.network} of this host "
            f"({found.interface or 'no interface'}); choose a network that nothing else uses"
        )
