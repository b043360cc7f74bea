"""News from the kernel of damage to the host's part of task networks.

A bridge that somebody deletes, takes down or robs of its address or route, a task's link that is
deleted, down or off the bridge, forwarding that is switched off, a firewall table that is flushed:
each cuts tasks off. The kernel tells of all of them, so that they are put right at once and not at the
next look. Two changes it does not tell of: rules of ``iptables-legacy``, and anything at all once a
socket has overrun. The first is found by the regular look alone, the second makes all of it suspect.

Touches two netlink sockets of its own, on the daemon's loop; reads, and changes nothing. Which news
are of ours is decided in ``kernel_messages``.

Tests: ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

import structlog

from agent.network import kernel_messages
from agent.network.kernel_messages import EVERYTHING, NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

_NETFILTER: Final = 12
_ROUTE_GROUPS: Final = (1, 5, 7, 24)
"""``RTNLGRP_LINK``, ``_IPV4_IFADDR``, ``_IPV4_ROUTE``, ``_IPV4_NETCONF``."""
_NFTABLES_GROUPS: Final = (7,)
_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270
_SO_RCVBUFFORCE: Final = 33
_DATAGRAM: Final = 65_536
_AT_ONCE: Final = 256
"""Datagrams that are read in one go; more of them wait for the next time."""
_BUFFER_BYTES: Final = 4 << 20
"""Room for what a launch of some hundred tasks tells while the loop is busy with it."""

_log = structlog.get_logger(__name__)


class HostWatch:
    """Calls back when something of ours may have been damaged. Belongs to one event loop."""

    def __init__(
        self,
        ours: Callable[[], kernel_messages.Ours],
        on_damage: Callable[[kernel_messages.Part], None],
    ) -> None:
        """Nothing is opened before ``start``.

        Args:
            ours: returns what is ours at this moment.
            on_damage: called, perhaps several times, for one damage; must not block.
        """
        self._ours = ours
        self._on_damage = on_damage
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Listen. Where the kernel gives no socket, the regular looks have to do; that is logged."""
        loop = asyncio.get_running_loop()
        for protocol, groups in (
            (socket.NETLINK_ROUTE, _ROUTE_GROUPS),
            (_NETFILTER, _NFTABLES_GROUPS),
        ):
            try:
                listening = _listen(protocol, groups)
            except OSError as error:
                _log.warning("no news from the kernel", protocol=protocol, error=str(error))
                continue
            self._sockets.append(listening)
            loop.add_reader(listening, self._read, listening)

    def close(self) -> None:
        """Stop listening; idempotent."""
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._sockets.clear()

    def _read(self, listening: socket.socket) -> None:
        datagrams: list[bytes] = []
        lost = NOTHING
        with contextlib.suppress(BlockingIOError):
            while len(datagrams) < _AT_ONCE:
                try:
                    datagrams.append(listening.recv(_DATAGRAM))
                except BlockingIOError:
                    raise
                except OSError:
                    lost = EVERYTHING  # an overrun has lost news
                    break
        parts = kernel_messages.touched(datagrams, self._ours()) | lost
        if parts:
            self._on_damage(parts)


def _listen(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    listening = socket.socket(socket.AF_NETLINK, kind, protocol)
    try:
        # The usual limit of the host does for a few dozen messages; without the right, it has to do.
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        listening.bind((0, 0))
        for group in groups:
            listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError:
        listening.close()
        raise
    return listening
