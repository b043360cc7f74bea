"""News from the kernel of damage to the host's part of task networks.

A bridge that somebody deletes, takes down or robs of its address, and a firewall table that somebody
flushes, cut every task off. The kernel tells of both, so that they are put right at once and not at the
next look. Much else is told in the same breath (every link of every container), so that messages are
looked through as bytes, and only for what is ours.

Touches two netlink sockets of its own, on the daemon's loop; reads, and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BBHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_NEW_LINK, _DEL_LINK, _DEL_ADDRESS = 16, 17, 21
_UP: Final = 1
_LINK_GROUPS: Final = 0x1 | 0x10
"""``RTMGRP_LINK`` and ``RTMGRP_IPV4_IFADDR``."""
_NETFILTER: Final = 12
_NFTABLES: Final = 10
_REMOVALS: Final = frozenset((_NFTABLES << 8) | kind for kind in (2, 5, 8, 11, 14))
"""A table, chain, rule, set or element of a set was removed."""
_NFTABLES_GROUP: Final = 7
_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270
_DATAGRAM: Final = 65_536
_AT_ONCE: Final = 256
"""Datagrams that are read in one go; more of them wait for the next time."""

_log = structlog.get_logger(__name__)


def _messages(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield type and body of each message in a datagram."""
    view = memoryview(data)
    while len(view) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(view)
        if length < _HEADER.size or length > len(view):
            return
        yield kind, view[_HEADER.size : length]
        view = view[(length + 3) & ~3 :]


def harms_bridge(data: bytes, bridge: int) -> bool:
    """Tell whether news of links and addresses say that the bridge is gone, down or without one. Pure.

    ``bridge`` is the kernel's index of the bridge; the links of its ports have others.
    """
    for kind, body in _messages(data):
        if kind in (_NEW_LINK, _DEL_LINK) and len(body) >= _LINK.size:
            _, _, _, index, flags, _ = _LINK.unpack_from(body)
            if index == bridge and (kind == _DEL_LINK or not flags & _UP):
                return True
        if kind == _DEL_ADDRESS and len(body) >= _ADDRESS.size:
            *_, index = _ADDRESS.unpack_from(body)
            if index == bridge:
                return True
    return False


def harms_table(data: bytes, table: str) -> bool:
    """Tell whether news of nftables say that something of this table was removed. Pure."""
    name = table.encode() + b"\0"
    return any(kind in _REMOVALS and name in bytes(body) for kind, body in _messages(data))


class HostWatch:
    """Calls back when something of ours was damaged. Belongs to one event loop."""

    def __init__(
        self, table: str, bridge: Callable[[], int], on_damage: Callable[[], None]
    ) -> None:
        """Nothing is opened before ``start``.

        Args:
            table: name of our nftables table.
            bridge: returns the index of the bridge as it is now.
            on_damage: called, perhaps several times, for one damage; must not block.
        """
        self._table = table
        self._bridge = bridge
        self._on_damage = on_damage
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Listen. Where the kernel gives no socket, the regular looks have to do; that is logged."""
        loop = asyncio.get_running_loop()
        for opening, harms in (
            (_news_of_links, lambda data: harms_bridge(data, self._bridge())),
            (_news_of_rules, lambda data: harms_table(data, self._table)),
        ):
            try:
                news = opening()
            except OSError as error:
                _log.warning("no news from the kernel", source=opening.__name__, error=str(error))
                continue
            self._sockets.append(news)
            loop.add_reader(news, self._read, news, harms)

    def close(self) -> None:
        """Stop listening; idempotent."""
        for news in self._sockets:
            asyncio.get_running_loop().remove_reader(news)
            news.close()
        self._sockets.clear()

    def _read(self, news: socket.socket, harms: Callable[[bytes], bool]) -> None:
        harmed = False
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                try:
                    data = news.recv(_DATAGRAM)
                except BlockingIOError:
                    raise
                except OSError:
                    harmed = True  # an overrun has lost news
                    break
                harmed = harmed or harms(data)
        if harmed:
            self._on_damage()


def _news_of_links() -> socket.socket:
    news = _netlink(socket.NETLINK_ROUTE)
    try:
        news.bind((0, _LINK_GROUPS))
    except OSError:
        news.close()
        raise
    return news


def _news_of_rules() -> socket.socket:
    news = _netlink(_NETFILTER)
    try:
        news.bind((0, 0))
        news.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP)
    except OSError:
        news.close()
        raise
    return news


def _netlink(protocol: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_NETLINK, kind, protocol)
