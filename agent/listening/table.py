"""The open connections of a server: decides which to close when there are too many. Pure.

A connection is first silent, then unproven, then perhaps proven; each kind has its own limit. New
connections are always admitted. If that exceeds a limit, the oldest connection of the address with
the most connections of that kind is closed. So a new sender from an address with few connections
always gets through, and strangers never displace proven senders.
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
    """Return the key under which a peer is counted: its IPv4 address or IPv6 /64 network.

    Args:
        peer: as returned by ``socket.accept``.
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
        """Closes the connection at once; may be replaced while the connection is set up."""
        self.is_open = True
        """Whether it is in the table; data may still arrive on one that was closed to make room."""
        self.is_proven = False
        self.is_trusted = False
        """Whether only the server's owner can connect this way; then it may read slowly."""
        self.received_bytes = 0


class _Group:
    """Connections of one kind, by address, oldest first."""

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
        """Return the oldest connection of the address that sent the most."""
        address, _ = self._bytes.most_common(1)[0]
        return self.oldest_of(address)


class ConnectionTable:
    """The open connections of one server."""

    def __init__(self, limits: Limits, gave_way: Callable[[OpenConnection, str], None]) -> None:
        """Take the limits.

        Args:
            limits: how many connections there may be.
            gave_way: called with each connection that is closed to make room, and the reason.
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
        """Connections that have sent something but are not proven."""
        return self._unproven.count

    @property
    def silent(self) -> int:
        """Connections that have sent nothing yet."""
        return self._silent.count

    def enter(self, address: str, close: Callable[[], None]) -> OpenConnection:
        """Return the entry for a new connection; may close another silent one to make room.

        Args:
            address: from ``address_of``.
            close: closes the connection at once; any method of the table may call it.
        """
        limits = self._limits
        entry = OpenConnection(address, close)
        self._add(entry, self._silent, limits.silent, limits.silent_per_address)
        return entry

    def speak(self, entry: OpenConnection) -> None:
        """Count a connection as one that has sent something; may close another to make room."""
        if self._silent.discard(entry):
            limits = self._limits
            self._add(entry, self._unproven, limits.unproven, limits.unproven_per_address)

    def prove(self, entry: OpenConnection) -> None:
        """Count a connection as proven; call it again for each verified request."""
        if self._proven.discard(entry):  # Keep the order: the one idle for longest is the oldest.
            self._proven.add(entry)
        elif self._unproven.discard(entry) or self._silent.discard(entry):
            limits = self._limits
            most = limits.connections - limits.silent - limits.unproven
            self.unproven_bytes -= entry.received_bytes
            entry.is_proven = True
            self._add(entry, self._proven, most, most)

    def _add(self, entry: OpenConnection, group: _Group, most: int, most_of_address: int) -> None:
        if group.of(entry.address) >= most_of_address:
            self._cut(group.oldest_of(entry.address), "too many from one address")
        elif group.count >= most:
            self._cut(group.oldest_of_most(), "too many in total")
        group.add(entry)

    def received(self, entry: OpenConnection, size: int) -> None:
        """Count bytes received on a connection; may close a stranger's to free memory."""
        if entry.is_proven or not entry.is_open:
            return
        self._unproven.received(entry, size)
        self.unproven_bytes += size
        while self.unproven_bytes > self._limits.unproven_bytes and self._unproven.count:
            self._cut(self._unproven.oldest_of_largest(), "too much memory in use")

    def leave(self, entry: OpenConnection) -> None:
        """Forget a connection that has ended; idempotent."""
        entry.is_open = False
        if self._unproven.discard(entry):
            self.unproven_bytes -= entry.received_bytes
        else:
            self._silent.discard(entry)
            self._proven.discard(entry)

    def make_room(self) -> bool:
        """Close one connection, preferably a stranger's; return whether there was one to close."""
        for group in (self._silent, self._unproven, self._proven):
            if group.count:
                self._cut(group.oldest_of_most(), "out of file descriptors")
                return True
        return False

    def _cut(self, entry: OpenConnection, why: str) -> None:
        self.leave(entry)
        self._gave_way(entry, why)
        entry.close()
