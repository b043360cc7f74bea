"""Receives kernel messages about damage to the host's part of task networks.

Tasks lose their network if the bridge is deleted, goes down or loses its address or route; if a
task's link is deleted, down or off the bridge; if forwarding is switched off; or if a firewall
table is flushed. The kernel reports all of these, so that they are repaired at once and not at the
next regular check. Two changes are not reported: rules of ``iptables-legacy``, and anything after a
socket has overflowed. The former are found by the regular check; after the latter, everything is
checked.

Uses two netlink sockets of its own, on the daemon's loop; read-only. ``kernel_messages`` decides
which messages concern us.

Tests: ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

import structlog

from agent.network.host import kernel_messages
from agent.network.host.kernel_messages import EVERYTHING, NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

_NETFILTER: Final = 12
_ROUTE_GROUPS: Final = (1, 5, 7, 24)
"""``RTNLGRP_LINK``, ``_IPV4_IFADDR``, ``_IPV4_ROUTE``, ``_IPV4_NETCONF``."""
_IPV6_GROUPS: Final = (9, 11, 25)
"""``RTNLGRP_IPV6_IFADDR``, ``_IPV6_ROUTE``, ``_IPV6_NETCONF``."""
_NFTABLES_GROUPS: Final = (7,)
_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270
_SO_RCVBUFFORCE: Final = 33
_DATAGRAM: Final = 65_536
_AT_ONCE: Final = 256
"""Datagrams read at a time; more wait for the next read."""
_BUFFER_BYTES: Final = 4 << 20
"""Enough for the messages of some hundred launches while the loop is busy."""

_log = structlog.get_logger(__name__)


class HostWatch:
    """Calls back when something of ours may have been damaged. Belongs to one event loop."""

    def __init__(
        self,
        ours: Callable[[], kernel_messages.Ours],
        on_damage: Callable[[kernel_messages.Part], None],
        *,
        ipv6: bool = False,
    ) -> None:
        """Start to listen. If the kernel returns no socket, log it and rely on regular checks.

        Args:
            ours: returns what belongs to us at this moment.
            on_damage: called, perhaps several times, for one damage; must not block.
            ipv6: whether tasks have IPv6.
        """
        self._ours = ours
        self._on_damage = on_damage
        self._sockets: list[socket.socket] = []
        loop = asyncio.get_running_loop()
        for protocol, groups in (
            (socket.NETLINK_ROUTE, _ROUTE_GROUPS + (_IPV6_GROUPS if ipv6 else ())),
            (_NETFILTER, _NFTABLES_GROUPS),
        ):
            try:
                listening = _listen(protocol, groups)
            except OSError as error:
                _log.warning("no kernel messages", protocol=protocol, error=str(error))
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
                    lost = EVERYTHING  # an overflow has lost messages
                    break
        parts = kernel_messages.touched(datagrams, self._ours()) | lost
        if parts:
            self._on_damage(parts)


def _listen(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    listening = socket.socket(socket.AF_NETLINK, kind, protocol)
    try:
        # Needs a privilege; without it, the default size is enough for a few dozen messages.
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        listening.bind((0, 0))
        for group in groups:
            listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError:
        listening.close()
        raise
    return listening
