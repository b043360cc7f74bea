"""Tells which network namespaces had no traffic, from the host's ends of their links.

Reading ``net/dev`` of a namespace takes five system calls. The counters of all links of the host come in one
answer of the kernel (``RTM_GETSTATS``), and every packet that passes the end of a veth in a container
also passes its end on the host. So a namespace need not be read again while the counters of all its host ends
are what they were. The figures themselves always come from the namespace: some of them, such as packets
that it dropped after it received them, are counted only there.

Only reads. Blocks briefly, so call it in a thread. Without the kernel's answer (before Linux 4.7, or in a
sandbox that forbids netlink) no namespace counts as quiet, and each is read in every round.

Sources: rtnetlink(7), ``linux/if_link.h``, ``linux/net_namespace.h``.
Tests: ``tests/unit/metrics/test_host_ends.py``, ``tests/integration/metrics/test_quiet_namespaces.py``.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = struct.Struct("=IHHII")
_STATS: Final = struct.Struct("=BBHII")
_LINK: Final = struct.Struct("=BBHiII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=i")

_ERROR, _DONE = 2, 3
_NEW_LINK, _GET_LINK, _NEW_NSID, _GET_NSID, _NEW_STATS, _GET_STATS = 16, 18, 88, 90, 92, 94
_REQUEST, _DUMP, _INTERRUPTED = 1, 0x300, 0x10
_STATS_LINK_64: Final = 1
_EXT_MASK, _SKIP_STATS = 29, 8
_LINK_INFO, _LINK_NSID = 18, 37
_VETH: Final = b"veth\0"
_NSID_HEAD: Final = bytes(4)
"""``struct rtgenmsg``, padded."""
_NSID, _NSID_OF_FILE = 1, 3
_TYPE_MASK: Final = 0x3FFF

_ANSWER_BYTES: Final = 65536
"""The kernel puts at most 32 KiB of a listing into one message."""
_ANSWER_LIMIT: Final = struct.pack("ll", 2, 0)
"""``struct timeval``: two seconds."""
_LINKS_PER_NAMESPACE: Final = 8
"""How many links of the host may be listed to spare the reading of one namespace."""
_LOOK_AGAIN: Final = 30
"""After so many rounds, whether the host still has too many links."""


class Mark(NamedTuple):
    """The host's ends of all links into a namespace, at one moment."""

    nsid: int
    """The kernel's number of the namespace."""
    indexes: tuple[int, ...]
    counters: tuple[bytes, ...]
    """As the kernel wrote them, in the same order."""


