"""The open connections of a server: who may have one more, and who gives way. Pure.

A connection is silent, then unproven, then perhaps proven, and each kind has room of its own. Whoever comes
is let in, and among its kind the one gives way whose address has most, the oldest of it first. So a newcomer
of an address that has few is always heard, and no stranger takes the place of a proven sender.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.listening.limits import Limits

_V6_NETWORK_BITS = 64


def address_of(peer: object) -> str:
    """Return what connections are counted by: an IPv4 address, or an IPv6 network of 64 bits.

    Args:
        peer: as ``socket.accept`` gives it.
    """
    if not isinstance(peer, tuple) or not peer:
        return "local"
    text = str(peer[0]).partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    network = ipaddress.IPv6Network((address, _V6_NETWORK_BITS), strict=False)
    return str(network)


class OpenConnection:
    """One connection in the table."""

    __slots__ = ("address", "close", "is_open", "is_proven", "is_trusted", "received_bytes")

    def __init__(self, address: str, close: Callable[[], None]) -> None:
        self.address = address
        self.close = close
        """Cuts the connection at once; whoever serves it may put another in its place."""
        self.is_open = True
        """Whether it is in the table; one that gave way may still have bytes on their way."""
        self.is_proven = False
        self.is_trusted = False
        """Whether its sender could only come by a way that is the owner's: it may read slowly."""
        self.received_bytes = 0


class _Group:
    """Connections of one kind, by address, the oldest first."""

    def __init__(self) -> None:
        self._by_address: dict[str, dict[OpenConnection, None]] = {}
        self._bytes: Counter[str] = Counter()
        self.count = 0

    def of(self, address: str) -> int:
        return len(self._by_address.get(address, ()))

    def add(self, entry: OpenConnection) -> None:
        self._by_address.setdefault(entry.address, {})[entry] = None
        self._bytes[entry.address] += entry.received_bytes
        self.count += 1

    def discard(self, entry: OpenConnection) -> bool:
        mine = self._by_address.get(entry.address, {})
        if entry not in mine:
            return False
        del mine[entry]
        self._bytes[entry.address] -= entry.received_bytes
        if not mine:
            del self._by_address[entry.address]
            del self._bytes[entry.address]
        self.count -= 1
        return True

    def oldest_of(self, address: str) -> OpenConnection:
        return next(iter(self._by_address[address]))

    def oldest_of_most(self) -> OpenConnection:
        address = max(self._by_address, key=self.of)
        return self.oldest_of(address)

    def received(self, entry: OpenConnection, size: int) -> None:
        entry.received_bytes += size
        self._bytes[entry.address] += size

    def oldest_of_largest(self) -> OpenConnection:
        """Return the oldest of the address that sent most."""
        address, _ = self._bytes.most_common(1)[0]
        return self.oldest_of(address)


class ConnectionTable:
    """Open connections of one server."""

    def __init__(self, limits: Limits, gave_way: Callable[[OpenConnection, str], None]) -> None:
        """Take the limits.

        Args:
            limits: how many there may be.
            gave_way: is told of each connection that is cut to make room, and why.
        """
        self._limits = limits
        self._gave_way = gave_way
        self._silent = _Group()
        self._unproven = _Group()
        self._proven = _Group()
        self.unproven_bytes = 0

    def __len__(self) -> int:
        return self._silent.count + self._unproven.count + self._proven.count

    @property
    def unproven(self) -> int:
        """How many have sent something and are not proven."""
        return self._unproven.count

    @property
    def silent(self) -> int:
        """How many have sent nothing yet."""
        return self._silent.count

    def enter(self, address: str, close: Callable[[], None]) -> OpenConnection:
        """Return the entry of a new connection; another silent one may be cut for it.

        Args:
            address: from ``address_of``.
            close: cuts the connection at once, and may be called inside any call of the table.
        """
        limits = self._limits
        entry = OpenConnection(address, close)
        self._add(entry, self._silent, limits.silent, limits.silent_per_address)
        return entry

    def speak(self, entry: OpenConnection) -> None:
        """Count a connection as one that has sent something; another may be cut for it."""
        if self._silent.discard(entry):
            limits = self._limits
            self._add(entry, self._unproven, limits.unproven, limits.unproven_per_address)

    def prove(self, entry: OpenConnection) -> None:
        """Count a connection as that of a proven sender from now on; again for each request of it."""
        if self._proven.discard(entry):  # The one that was quiet for longest is to be the oldest.
            self._proven.add(entry)
        elif self._unproven.discard(entry) or self._silent.discard(entry):
            limits = self._limits
            most = limits.connections - limits.silent - limits.unproven
            self.unproven_bytes -= entry.received_bytes
            entry.is_proven = True
            self._add(entry, self._proven, most, most)

    def _add(self, entry: OpenConnection, group: _Group, most: int, most_of_address: int) -> None:
        if group.of(entry.address) >= most_of_address:
            self._cut(group.oldest_of(entry.address), "too many of one address")
        elif group.count >= most:
            self._cut(group.oldest_of_most(), "too many in all")
        group.add(entry)

    def received(self, entry: OpenConnection, size: int) -> None:
        """Count bytes that came by a connection; that of a stranger may be cut for it."""
        if entry.is_proven or not entry.is_open:
            return
        self._unproven.received(entry, size)
        self.unproven_bytes += size
        while self.unproven_bytes > self._limits.unproven_bytes and self._unproven.count:
            self._cut(self._unproven.oldest_of_largest(), "too much in memory")

    def leave(self, entry: OpenConnection) -> None:
        """Forget a connection that has ended; may be repeated."""
        entry.is_open = False
        if self._unproven.discard(entry):
            self.unproven_bytes -= entry.received_bytes
        else:
            self._silent.discard(entry)
            self._proven.discard(entry)

    def make_room(self) -> bool:
        """Cut one connection, a stranger's if there is one; tell whether there was any to cut."""
        for group in (self._silent, self._unproven, self._proven):
            if group.count:
                self._cut(group.oldest_of_most(), "no descriptors left")
                return True
        return False

    def _cut(self, entry: OpenConnection, why: str) -> None:
        self.leave(entry)
        self._gave_way(entry, why)
        entry.close()
