"""Requests for links, addresses, routes and neighbours as bytes, where objects would take too long. Pure.

``RouteRequests`` takes what ``pyroute2`` takes under the same names, as far as it is needed for the link of a
sandbox, and returns messages for ``route_talk.exchange``. To build the dozen messages of one sandbox with objects
takes as long as the kernel needs for them.

Sources: rtnetlink(7), ``linux/if_link.h``, ``linux/if_addr.h``, ``linux/neighbour.h``, ``linux/veth.h``.
Tests: ``tests/unit/network/kernel/test_route_requests.py``.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from agent.network.kernel.raw_messages import NESTED, attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

Request = tuple[int, int, bytes]
"""Type, flags and body of a message."""

NEW_LINK, DELETE_LINK, NEW_ADDRESS, NEW_ROUTE, NEW_NEIGHBOUR = 16, 17, 20, 24, 28
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400
_FLAGS: Final = {
    "add": _CREATE | _EXCLUSIVE, "replace": _CREATE | _REPLACE, "set": 0, "del": 0,
}  # fmt: skip
_LINK: Final = struct.Struct("=BBHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR: Final = struct.Struct("=BBHiHBB")
_NUMBER: Final = struct.Struct("=I")
_MAIN_TABLE, _STATIC = 254, 4
"""``RT_TABLE_MAIN``, ``RTPROT_STATIC``."""
_ROUTE_TYPES: Final = {"unicast": 1, "blackhole": 6}
_UP: Final = 1
_LINK_INFO, _AF_SPEC, _ADDRESS_MODE = 18, 26, 8
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA, _VETH_PEER = 1, 2, 4, 5, 1
_LINK_NUMBERS: Final = {"mtu": 4, "master": 10, "net_ns_pid": 19}


class RouteRequests:
    """Returns each request as a message. Has no state."""

    def link(  # noqa: PLR0913 - as in the kernel
        self,
        command: str,
        *,
        index: int = 0,
        ifname: str = "",
        kind: str = "",
        address: str = "",
        peer: Mapping[str, Any] | None = None,
        state: str = "",
        slave: bytes = b"",
        no_ipv6_address: bool = False,
        **numbers: int,
    ) -> Request:
        """Return what adds, sets or removes a link.

        Args:
            command: ``add``, ``set`` or ``del``.
            index: the kernel's number of the link; of one that is added, 0 for any.
            ifname: its name.
            kind: of one that is added.
            address: its MAC address.
            peer: the other end of a veth.
            state: ``up``, or empty to leave it.
            slave: settings of a port of a bridge, as attributes.
            no_ipv6_address: keep the kernel from giving it an IPv6 address by itself.
            numbers: ``mtu``, ``master``, ``net_ns_pid``.
        """
        attributes = _of_link(ifname=ifname, address=address, **numbers)
        info = b""
        if kind:
            info = attribute(_INFO_KIND, kind.encode())
        if peer is not None:
            other = _LINK.pack(0, 0, 0, 0, 0, 0) + _of_link(**peer)
            info += attribute(_INFO_DATA | NESTED, attribute(_VETH_PEER | NESTED, other))
        if slave:
            info = attribute(_INFO_SLAVE_KIND, b"bridge")
            info += attribute(_INFO_SLAVE_DATA | NESTED, slave)
        if info:
            attributes += attribute(_LINK_INFO | NESTED, info)
        if no_ipv6_address:
            mode = attribute(_ADDRESS_MODE, b"\1")
            attributes += attribute(_AF_SPEC | NESTED, attribute(socket.AF_INET6 | NESTED, mode))
        up = _UP if state == "up" else 0
        header = _LINK.pack(0, 0, 0, index, up, up)
        sort = DELETE_LINK if command == "del" else NEW_LINK
        return sort, _FLAGS[command], header + attributes

    def addr(
        self, command: str, *, index: int, address: str, prefixlen: int, flags: int = 0
    ) -> Request:
        """Return what adds an address to a link."""
        packed = ip_address(address)
        header = _ADDRESS.pack(_family(address), prefixlen, flags, 0, index)
        body = header + attribute(2, packed.packed) + attribute(1, packed.packed)
        return NEW_ADDRESS, _FLAGS[command], body

    def route(  # noqa: PLR0913 - as in the kernel
        self,
        command: str,
        *,
        dst: str,
        gateway: str = "",
        oif: int = 0,
        prefsrc: str = "",
        scope: int = 0,
        type: str = "unicast",  # noqa: A002 - as in pyroute2
        family: int = 0,
    ) -> Request:
        """Return what adds or replaces a route in the main table; ``family`` follows from ``dst``."""
        del family
        network, _, length = dst.partition("/")
        header = _ROUTE.pack(
            _family(network), int(length), 0, 0, _MAIN_TABLE, _STATIC, scope, _ROUTE_TYPES[type], 0
        )
        attributes = attribute(1, ip_address(network).packed) if int(length) else b""
        for number, value in ((5, gateway), (7, prefsrc)):
            attributes += attribute(number, ip_address(value).packed) if value else b""
        attributes += attribute(4, _NUMBER.pack(oif)) if oif else b""
        return NEW_ROUTE, _FLAGS[command], header + attributes

    def neigh(self, command: str, *, dst: str, lladdr: str, ifindex: int, state: int) -> Request:
        """Return what adds or replaces a neighbour."""
        header = _NEIGHBOUR.pack(_family(dst), 0, 0, ifindex, state, 0, 0)
        body = header + attribute(1, ip_address(dst).packed) + attribute(2, mac_bytes(lladdr))
        return NEW_NEIGHBOUR, _FLAGS[command], body

    def fdb(self, command: str, *, ifindex: int, lladdr: str, state: int, flags: int) -> Request:
        """Return what adds or replaces an entry of a bridge."""
        header = _NEIGHBOUR.pack(socket.AF_BRIDGE, 0, 0, ifindex, state, flags, 0)
        return NEW_NEIGHBOUR, _FLAGS[command], header + attribute(2, mac_bytes(lladdr))


def _of_link(*, ifname: str = "", address: str = "", **numbers: int) -> bytes:
    attributes = attribute(3, ifname.encode() + b"\0") if ifname else b""
    attributes += attribute(1, mac_bytes(address)) if address else b""
    return attributes + b"".join(
        attribute(_LINK_NUMBERS[name], _NUMBER.pack(value)) for name, value in numbers.items()
    )


def mac_bytes(mac: str) -> bytes:
    """Return a MAC address as the kernel keeps it."""
    return bytes.fromhex(mac.replace(":", ""))


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
