"""Decides whether kernel messages about links, routes, switches and rules concern us. Pure.

There are many (every link of every container, every rule of the engine), so messages are parsed as
bytes, and only until it is clear that they are not about ours. The result is a suspicion, not a
fact: the caller checks, and if nothing is wrong, the cost is only that of the check.

Sources: rtnetlink(7), ``linux/if_link.h``, ``linux/netconf.h``, ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

import enum
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.network.addresses import address_of_link
from agent.network.bridge.egress_links import comes_and_goes
from agent.network.host.agent_address import ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_LINK: Final = struct.Struct("=BBHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE_BYTES: Final = 12
_ROUTE_PROTOCOL: Final = 5
"""Place of ``rtm_protocol`` in ``struct rtmsg``."""
FLEET_DEVICE: Final = "wg-ecs"
"""The WireGuard link to other hosts; its routes are lost with it, which the kernel does not report."""
FLEET_PROTOCOL: Final = 0xEC
"""Marks the routes to other hosts; a number that nobody else uses (``linux/rtnetlink.h``)."""
_NETCONF_BYTES: Final = 4
"""Size of ``struct netconfmsg``: one byte, padded."""
_NUMBER: Final = struct.Struct("=i")

_NEW_LINK, _DEL_LINK, _DEL_ADDRESS, _DEL_ROUTE, _NEW_NETCONF = 16, 17, 21, 25, 80
_LINK_ADDRESS, _LINK_NAME, _LINK_MASTER, _ROUTE_DST, _ROUTE_OIF = 1, 3, 10, 1, 4
_AGENT_ADDRESS: Final = socket.inet_aton(ADDRESS)
_NETCONF_INDEX, _NETCONF_FORWARDING = 1, 2
_ALL_LINKS: Final = -1
_BRIDGE_FAMILY: Final = 7
"""``AF_BRIDGE``: the message is about a link's membership of its bridge, not about the link."""
_UP: Final = 1
_TYPE_MASK: Final = 0x3FFF

_NFTABLES: Final = 10 << 8
_CHANGES: Final = frozenset(_NFTABLES | kind for kind in (0, 2, 3, 5, 6, 8, 9, 11, 14, 20, 24))
"""Tables, chains, rules and sets that were added, changed or removed, and elements, objects and
flow tables that were removed. Added elements do no harm, and our own are added with every task."""


class Part(enum.Flag):
    """A part of the host's network that may have been changed."""

    BRIDGE = enum.auto()
    """The bridge itself: its state, addresses and routes."""
    PORTS = enum.auto()
    """The host ends of sandbox links."""
    RULES = enum.auto()
    """Our tables, and our rules in Docker's chain."""
    FORWARDING = enum.auto()
    """The kernel's forwarding switches."""
    OUTSIDE = enum.auto()
    """The links that lead out of the host, through which rules let tasks send."""
    AGENT_ADDRESS = enum.auto()
    """The address of the agent's server."""
    FLEET = enum.auto()
    """The way to tasks on other hosts."""


NOTHING: Final = Part(0)
EVERYTHING: Final = ~NOTHING
FOR_EACH_TASK: Final = Part.BRIDGE | Part.PORTS | Part.OUTSIDE
"""Parts whose check looks at every link of the host; the kernel reports every change of them."""


class Ours(NamedTuple):
    """What belongs to us on the host."""

    bridge: str
    bridge_index: int
    """The kernel's last known index of the bridge; 0 if unknown."""
    bridge_mac: str
    """The intended MAC address of the bridge; empty if any will do."""
    port_master: int
    """Index of the link that ports must be on; 0 if they must be on none."""
    is_port: Callable[[str], bool]
    """Returns whether a link with this name should be on the bridge and up."""
    rules: tuple[bytes, ...]
    """Names of tables and chains that contain our rules, each followed by a zero byte."""
    own_changes: frozenset[int] = frozenset()
    """Port ids of the sockets that make our own changes of rules."""


def touched(datagrams: Iterable[bytes], ours: Ours) -> Part:
    """Return the parts that may have been damaged according to these datagrams.

    Of several messages about one link only the last counts, because a link passes through
    intermediate states: a link that is up and in place at the end was not damaged.
    """
    parts = NOTHING
    harmed: dict[str, bool] = {}
    for data in datagrams:
        for kind, sender, body in _messages(data):
            if kind in (_NEW_LINK, _DEL_LINK):
                parts |= _of_link(kind, body, ours, harmed)
            elif kind == _DEL_ADDRESS:
                if (
                    len(body) >= _ADDRESS.size
                    and _ADDRESS.unpack_from(body)[4] == ours.bridge_index
                ):
                    parts |= Part.BRIDGE
            elif kind == _DEL_ROUTE:
                parts |= _of_route(body, ours)
            elif kind == _NEW_NETCONF:
                parts |= _of_switch(body, ours)
            elif kind in _CHANGES and _is_of_rules(sender, body, ours):
                parts |= Part.RULES
    return parts | Part.PORTS if any(harmed.values()) else parts


