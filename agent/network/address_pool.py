"""Which addresses tasks get: a pool of IPv4 addresses, of IPv6 addresses, or of pairs of both. Pure.

A task's IPv6 address has the same place in its network as the IPv4 address in the pool, so that one
lease is of both, and one name tells both. If tasks have IPv6 alone, the pool is a range of link-local
IPv4 addresses, as on Amazon ECS: they identify sandboxes, and lead to the agent's server and nowhere
else. Callers pass the time (seconds of any monotonic clock).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, NamedTuple

from agent.errors import ConfigError, NetworkFailure
from agent.network.settings import IPV6_POOL_SETTING, POOL_SETTING, RESERVED_SETTING

AGENT_SIDE_POOL: Final = IPv4Network("169.254.172.0/22")
"""By which tasks with IPv6 alone reach the agent. Source: ``ecs-bridge`` of Amazon ECS agent 1.105.1."""
_NARROWEST, _WIDEST = 29, 8
_NO_NETWORK: Final = IPv6Network("::/16")
"""Where the loopback and mapped IPv4 addresses are."""
_NARROWEST_IPV6, _WIDEST_IPV6 = 125, 16


class Ipv6Lease(NamedTuple):
    """What a task's interface has of IPv6."""

    address: str
    prefix_len: int
    """Of its own network; 128 if every other address is behind the gateway."""
    gateway: str
    """Of the default route; empty if that leads to the link itself."""


def parse_pool(cidr: str) -> IPv4Network:
    """Return the pool as a network.

    Raises:
        ConfigError: not an IPv4 network, or one that is too small or too large.
    """
    try:
        network = IPv4Network(cidr)
    except ValueError as error:
        raise ConfigError(f"{POOL_SETTING}={cidr!r} is not an IPv4 network: {error}") from None
    if not _WIDEST <= network.prefixlen <= _NARROWEST:
        raise ConfigError(
            f"{POOL_SETTING}={cidr!r}: the prefix must be between /{_WIDEST} and /{_NARROWEST}"
        )
    return network


def parse_pools(cidr: str, ipv6_cidr: str) -> tuple[IPv4Network, IPv6Network | None]:
    """Return the pools of both IP versions; without one of IPv4, addresses that lead to the agent alone.

    Args:
        cidr: of IPv4; empty if tasks have IPv6 alone.
        ipv6_cidr: of IPv6; empty if tasks have none.

    Raises:
        ConfigError: one is not a network, is too small or too large, or they do not fit each other.
    """
    if not ipv6_cidr:
        if not cidr:
            raise ConfigError(
                f"{POOL_SETTING}=none leaves tasks without any address; set {IPV6_POOL_SETTING}"
            )
        return parse_pool(cidr), None
    try:
        ipv6 = IPv6Network(ipv6_cidr)
    except ValueError as error:
        raise ConfigError(
            f"{IPV6_POOL_SETTING}={ipv6_cidr!r} is not an IPv6 network: {error}"
        ) from None
    if not _WIDEST_IPV6 <= ipv6.prefixlen <= _NARROWEST_IPV6:
        raise ConfigError(
            f"{IPV6_POOL_SETTING}={ipv6_cidr!r}: the prefix must be between /{_WIDEST_IPV6} and "
            f"/{_NARROWEST_IPV6}"
        )
    if ipv6.is_link_local or ipv6.is_multicast or ipv6.overlaps(_NO_NETWORK):
        raise ConfigError(
            f"{IPV6_POOL_SETTING}={ipv6_cidr!r} is not for hosts; write for example fd12:3456:789a::/64"
        )
    bits = 128 - ipv6.prefixlen
    if not cidr:
        length = max(AGENT_SIDE_POOL.prefixlen, 32 - bits)
        return IPv4Network((AGENT_SIDE_POOL.network_address, length)), ipv6
    ipv4 = parse_pool(cidr)
    if 32 - ipv4.prefixlen > bits:
        raise ConfigError(
            f"{IPV6_POOL_SETTING}={ipv6_cidr!r} has fewer addresses than {POOL_SETTING}={cidr!r}; "
            f"write a prefix of /{96 + ipv4.prefixlen} or shorter"
        )
    return ipv4, ipv6


