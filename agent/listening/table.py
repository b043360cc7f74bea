"""The open connections of a server: decides which to close when there are too many. Pure.

A connection is first silent, then unproven, then perhaps proven; each kind has its own limit. New
connections are always admitted. If that exceeds a limit, one of that kind is closed, of the address
with the most of them. So a new sender from an address with few connections always gets through, and
strangers never displace proven senders.

Which one of that address depends on the kind. Of strangers, the oldest: who holds a place without
using it must not keep others out. Of proven senders, the one that is idle for longest, and if a call
is in progress on all, the newest: that one has waited least. Otherwise calls would be cut off before
their answers, repeated, and cut off again, for as long as more come than can be answered at once.

Every method takes the same time however many connections there are; ``received`` takes longer with
many addresses, but only while memory is short.
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

    __slots__ = (
        "address",
        "close",
        "is_busy",
        "is_open",
        "is_proven",
        "is_trusted",
        "received_bytes",
    )

    def __init__(self, address: str, close: Callable[[], None]) -> None:
        self.address = address
        self.close = close
        """Closes the connection at once; may be replaced while the connection is set up."""
        self.is_open = True
        """Whether it is in the table; data may still arrive on one that was closed to make room."""
        self.is_busy = False
        """Whether a call is in progress: from its first byte until it is answered."""
        self.is_proven = False
        self.is_trusted = False
        """Whether only the server's owner can connect this way; then it may read slowly."""
        self.received_bytes = 0


class _Group:
    """Connections of one kind, by address, oldest first."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        """For the log."""
        self.count = 0
        self._by_address: dict[str, dict[OpenConnection, None]] = {}
        self._with: dict[int, dict[str, None]] = {}
        """Addresses by how many connections they have; first the one that has had so many for longest."""
        self._most = 0
        """The largest key of ``_with``."""
        self._bytes: Counter[str] = Counter()

    def of(self, address: str) -> int:
        return len(self._by_address.get(address, ()))

    def add(self, entry: OpenConnection) -> None:
        mine = self._by_address.setdefault(entry.address, {})
        mine[entry] = None
        self._recount(entry.address, len(mine) - 1, len(mine))
        self._bytes[entry.address] += entry.received_bytes
        self.count += 1

    def discard(self, entry: OpenConnection) -> bool:
        mine = self._by_address.get(entry.address, {})
        if entry not in mine:
            return False
        del mine[entry]
        self._recount(entry.address, len(mine) + 1, len(mine))
        self._bytes[entry.address] -= entry.received_bytes
        if not mine:
            del self._by_address[entry.address]
            del self._bytes[entry.address]
        self.count -= 1
        return True

    def _recount(self, address: str, before: int, now: int) -> None:
        """Note that an address has one connection more, or one less."""
        if before:
            alike = self._with[before]
            del alike[address]
            if not alike:
                del self._with[before]
        if now:
            self._with.setdefault(now, {})[address] = None
        if now > self._most or self._most not in self._with:
            self._most = now

    def oldest_of(self, address: str) -> OpenConnection:
        return next(iter(self._by_address[address]))

    def oldest_of_most(self) -> OpenConnection:
        """Return the oldest connection of the address with the most connections."""
        return self.oldest_of(next(iter(self._with[self._most])))

    def newest_of_most(self) -> OpenConnection:
        """Return the newest one of that address; of several addresses, of the last that got so many."""
        address = next(reversed(self._with[self._most]))
        return next(reversed(self._by_address[address]))

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
        self._silent = _Group("silent")
        self._unproven = _Group("unproven")
        self._idle = _Group("proven")
        """Proven connections without a call; first the one that is idle for longest."""
        self._busy = _Group("proven")
        """Proven connections with a call in progress."""
        self._most_proven = limits.connections - limits.silent - limits.unproven
        self.unproven_bytes = 0

    def __len__(self) -> int:
        return self._silent.count + self._unproven.count + self._proven

    @property
    def _proven(self) -> int:
        return self._idle.count + self._busy.count

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

    def begin(self, entry: OpenConnection) -> None:
        """Note that a call is in progress on a connection; idempotent."""
        if not entry.is_busy:
            entry.is_busy = True
            if self._idle.discard(entry):
                self._busy.add(entry)

    def end(self, entry: OpenConnection) -> None:
        """Note that no call is in progress on a connection any more; idempotent."""
        if entry.is_busy:
            entry.is_busy = False
            if self._busy.discard(entry):
                self._idle.add(entry)

    def prove(self, entry: OpenConnection) -> None:
        """Count a connection as proven; idempotent. May close another to make room, or this one.

        It closes this one if a call is in progress on all that are proven, and none of the other
        addresses has more of them.
        """
        if self._unproven.discard(entry):
            self.unproven_bytes -= entry.received_bytes
        elif not self._silent.discard(entry):
            return
        entry.is_proven = True
        (self._busy if entry.is_busy else self._idle).add(entry)
        if self._proven > self._most_proven:
            if self._idle.count:
                self._cut(self._idle.oldest_of_most(), "too many proven connections")
            else:
                self._cut(self._busy.newest_of_most(), "too many calls in progress")

    def _add(self, entry: OpenConnection, group: _Group, most: int, most_of_address: int) -> None:
        if group.of(entry.address) >= most_of_address:
            why = f"too many {group.kind} connections from one address"
            self._cut(group.oldest_of(entry.address), why)
        elif group.count >= most:
            self._cut(group.oldest_of_most(), f"too many {group.kind} connections")
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
            for group in (self._silent, self._idle, self._busy):
                group.discard(entry)

    def make_room(self) -> bool:
        """Close one connection, preferably a stranger's; return whether there was one to close."""
        if not len(self):
            return False
        group = next(g for g in (self._silent, self._unproven, self._idle, self._busy) if g.count)
        entry = group.newest_of_most() if group is self._busy else group.oldest_of_most()
        self._cut(entry, "out of file descriptors")
        return True

    def _cut(self, entry: OpenConnection, why: str) -> None:
        self.leave(entry)
        self._gave_way(entry, why)
        entry.close()
