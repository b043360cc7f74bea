"""Finds the links of the host that lead out of it, and not to another network inside.

Tasks may send only through those. The networks of the container engine, including internal ones,
are bridges of this host with only containers on them, and those of virtual machines are similar.
The decision is by type of link, so it is also right for networks that are created later.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from agent.network.addresses import address_of_link

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.network.bridge.links import HostLink, HostLinks

_LOOPBACK: Final = "lo"
_ENDS: Final = frozenset({"veth", "tun"})
"""Types of links that lead to a container or a virtual machine if they are on a bridge."""
_WILD: Final = frozenset("*+\"'\\")
"""Characters that nft or iptables would interpret."""


_AGAIN_S: Final = 300.0
"""Time after which links are listed again even if none was added or removed: one may have
changed."""


class EgressLinks:
    """The links that lead outside, as of the last check. Belongs to one event loop."""

    def __init__(self, links: HostLinks) -> None:
        """Take the parts; nothing is read before ``look``."""
        self.names: frozenset[str] = frozenset()
        self._links = links
        self._listed_at = float("-inf")
        self._all: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Update ``names``. Cheap if no link was added or removed.

        Raises:
            NetworkFailure: the kernel did not answer.
        """
        present = await self._links.names()
        present = frozenset(name for name in present if not comes_and_goes(name))
        if present == self._all and time.monotonic() - self._listed_at < _AGAIN_S:
            return
        self.names = await self._links.leading_outside()
        self._all, self._listed_at = present, time.monotonic()


def comes_and_goes(name: str) -> bool:
    """Return whether the name is one of containers, of the engine or of ours. Pure."""
    return name.startswith("veth") or address_of_link(name) is not None


def leading_outside(
    links: Iterable[HostLink], *, addressed: Collection[int], default: int
) -> frozenset[str]:
    """Return the names of the links that lead outside. Pure.

    Args:
        links: all links of the host.
        addressed: numbers of the links that have an IPv4 address.
        default: number of the link with the default route; 0 without one.
    """
    by_number = {link.number: link for link in links}
    uplinks = {link.master for link in by_number.values() if link.master and link.kind not in _ENDS}
    found = set()
    for link in by_number.values():
        master = by_number.get(link.master)
        if link.number == default:
            leads = True
        elif link.name == _LOOPBACK or (master is not None and master.kind != "vrf"):
            leads = False
        elif link.kind == "bridge":
            leads = link.number in uplinks
        else:
            # A veth has an address only if this host is itself a container.
            leads = link.kind != "veth" or link.number in addressed
        if leads and not _WILD & set(link.name):
            found.add(link.name)
    return frozenset(found)
