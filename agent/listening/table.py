"""The open connections of a server: who may have one more, and who gives way. Pure.

Whoever comes is let in, and the table makes room: a stranger never takes the place of a proven sender,
and among equals the one gives way whose address has most, the oldest of it first. So a newcomer of an
address that has few is always heard, whatever others hold open.
"""

from __future__ import annotations

import ipaddress
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


class Entry:
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
        self._by_address: dict[str, dict[Entry, None]] = {}
        self.count = 0

    def of(self, address: str) -> int:
        return len(self._by_address.get(address, ()))

    def add(self, entry: Entry) -> None:
        self._by_address.setdefault(entry.address, {})[entry] = None
        self.count += 1

    def discard(self, entry: Entry) -> bool:
        mine = self._by_address.get(entry.address, {})
        if entry not in mine:
            return False
        del mine[entry]
        if not mine:
            del self._by_address[entry.address]
        self.count -= 1
        return True

    def oldest_of(self, address: str) -> Entry:
        return next(iter(self._by_address[address]))

    def oldest_of_most(self) -> Entry:
        address = max(self._by_address, key=self.of)
        return self.oldest_of(address)

    def largest(self) -> Entry:
        """Return what the address that sent most sent most of."""
        sizes = {
            address: sum(entry.received_bytes for entry in entries)
            for address, entries in self._by_address.items()
        }
        entries = self._by_address[max(sizes, key=lambda address: sizes[address])]
        return max(entries, key=lambda entry: entry.received_bytes)


class Table:
    """Open connections of one server."""

    def __init__(self, limits: Limits, gave_way: Callable[[Entry, str], None]) -> None:
        """Take the limits.

        Args:
            limits: how many there may be.
            gave_way: is told of each connection that is cut to make room, and why.
        """
        self._limits = limits
        self._gave_way = gave_way
        self._unproven = _Group()
        self._proven = _Group()
        self.unproven_bytes = 0

    def __len__(self) -> int:
        return self._unproven.count + self._proven.count

    @property
    def unproven(self) -> int:
        """How many are not proven."""
        return self._unproven.count

    def enter(self, address: str, close: Callable[[], None]) -> Entry:
        """Return the entry of a new connection; another one may be cut for it.

        Args:
            address: from ``address_of``.
            close: cuts the connection at once, and may be called inside any call of the table.
        """
        if self._unproven.of(address) >= self._limits.unproven_per_address:
            self._cut(self._unproven.oldest_of(address), "too many of one address")
        elif self._unproven.count >= self._limits.unproven:
            self._cut(self._unproven.oldest_of_most(), "too many in all")
        entry = Entry(address, close)
        self._unproven.add(entry)
        return entry

    def prove(self, entry: Entry) -> None:
        """Count a connection as that of a proven sender from now on; again for each request of it."""
        if self._proven.discard(entry):  # The one that was quiet for longest is to be the oldest.
            self._proven.add(entry)
        elif self._unproven.discard(entry):
            if self._proven.count >= self._limits.connections - self._limits.unproven:
                self._cut(self._proven.oldest_of_most(), "too many of known senders")
            self.unproven_bytes -= entry.received_bytes
            entry.is_proven = True
            self._proven.add(entry)

    def received(self, entry: Entry, size: int) -> None:
        """Count bytes that came by a connection; that of a stranger may be cut for it."""
        if entry.is_proven or not entry.is_open:
            return
        entry.received_bytes += size
        self.unproven_bytes += size
        while self.unproven_bytes > self._limits.unproven_bytes and self._unproven.count:
            self._cut(self._unproven.largest(), "too much in memory")

    def leave(self, entry: Entry) -> None:
        """Forget a connection that has ended; may be repeated."""
        entry.is_open = False
        if self._unproven.discard(entry):
            self.unproven_bytes -= entry.received_bytes
        else:
            self._proven.discard(entry)

    def make_room(self) -> bool:
        """Cut one connection, a stranger's if there is one; tell whether there was any to cut."""
        group = self._unproven if self._unproven.count else self._proven
        if not group.count:
            return False
        self._cut(group.oldest_of_most(), "no descriptors left")
        return True

    def _cut(self, entry: Entry, why: str) -> None:
        self.leave(entry)
        self._gave_way(entry, why)
        entry.close()