def _of_link(kind: int, body: memoryview, ours: Ours, harmed: dict[str, bool]) -> Part:
    if len(body) < _LINK.size:
        return NOTHING
    family, _, _, index, flags, _ = _LINK.unpack_from(body)
    name = _name(body)
    if ours.is_port(name):
        off = kind == _DEL_LINK or not flags & _UP
        master = _number(body, _LINK.size, _LINK_MASTER) or 0
        harmed[name] = off or master != ours.port_master
        return NOTHING
    if (
        address_of_link(name) is None
        and _number(body, _LINK.size, _LINK_MASTER) == ours.bridge_index
    ):
        return Part.PORTS  # a foreign name on our bridge: one of our links was renamed
    if family == _BRIDGE_FAMILY:
        return NOTHING
    if name == FLEET_DEVICE and (kind == _DEL_LINK or not flags & _UP):
        return Part.FLEET
    if index != ours.bridge_index and name != ours.bridge:
        return Part.OUTSIDE if _may_lead_outside(kind, body, flags, name) else NOTHING
    if kind == _DEL_LINK or not flags & _UP or index != ours.bridge_index or name != ours.bridge:
        # Ports of a removed bridge are off it; this is reported for each, but maybe not at once.
        return Part.BRIDGE | Part.PORTS
    mac = _attribute(body, _LINK.size, _LINK_ADDRESS)
    is_other = ours.bridge_mac and mac is not None and bytes(mac).hex(":") != ours.bridge_mac
    return Part.BRIDGE if is_other else NOTHING


def _of_route(body: memoryview, ours: Ours) -> Part:
    if _number(body, _ROUTE_BYTES, _ROUTE_OIF) == ours.bridge_index:
        return Part.BRIDGE
    if len(body) > _ROUTE_PROTOCOL and body[_ROUTE_PROTOCOL] == FLEET_PROTOCOL:
        return Part.FLEET
    target = _attribute(body, _ROUTE_BYTES, _ROUTE_DST)
    return Part.AGENT_ADDRESS if target is not None and bytes(target) == _AGENT_ADDRESS else NOTHING


def _may_lead_outside(kind: int, body: memoryview, flags: int, name: str) -> bool:
    if kind != _NEW_LINK or not flags & _UP or comes_and_goes(name):
        return False
    return _number(body, _LINK.size, _LINK_MASTER) is None


def _is_of_rules(sender: int, body: memoryview, ours: Ours) -> bool:
    if sender in ours.own_changes:
        return False
    return any(name in bytes(body) for name in ours.rules)


def _of_switch(body: memoryview, ours: Ours) -> Part:
    index = _number(body, _NETCONF_BYTES, _NETCONF_INDEX)
    off = _number(body, _NETCONF_BYTES, _NETCONF_FORWARDING) == 0
    return Part.FORWARDING if off and index in (_ALL_LINKS, ours.bridge_index) else NOTHING


def _messages(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Yield type, sender and body of each message in a datagram."""
    view = memoryview(data)
    while len(view) >= _HEADER.size:
        length, kind, _, _, sender = _HEADER.unpack_from(view)
        if length < _HEADER.size or length > len(view):
            return
        yield kind, sender, view[_HEADER.size : length]
        view = view[(length + 3) & ~3 :]


def _attribute(body: memoryview, start: int, wanted: int) -> memoryview | None:
    """Return the value of the first attribute of this type after the fixed part."""
    while start + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, start)
        if length < _ATTRIBUTE.size or start + length > len(body):
            return None
        if kind & _TYPE_MASK == wanted:
            return body[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
    return None


def _number(body: memoryview, start: int, wanted: int) -> int | None:
    value = _attribute(body, start, wanted)
    return _NUMBER.unpack(value)[0] if value is not None and len(value) == _NUMBER.size else None


def _name(body: memoryview) -> str:
    value = _attribute(body, _LINK.size, _LINK_NAME)
    return bytes(value).rstrip(b"\0").decode(errors="replace") if value is not None else ""
