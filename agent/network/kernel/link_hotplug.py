"""The host's links as hotplug devices: their MAC addresses, and events from the kernel.

Uses routing netlink: events come on a socket of its own, the list through a ``NetlinkLane``.
``present`` opens both and ``rest`` closes them, so that nothing runs while nobody waits for a link.
If the socket overflows, events were lost, which counts as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from agent.errors import NetworkFailure
from agent.network.kernel.netlink import NetlinkLane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LINK_GROUP: Final = 1
"""``RTMGRP_LINK``: a link was added, removed or changed."""
_LOOPBACK: Final = 0x8
"""``IFF_LOOPBACK``."""
_NO_ADDRESS: Final = "00:00:00:00:00:00"
_DATAGRAM: Final = 65_536
_AT_ONCE: Final = 1000
"""Datagrams read at a time; more wait for the next read."""


class LinkNews:
    """A subscription to changes of the host's links. For one task, on one event loop."""

    def __init__(self) -> None:
        """Subscribe; changes from now on are kept until they are read.

        Raises:
            NetworkFailure: the kernel returned no socket.
        """
        self._socket = _listen()

    async def changed(self) -> None:
        """Return when a link was added, removed or changed since the last call.

        Raises:
            NetworkFailure: the socket failed.
        """
        try:
            await asyncio.get_running_loop().sock_recv(self._socket, _DATAGRAM)
            with contextlib.suppress(BlockingIOError):
                for _ in range(_AT_ONCE):
                    self._socket.recv(_DATAGRAM)
        except OSError as error:
            # An overflow has lost events, which counts as an event.
            if error.errno != errno.ENOBUFS:
                raise NetworkFailure(f"no link events from the kernel: {error.strerror}") from error

    def close(self) -> None:
        """End the subscription; idempotent."""
        self._socket.close()


def _listen() -> socket.socket:
    try:
        news = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
    except OSError as error:
        raise NetworkFailure(f"no netlink socket: {error.strerror}") from error
    try:
        news.bind((0, _LINK_GROUP))
    except OSError as error:
        news.close()
        raise NetworkFailure(f"no link events from the kernel: {error.strerror}") from error
    return news


class LinkHotplug:
    """MAC addresses, in lower case, of every link in the host's namespace except the loopback.

    Implements ``upstream.protocol.Hotplug``: for one task, on one event loop.
    """

    def __init__(self, open_lane: Callable[[], Awaitable[NetlinkLane]] = NetlinkLane.open) -> None:
        self._open_lane = open_lane
        self._lane: NetlinkLane | None = None
        self._news: LinkNews | None = None

    async def present(self) -> frozenset[str]:
        """Return the addresses of the present links; idempotent.

        Raises:
            NetworkFailure: the kernel returned no socket or no list; the next call starts again.
        """
        if self._news is None:
            # Before the list is read, so that no later change is missed.
            self._news = LinkNews()
        try:
            if self._lane is None:
                self._lane = await self._open_lane()
            return await self._lane.call(_addresses)
        except NetworkFailure:
            await self.rest()
            raise

    async def changed(self) -> None:
        """Return when a link was added, removed or changed since the last ``present``.

        Raises:
            NetworkFailure: ``present`` was not called, or the socket failed; the next ``present``
                starts again.
        """
        if self._news is None:
            raise NetworkFailure("links are not being watched")
        try:
            await self._news.changed()
        except NetworkFailure:
            await self.rest()
            raise

    async def rest(self) -> None:
        """Stop watching and close everything; idempotent."""
        if self._news is not None:
            self._news.close()
            self._news = None
        if self._lane is not None:
            lane, self._lane = self._lane, None
            await lane.close()


async def _addresses(host: Any) -> frozenset[str]:
    found = set()
    async for link in await host.link("dump"):
        address = link.get("address")
        if isinstance(address, str) and not link["flags"] & _LOOPBACK:
            found.add(address.lower())
    return frozenset(found - {_NO_ADDRESS})