class HostEnds:
    """The links of this process's own namespace, as they are in a round; not thread-safe."""

    def __init__(self) -> None:
        """Open the socket; a host that forbids it has no quiet namespaces."""
        self.changes = 0
        """Rises when a link has come or gone."""
        self._socket: socket.socket | None = None
        self._buffer = bytearray(_ANSWER_BYTES)
        self._counters: dict[int, bytes] = {}
        self._by_nsid: dict[int, tuple[int, ...]] = {}
        self._unsure = False
        """Whether links came or went while they were listed."""
        self._skip = 0
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            # A limit of the kernel's own: with one of Python's, each call is two.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ANSWER_LIMIT)
        except OSError:
            self.close()

    @property
    def open_files(self) -> int:
        """How many descriptors are held."""
        return int(self._socket is not None)

    def look(self, namespaces: int) -> set[int] | None:
        """Read the counters of all links, unless reading so many namespaces is less work.

        Returns:
            The numbers of the links with traffic since the look before, and of those that are no longer
            what they were; None if that is not known.
        """
        if self._socket is None or not namespaces:
            self._counters = {}
            return None
        if self._skip:
            self._skip -= 1
            return None
        before, ends_before = self._counters, self._by_nsid
        try:
            now = self._counters = self._list_counters()
            if now.keys() != before.keys() or self._unsure:
                self.changes += 1
                self._unsure = False
                self._by_nsid = self._list_ends()
        except OSError:
            self.close()
            return None
        if len(now) > _LINKS_PER_NAMESPACE * namespaces:
            self._counters, self._skip = {}, _LOOK_AGAIN
            return None
        moved = {index for index, counters in before.items() if now.get(index) != counters}
        if self._by_nsid is not ends_before:
            for nsid, indexes in ends_before.items():
                if self._by_nsid.get(nsid) != indexes:
                    moved.update(indexes)
        return moved

    def nsid_of(self, namespace_fd: int) -> int:
        """Return the kernel's number of a namespace, given by an open file of it; -1 without one."""
        if self._socket is None:
            return -1
        try:
            body = _NSID_HEAD + _ATTRIBUTE.pack(8, _NSID_OF_FILE) + _NUMBER.pack(namespace_fd)
            for kind, told in self._ask(_GET_NSID, _REQUEST, body):
                if kind == _NEW_NSID:
                    for name, value in _attributes(told, len(_NSID_HEAD)):
                        if name == _NSID:
                            return int(_NUMBER.unpack_from(value)[0])
        except OSError:
            self.close()
        return -1

    def mark(self, nsid: int, interfaces: int) -> Mark | None:
        """Return the ends of a namespace as they are now.

        None unless each of its interfaces has one: the others could have traffic that is not seen here.

        Args:
            nsid: see ``nsid_of``.
            interfaces: how many the namespace has, without the loopback.
        """
        indexes = self._by_nsid.get(nsid, ())
        if not indexes or len(indexes) != interfaces:
            return None
        try:
            return Mark(nsid, indexes, tuple(self._counters[index] for index in indexes))
        except KeyError:
            return None

    def is_quiet(self, mark: Mark) -> bool:
        """Tell whether no packet has passed since the mark was made, and the links are the same."""
        now = self._counters
        return self._by_nsid.get(mark.nsid) == mark.indexes and all(
            now.get(index) == counters
            for index, counters in zip(mark.indexes, mark.counters, strict=True)
        )

    def close(self) -> None:
        """Close the socket; may be repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._counters, self._by_nsid = {}, {}

    def _list_counters(self) -> dict[int, bytes]:
        body = _STATS.pack(0, 0, 0, 0, _STATS_LINK_64)
        return {
            _STATS.unpack_from(told)[3]: bytes(told[_STATS.size :])
            for kind, told in self._ask(_GET_STATS, _REQUEST | _DUMP, body)
            if kind == _NEW_STATS
        }

    def _list_ends(self) -> dict[int, tuple[int, ...]]:
        """Return the veths of this namespace whose other end is in another one, by its number."""
        found: dict[int, list[int]] = {}
        body = _LINK.pack(0, 0, 0, 0, 0, 0)
        body += _ATTRIBUTE.pack(8, _EXT_MASK) + _NUMBER.pack(_SKIP_STATS)
        for kind, told in self._ask(_GET_LINK, _REQUEST | _DUMP, body):
            if kind != _NEW_LINK:
                continue
            attributes = dict(_attributes(told, _LINK.size))
            kind_of_link = attributes.get(_LINK_INFO, b"")[_ATTRIBUTE.size :]
            if _LINK_NSID in attributes and bytes(kind_of_link[: len(_VETH)]) == _VETH:
                (nsid,) = _NUMBER.unpack_from(attributes[_LINK_NSID])
                found.setdefault(nsid, []).append(_LINK.unpack_from(told)[3])
        return {nsid: tuple(sorted(indexes)) for nsid, indexes in found.items()}

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield the messages of an answer, each with its kind; valid until the next one.

        Raises:
            OSError: the kernel refused, or did not answer.
        """
        if self._socket is None:
            raise OSError("the socket is closed")
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        view = memoryview(self._buffer)
        while True:
            size, at = self._socket.recv_into(self._buffer), 0
            while at + _HEADER.size <= size:
                length, told, flagged, _, _ = _HEADER.unpack_from(view, at)
                self._unsure |= bool(flagged & _INTERRUPTED)
                if told == _ERROR:
                    (code,) = _NUMBER.unpack_from(view, at + _HEADER.size)
                    raise OSError(-code, os.strerror(-code))
                if told == _DONE:
                    return
                yield told, view[at + _HEADER.size : at + length]
                at += _aligned(max(length, _HEADER.size))
            if not flags & _DUMP:
                return


def _attributes(message: memoryview, start: int) -> Iterator[tuple[int, memoryview]]:
    at = start
    while at + _ATTRIBUTE.size <= len(message):
        length, name = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            return
        yield name & _TYPE_MASK, message[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