class AddressPool:
    """Addresses of one network, handed out round robin.

    Network, broadcast and gateway address are never handed out. A returned address is not reused
    for ``quarantine_s``. Not thread-safe; one owner.
    """

    def __init__(
        self,
        cidr: str,
        *,
        quarantine_s: float,
        cursor: str = "",
        ipv6_cidr: str = "",
        reserved_cidr: str = "",
        named: str = POOL_SETTING,
        ipv6_named: str = IPV6_POOL_SETTING,
    ) -> None:
        """Take the networks.

        Args:
            cidr: see ``parse_pools``.
            quarantine_s: how long an address rests after it was given back.
            cursor: the last address handed out by an earlier process.
            ipv6_cidr: see ``parse_pools``.
            reserved_cidr: a part of one of them, which is only for tasks that ask for an address.
            named: where ``cidr`` comes from, for messages.
            ipv6_named: the same of ``ipv6_cidr``.

        Raises:
            ConfigError: see ``parse_pools``; or what is reserved is not a part, or is all.
        """
        self.named = named
        """Where ``cidr`` comes from, for messages."""
        self.ipv6_named = ipv6_named
        self.network, self.ipv6_network = parse_pools(cidr, ipv6_cidr)
        self.is_ipv6_only = not cidr
        """Whether the IPv4 addresses lead to the agent alone."""
        self.gateway = str(self.network.network_address + 1)
        self.ipv6_gateway = self.ipv6_of(self.gateway)
        """Empty if tasks have no IPv6."""
        self._first = int(self.network.network_address) + 2
        self._size = self.network.num_addresses - 3
        self._quarantine_s = quarantine_s
        self._held: set[int] = set()
        self._resting: dict[int, float] = {}
        self._offset = self._offset_of(cursor)
        self._reserved = self._places_in(reserved_cidr) if reserved_cidr else range(0)

    @property
    def prefix_len(self) -> int:
        """Length of the network prefix."""
        return self.network.prefixlen

    @property
    def cursor(self) -> str:
        """The last address handed out; the owner keeps it across restarts."""
        return str(IPv4Address(self._first + self._offset))

    @property
    def held(self) -> int:
        """Number of addresses handed out."""
        return len(self._held)

    @property
    def size(self) -> int:
        """Number of addresses that can be handed out."""
        return self._size

    @property
    def resting(self) -> int:
        """Number of addresses in quarantine, as of the last ``take``."""
        return len(self._resting)

    @property
    def shown(self) -> str:
        """The pool as its settings have it, for messages."""
        ipv4 = "" if self.is_ipv6_only else f"{self.named}={self.network}"
        ipv6 = f"{self.ipv6_named}={self.ipv6_network}" if self.ipv6_network else ""
        return " and ".join(part for part in (ipv4, ipv6) if part)

    def is_held(self, ipv4: str) -> bool:
        """Return whether an address is handed out."""
        return int(IPv4Address(ipv4)) in self._held

    def __contains__(self, ipv4: str) -> bool:
        return IPv4Address(ipv4) in self.network

    def is_reserved(self, ipv4: str) -> bool:
        """Return whether only a task that asks for an address may have this one."""
        return int(IPv4Address(ipv4)) in self._reserved

    def ipv6_of(self, ipv4: str) -> str:
        """Return the IPv6 address that goes with an address of the pool; empty without IPv6."""
        if self.ipv6_network is None or ipv4 not in self:
            return ""
        place = int(IPv4Address(ipv4)) - int(self.network.network_address)
        return str(self.ipv6_network.network_address + place)

    def take(self, now: float) -> str:
        """Return a free address.

        Raises:
            NetworkFailure: all are in use or in quarantine; the text says when the next is free.
        """
        self._wake(now)
        for step in range(1, self._size + 1):
            offset = (self._offset + step) % self._size
            value = self._first + offset
            if (
                value not in self._held
                and value not in self._resting
                and value not in self._reserved
            ):
                self._offset = offset
                self._held.add(value)
                return str(IPv4Address(value))
        raise NetworkFailure(self._exhausted(now))

    def hold(self, ipv4: str) -> None:
        """Mark an address as handed out, because an earlier process did so, or a task asked for it."""
        value = int(IPv4Address(ipv4))
        self._resting.pop(value, None)
        self._held.add(value)

    def give_back(self, ipv4: str, now: float) -> None:
        """Return an address; not an error if it was not handed out."""
        value = int(IPv4Address(ipv4))
        if value in self._held:
            self._held.remove(value)
            self._resting[value] = now + self._quarantine_s

    def asked_for(self, address: str) -> str:
        """Return the IPv4 address of the lease that a task asks for by either of its addresses.

        Raises:
            NetworkFailure: no task can have it; the text says why.
        """
        wanted = f"the task asks for the address {address}"
        try:
            ipv4 = self._ipv4_of(address)
        except ValueError:
            raise NetworkFailure(f"{wanted}, which is not an IP address") from None
        if ipv4 is None:
            raise NetworkFailure(f"{wanted}, which is not in {self.shown}")
        if not 0 <= int(ipv4) - self._first < self._size:
            raise NetworkFailure(
                f"{wanted}, which no task can have: the first two addresses of a pool and its last "
                "are not for tasks"
            )
        return str(ipv4)

    def _ipv4_of(self, address: str) -> IPv4Address | None:
        """Return the address of the pool; None if it has none such. Raises ``ValueError``."""
        if ":" not in address:
            ipv4 = IPv4Address(address)
            return ipv4 if ipv4 in self.network and not self.is_ipv6_only else None
        ipv6 = IPv6Address(address)
        if self.ipv6_network is None or ipv6 not in self.ipv6_network:
            return None
        place = int(ipv6) - int(self.ipv6_network.network_address)
        if place >= self.network.num_addresses:
            return None
        return self.network.network_address + place

    def _places_in(self, cidr: str) -> range:
        """Return the addresses of the pool, as numbers, that are reserved by a network."""
        about = f"{RESERVED_SETTING}={cidr}"
        try:
            network = ip_network(cidr)
        except ValueError as error:
            raise ConfigError(f"{about} is not a network: {error}") from None
        whole = self.ipv6_network if network.version == 6 else self.network
        is_shown = whole is not None and not (network.version == 4 and self.is_ipv6_only)
        if whole is None or not is_shown or network.network_address not in whole:
            raise ConfigError(f"{about} is not part of {self.shown}")
        start = int(network.network_address) - int(whole.network_address)
        first = int(self.network.network_address) + start
        reserved = range(first, first + network.num_addresses)
        if reserved.start <= self._first and self._first + self._size <= reserved.stop:
            raise ConfigError(f"{about} leaves no address to tasks that ask for none")
        return reserved

    def _wake(self, now: float) -> None:
        # Insertion order is order of expiry, because the quarantine is equally long for all.
        for value, until in list(self._resting.items()):
            if until > now:
                break
            del self._resting[value]

    def _offset_of(self, cursor: str) -> int:
        try:
            offset = int(IPv4Address(cursor)) - self._first
        except ValueError:
            return self._size - 1
        return offset if 0 <= offset < self._size else self._size - 1

    def _exhausted(self, now: float) -> str:
        text = f"no free address in {self.shown}: {len(self._held)} in use"
        if self._resting:
            wait_s = next(iter(self._resting.values())) - now
            return f"{text}, {len(self._resting)} in quarantine, the next is free in {wait_s:.0f} s"
        reserved = f", {len(self._reserved)} reserved" if self._reserved else ""
        return f"{text}{reserved}; use a larger network"
