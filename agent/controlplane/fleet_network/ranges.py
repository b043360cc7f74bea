"""Cuts the network of the fleet into ranges of one size. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Collection

SMALLEST: Final = 28
"""Prefix of the smallest range: 13 tasks."""
RANGES_MOST: Final = 65_536


class RangePlan(NamedTuple):
    """How the network is cut."""

    network: IPv4Network
    prefix_len: int
    """Of each host's range."""

    @classmethod
    def parse(cls, cidr: str, prefix_len: int) -> Self:
        """Return the plan.

        Raises:
            ValueError: it is not an IPv4 network, or cannot be cut like this; the text completes "NETWORK ...".
        """
        try:
            network = IPv4Network(cidr)
        except ValueError as error:
            raise ValueError(f"is not an IPv4 network: {error}") from None
        if not network.prefixlen < prefix_len <= SMALLEST:
            raise ValueError(
                f"cannot be cut into ranges with the prefix /{prefix_len}; choose one from "
                f"/{network.prefixlen + 1} to /{SMALLEST}"
            )
        if 1 << (prefix_len - network.prefixlen) > RANGES_MOST:
            raise ValueError(
                f"has more than {RANGES_MOST} ranges with the prefix /{prefix_len}; make either larger "
                "ranges or a smaller network"
            )
        return cls(network, prefix_len)

    @property
    def size(self) -> int:
        """Number of ranges."""
        return 1 << (self.prefix_len - self.network.prefixlen)

    def at(self, index: int) -> str:
        """Return a range by its place."""
        first = int(self.network.network_address) + (index << (32 - self.prefix_len))
        return str(IPv4Network((first, self.prefix_len)))

    def index_of(self, cidr: str) -> int | None:
        """Return the place of a range; None if the network is not cut into this one."""
        try:
            network = IPv4Network(cidr)
        except ValueError:
            return None
        if network.prefixlen != self.prefix_len or not network.subnet_of(self.network):
            return None
        return (int(network.network_address) - int(self.network.network_address)) >> (
            32 - self.prefix_len
        )

    def free(self, held: Collection[str], *, after: str = "", wished: str = "") -> str:
        """Return a range that overlaps none of those that hosts have; empty if there is none.

        Args:
            held: ranges of hosts, also those of an earlier plan.
            after: the one that was given last. The search begins behind it, so that a range rests for
                as long as possible after a host gave it back: others may still send to it.
            wished: one to give if it is free.
        """
        taken: set[int] = set()
        for each in held:
            taken.update(self._covered(IPv4Network(each)))
        wish = self.index_of(wished)
        if wish is not None and wish not in taken:
            return self.at(wish)
        last = self.index_of(after)
        start = 0 if last is None else last + 1
        for step in range(self.size):
            index = (start + step) % self.size
            if index not in taken:
                return self.at(index)
        return ""

    def _covered(self, other: IPv4Network) -> range:
        """Return the places of the ranges that overlap a network."""
        if not other.overlaps(self.network):
            return range(0)
        if self.network.subnet_of(other):
            return range(self.size)
        base, shift = int(self.network.network_address), 32 - self.prefix_len
        first = int(other.network_address) - base
        last = int(other.broadcast_address) - base
        return range(first >> shift, (last >> shift) + 1)
