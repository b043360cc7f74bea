"""Links between the host and single tasks, without a bridge: their host ends, neighbours and routes.

Nothing is asked or learned on such a link. It has ARP and neighbour discovery off at the host's end,
and both sides have a permanent entry for each other, so that no task can make the host believe
anything, or fill its tables. The host has a route to each task's address.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.network.addresses import address_of_link
from agent.network.bridge.bridge_ports import Place
from agent.network.kernel import neighbours as neighbours_of
from agent.network.kernel.netlink import (
    LINK_SCOPE,
    NO_IPV6_ADDRESS,
    PERMANENT,
    pipelined,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pyroute2.netlink.exceptions import NetlinkError

LINKS: Final = Path("/sys/class/net")
_NEIGHBOURS: Final = Path("/proc/net/arp")
_ROUTES: Final = Path("/proc/net/route")
_IPV6_ROUTES: Final = Path("/proc/net/ipv6_route")
_UP_AND_SILENT: Final = 0x01 | 0x80
"""``IFF_UP``, ``IFF_NOARP``."""
_FIXED: Final = "0x6"
"""``ATF_COM | ATF_PERM``."""
_ALL_ONES: Final = "FFFFFFFF"


class HostEnd(NamedTuple):
    """The host's end of a task's link, and how the host reaches the task."""

    link: str
    mac: str
    """Of the task's end."""
    ipv4: str
    """Of the task."""
    host_mac: str
    source: str
    """Address of the host that tasks see."""
    ipv6: str = ""
    """Of the task; empty if it has none."""
    ipv6_source: str = ""
    """Address of the host that tasks see by IPv6; empty if any of its own will do."""


async def set_up(host: Any, end: HostEnd) -> NetlinkError | None:
    """Set up an existing host end; return the first error. Idempotent, one round trip."""
    number = socket.if_nametoindex(end.link)
    (silenced,) = await pipelined(host.link("set", index=number, af_spec=NO_IPV6_ADDRESS))
    if refused(silenced, errno.EAFNOSUPPORT):
        return silenced
    answers = await pipelined(
        host.link("set", index=number, master=0, address=end.host_mac),
        host.link("set", index=number, flags=_UP_AND_SILENT, change=_UP_AND_SILENT),
        *ways(host, number, end),
    )
    return next((answer for answer in answers if answer is not None), None)


def ways(host: Any, number: int, end: HostEnd) -> list[Any]:
    """Return the requests for neighbour and route of a task."""
    requests = [
        host.neigh("replace", dst=end.ipv4, lladdr=end.mac, ifindex=number, state=PERMANENT),
        host.route(
            "replace", dst=f"{end.ipv4}/32", oif=number, prefsrc=end.source, scope=LINK_SCOPE
        ),
    ]
    if end.ipv6:
        source = {"prefsrc": end.ipv6_source} if end.ipv6_source else {}
        requests += [
            host.neigh("replace", dst=end.ipv6, lladdr=end.mac, ifindex=number, state=PERMANENT),
            host.route(
                "replace", dst=f"{end.ipv6}/128", oif=number, family=socket.AF_INET6, **source
            ),
        ]
    return requests


def present() -> frozenset[str]:
    """Return the names of all links that have the name of a task's. Blocks on ``/sys``."""
    names = (name for _, name in socket.if_nameindex())
    return frozenset(
        name
        for name in names
        if address_of_link(name) is not None and not (LINKS / name / "master").exists()
    )


def places(names: Iterable[str]) -> dict[str, Place]:
    """Return the state of each link, by name. Blocks on ``/sys``."""
    return {name: _place(name) for name in names}


def _place(name: str) -> Place:
    try:
        flags = int((LINKS / name / "flags").read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return Place.GONE
    if not flags & 0x01:
        return Place.DOWN
    is_good = flags & _UP_AND_SILENT == _UP_AND_SILENT and not (LINKS / name / "master").exists()
    return Place.GOOD if is_good else Place.ALTERED


def unknown(ends: Collection[HostEnd]) -> list[HostEnd]:
    """Return the tasks without their permanent neighbour or their route. Blocks on ``/proc``."""
    by_ipv4 = _known_by_ipv4()
    by_ipv6 = _known_by_ipv6() if any(end.ipv6 for end in ends) else _Known()
    return [
        end
        for end in ends
        if not by_ipv4.leads_to(end, end.ipv4, _number_of(end.ipv4))
        or (end.ipv6 and not by_ipv6.leads_to(end, end.ipv6, _digits_of(end.ipv6)))
    ]


class _Known(NamedTuple):
    """What the host has by one IP version."""

    neighbours: frozenset[tuple[str, str, str]] = frozenset()
    """Link, address and MAC of each."""
    routes: frozenset[tuple[str, str]] = frozenset()
    """Link and address, as the kernel prints it here, of each that is to one address."""

    def leads_to(self, end: HostEnd, address: str, printed: str) -> bool:
        """Return whether packets to an address of a task reach it."""
        is_neighbour = (end.link, address, end.mac) in self.neighbours
        return is_neighbour and (end.link, printed) in self.routes


def _known_by_ipv4() -> _Known:
    # address, type of hardware, flags, MAC, mask, link
    neighbours = (w for w in _words(_NEIGHBOURS) if len(w) == 6 and w[2] == _FIXED)
    # link, destination, gateway, flags, references, use, metric, mask, ...
    routes = (w for w in _words(_ROUTES) if len(w) > 7 and w[7] == _ALL_ONES)
    return _Known(
        frozenset((words[5], words[0], words[3]) for words in neighbours),
        frozenset((words[0], words[1]) for words in routes),
    )


def _known_by_ipv6() -> _Known:
    names = dict(socket.if_nameindex())
    # destination, its length, source, its length, gateway, metric, references, use, flags, link
    routes = (words for words in _words(_IPV6_ROUTES) if len(words) == 10 and words[1] == "80")
    return _Known(
        frozenset((names.get(n.link, ""), n.address, n.mac) for n in neighbours_of.permanent()),
        frozenset((words[9], words[0]) for words in routes),
    )


def _number_of(ipv4: str) -> str:
    # The kernel prints the four bytes as a number of the host's byte order.
    return f"{int.from_bytes(socket.inet_aton(ipv4), 'little'):08X}"


def _digits_of(ipv6: str) -> str:
    return socket.inet_pton(socket.AF_INET6, ipv6).hex()


def _words(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
