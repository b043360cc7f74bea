"""Which links of the host lead outside of it, and not into another network inside.

Tasks go out by those, and by those only: the networks of the container engine, internal ones
included, are bridges of this host with nothing but containers on them, and so are those of virtual
machines. What is decided by the kind of a link holds for networks that are made later, too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from agent.network.addresses import address_of_link

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.network.links import HostLink, HostLinks

_LOOPBACK: Final = "lo"
_ENDS: Final = frozenset({"veth", "tun"})
"""Kinds of links whose other end is a container or a virtual machine when they are on a bridge."""
_WILD: Final = frozenset("*+\"'\\")
"""Characters that nft or iptables would not take for themselves."""


_AGAIN_S: Final = 300.0
"""Time after which links are listed again though none has come or gone: one may have changed."""


class EgressLinks:
    """The links that lead outside, as they were at the last look. Belongs to one event loop."""

    def __init__(self, links: HostLinks) -> None:
        """Nothing is read before the first look."""
        self.names: frozenset[str] = frozenset()
        self._links = links
        self._listed_at = float("-inf")
        self._all: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Bring ``names`` up to date. Cheap while no link has come or gone.

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
    """Tell whether a link is named like a container's, the engine's or one of ours. Pure."""
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
            # The end of a container's link has an address only where this host is one itself.
            leads = link.kind != "veth" or link.number in addressed
        if leads and not _WILD & set(link.name):
            found.add(link.name)
    return frozenset(found)
