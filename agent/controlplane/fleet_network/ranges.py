"""Cuts the networks of the fleet into ranges of one size. Pure.

A range has a place in its network. If there is a network of IPv4 and one of IPv6, a host has the ranges at the
same place of both, so that one of them tells the other.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Collection

SMALLEST: Final = 28
"""Prefix of the smallest range: 13 tasks."""
SMALLEST_IPV6: Final = 96
"""The same of IPv6: with it, every IPv4 address of a task has one to go with it."""
RANGES_MOST: Final = 65_536


class Cut(NamedTuple):
    """How one network is cut."""

    network: IPv4Network | IPv6Network
    prefix_len: int
    """Of each host's range."""

    @property
    def size(self) -> int:
        """Number of ranges."""
        return 1 << (self.prefix_len - self.network.prefixlen)

    @property
    def _shift(self) -> int:
        return self.network.max_prefixlen - self.prefix_len

    def at(self, place: int) -> str:
        """Return a range by its place."""
        first = int(self.network.network_address) + (place << self._shift)
        return str(type(self.network)((first, self.prefix_len)))

    def place_of(self, cidr: str) -> int | None:
        """Return the place of a range; None if the network is not cut into this one."""
        try:
            network = ip_network(cidr)
        except ValueError:
            return None
        if network.version != self.network.version or network.prefixlen != self.prefix_len:
            return None
        place = (int(network.network_address) - int(self.network.network_address)) >> self._shift
        return place if 0 <= place < self.size else None

    def covered(self, other: IPv4Network | IPv6Network) -> range:
        """Return the places of the ranges that overlap a network."""
        if other.version != self.network.version:
            return range(0)
        base = int(self.network.network_address)
        first = (int(other.network_address) - base) >> self._shift
        last = (int(other.broadcast_address) - base) >> self._shift
        return range(max(first, 0), min(last + 1, self.size))


class RangePlan(NamedTuple):
    """How the networks are cut; at least one of them is there."""

    ipv4: Cut | None
    ipv6: Cut | None = None

    @classmethod
    def parse(
        cls, cidr: str, prefix_len: int, ipv6_cidr: str = "", ipv6_prefix_len: int = 64
    ) -> Self:
        """Return the plan; one of the networks may be empty.

        Raises:
            ValueError: one is not a network, cannot be cut like this, or IPv6 has too few ranges; the text
                completes "NETWORK ...".
        """
        ipv4 = _cut(IPv4Network, "an IPv4", cidr, prefix_len, SMALLEST) if cidr else None
        if not ipv6_cidr:
            return cls(ipv4)
        ipv6 = _cut(IPv6Network, "an IPv6", ipv6_cidr, ipv6_prefix_len, SMALLEST_IPV6)
        if ipv6.network.is_link_local or ipv6.network.is_multicast or ipv6.network.is_loopback:
            raise ValueError("is not for hosts; choose one such as fd12:3456:789a::/48")
        if ipv4 is not None and ipv6.size < ipv4.size:
            raise ValueError(
                f"has {ipv6.size} ranges, and {ipv4.network} has {ipv4.size}; make the IPv6 network larger"
            )
        return cls(ipv4, ipv6)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Those that there are; the first one names the range of a host in the store."""
        return tuple(cut for cut in (self.ipv4, self.ipv6) if cut is not None)

    @property
    def size(self) -> int:
        """Number of hosts that can have a range."""
        return self.cuts[0].size

    @property
    def shown(self) -> str:
        """The networks, for messages."""
        return " and ".join(str(cut.network) for cut in self.cuts)

    def at(self, place: int) -> str:
        """Return the range that names a place: that of IPv4, or of IPv6 where there is no other."""
        return self.cuts[0].at(place)

    def index_of(self, cidr: str) -> int | None:
        """Return the place of a range of either kind; None if no network is cut into this one."""
        places = [cut.place_of(cidr) for cut in self.cuts]
        return next((place for place in places if place is not None and place < self.size), None)

    def of_ipv4(self, place: int) -> str:
        """Return the IPv4 range at a place; empty without a network of IPv4."""
        return self.ipv4.at(place) if self.ipv4 is not None else ""

    def of_ipv6(self, place: int) -> str:
        """Return the IPv6 range at a place; empty without a network of IPv6."""
        return self.ipv6.at(place) if self.ipv6 is not None else ""

    def free(self, held: Collection[str], *, after: str = "", wished: Collection[str] = ()) -> str:
        """Return a range that overlaps none of those that hosts have; empty if there is none.

        Args:
            held: ranges of hosts, also those of an earlier plan.
            after: the one that was given last. The search begins behind it, so that a range rests for
                as long as possible after a host gave it back: others may still send to it.
            wished: one to give if it is free; the first that is counts.
        """
        taken: set[int] = set()
        for each in held:
            network = ip_network(each)
            for cut in self.cuts:
                taken.update(cut.covered(network))
        for each in wished:
            wish = self.index_of(each)
            if wish is not None and wish not in taken:
                return self.at(wish)
        last = self.index_of(after)
        start = 0 if last is None else last + 1
        for step in range(self.size):
            index = (start + step) % self.size
            if index not in taken:
                return self.at(index)
        return ""


def _cut(
    kind: type[IPv4Network | IPv6Network], named: str, cidr: str, prefix_len: int, smallest: int
) -> Cut:
    try:
        network = kind(cidr)
    except ValueError as error:
        raise ValueError(f"is not {named} network: {error}") from None
    if not network.prefixlen < prefix_len <= smallest:
        raise ValueError(
            f"cannot be cut into ranges with the prefix /{prefix_len}; choose one from "
            f"/{network.prefixlen + 1} to /{smallest}"
        )
    cut = Cut(network, prefix_len)
    if cut.size > RANGES_MOST:
        raise ValueError(
            f"has more than {RANGES_MOST} ranges with the prefix /{prefix_len}; make either larger "
            "ranges or a smaller network"
        )
    return cut
