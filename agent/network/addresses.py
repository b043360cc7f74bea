"""Addresses of tasks, and every name that is derived from an address. Pure.

An address identifies its sandbox: link, MAC, host name and container name are derived from it, so
that leftovers of a crash can be matched by name alone. Callers pass the time (seconds of any
monotonic clock).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from agent.errors import ConfigError, NetworkFailure
from agent.network.settings import POOL_SETTING

_LINK_PREFIX = "ecs"
_MAC_PREFIX = "0a:58"
_NARROWEST, _WIDEST = 29, 8


def mac_of(ipv4: str) -> str:
    """Return the MAC of a task's interface.

    It is derived, so that an old neighbour entry for the address is still right for the next task.
    """
    return ":".join([_MAC_PREFIX, *(f"{byte:02x}" for byte in IPv4Address(ipv4).packed)])


def hostname_of(ipv4: str) -> str:
    """Return the host name of a task, ``ip-a-b-c-d``, in the form of EC2."""
    return "ip-" + ipv4.replace(".", "-")


def container_name_of(ipv4: str) -> str:
    """Return the engine's name for the pause container of a sandbox."""
    return "ecs-sandbox-" + ipv4.replace(".", "-")


def link_name_of(ipv4: str) -> str:
    """Return the name of the host's end of a sandbox's link; 11 of the 15 characters allowed."""
    return f"{_LINK_PREFIX}{int(IPv4Address(ipv4)):08x}"


def address_of_link(name: str) -> str | None:
    """Return the address that a link name was derived from, or None for a foreign name."""
    digits = name.removeprefix(_LINK_PREFIX)
    if digits == name or len(digits) != 8:
        return None
    try:
        address = str(IPv4Address(int(digits, 16)))
    except ValueError:
        return None
    return address if link_name_of(address) == name else None


def link_prefixes(pool: str) -> list[str]:
    """Return the name prefixes that cover the links of a pool's addresses, and no others.

    A digit stands for four bits, so there are up to eight prefixes.
    """
    network = IPv4Network(pool)
    digits = -(-network.prefixlen // 4)
    step = 1 << (32 - 4 * digits)
    first = int(network.network_address)
    values = range(first, first + network.num_addresses, step)
    return [f"{_LINK_PREFIX}{value:08x}"[: len(_LINK_PREFIX) + digits] for value in values]


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


class AddressPool:
    """Addresses of one network, handed out round robin.

    Network, broadcast and gateway address are never handed out. A returned address is not reused
    for ``quarantine_s``. Not thread-safe; one owner.
    """

    def __init__(
        self, cidr: str, *, quarantine_s: float, cursor: str = "", named: str = POOL_SETTING
    ) -> None:
        self.named = named
        """Where the network comes from, for errors."""
        self.network = parse_pool(cidr)
        self.gateway = str(self.network.network_address + 1)
        self._first = int(self.network.network_address) + 2
        self._size = self.network.num_addresses - 3
        self._quarantine_s = quarantine_s
        self._held: set[int] = set()
        self._resting: dict[int, float] = {}
        self._offset = self._offset_of(cursor)

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

    def is_held(self, ipv4: str) -> bool:
        """Return whether an address is handed out."""
        return int(IPv4Address(ipv4)) in self._held

    def __contains__(self, ipv4: str) -> bool:
        return IPv4Address(ipv4) in self.network

    def take(self, now: float) -> str:
        """Return a free address.

        Raises:
            NetworkFailure: all are in use or in quarantine; the text says when the next is free.
        """
        self._wake(now)
        for step in range(1, self._size + 1):
            offset = (self._offset + step) % self._size
            value = self._first + offset
            if value not in self._held and value not in self._resting:
                self._offset = offset
                self._held.add(value)
                return str(IPv4Address(value))
        raise NetworkFailure(self._exhausted(now))

    def hold(self, ipv4: str) -> None:
        """Mark an address as handed out, because an earlier process did so."""
        value = int(IPv4Address(ipv4))
        self._resting.pop(value, None)
        self._held.add(value)

    def give_back(self, ipv4: str, now: float) -> None:
        """Return an address; not an error if it was not handed out."""
        value = int(IPv4Address(ipv4))
        if value in self._held:
            self._held.remove(value)
            self._resting[value] = now + self._quarantine_s

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
        text = f"no free address in {self.named}={self.network}: {len(self._held)} in use"
        if self._resting:
            wait_s = next(iter(self._resting.values())) - now
            return f"{text}, {len(self._resting)} in quarantine, the next is free in {wait_s:.0f} s"
        return f"{text}; use a larger network"
