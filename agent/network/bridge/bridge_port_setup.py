"""Settings of the host end of a task's link on the bridge, as netlink requests.

It is known beforehand where each task is reached, and nothing is learned from traffic. The bridge
has one static entry for a task's MAC, and sends the task neither unicasts for others nor
multicasts; of the broadcasts only ARP. A locked port accepts no frames from another MAC, even if
``bridge_port_rules`` is not available. The host has a permanent neighbour entry for the task's address, so
that ARP of others has no effect. So the size of both tables depends only on the number of tasks,
whatever they send.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.network.addresses import address_of_link
from agent.network.kernel import route_talk
from agent.network.kernel.netlink import PERMANENT, failure, pipelined, refused
from agent.network.kernel.raw_messages import attribute
from agent.network.kernel.route_requests import RouteRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.network.bridge.bridge_port_rules import BridgePort

FLAGS: Final = {
    "IFLA_BRPORT_LEARNING": 0,
    "IFLA_BRPORT_UNICAST_FLOOD": 0,
    "IFLA_BRPORT_MCAST_FLOOD": 0,
    "IFLA_BRPORT_BCAST_FLOOD": 1,
    "IFLA_BRPORT_LOCKED": 1,
}
"""Settings of our ports; a kernel ignores those that it does not know. From ``linux/if_link.h``."""
_NUMBERS: Final = {
    "IFLA_BRPORT_LEARNING": 8,
    "IFLA_BRPORT_UNICAST_FLOOD": 9,
    "IFLA_BRPORT_MCAST_FLOOD": 27,
    "IFLA_BRPORT_BCAST_FLOOD": 30,
    "IFLA_BRPORT_LOCKED": 39,
}
_FLUSH: Final = 24
"""``IFLA_BRPORT_FLUSH``: removes all entries that were learned before."""
AS_PORT: Final = b"".join(
    [
        *(attribute(_NUMBERS[name], bytes([value])) for name, value in FLAGS.items()),
        attribute(_FLUSH, b""),
    ]
)
_STATIC: Final = 0x40
"""``NUD_NOARP``: an entry of a bridge that does not age."""
_DOOMED_GROUP: Final = 0x65637364
"""Links in this group are removed together, in one grace period of the kernel."""
_ON_MASTER: Final = 0x04
"""``NTF_MASTER``: an entry of the bridge that the link is on."""


def join_bridge(bridge: int, port: BridgePort) -> NetlinkError | None:
    """Put a link on the bridge and up; return the first error. Idempotent, one datagram. Blocks.

    It comes up last: nothing passes before all settings are made.

    Raises:
        NetworkFailure: the kernel did not answer.
    """
    try:
        number = socket.if_nametoindex(port.link)
    except OSError as error:
        return NetlinkError(error.errno or errno.ENODEV)
    refusal = _join(bridge, number, port, no_ipv6_address=True)
    if refusal is not None and refusal.code == errno.EAFNOSUPPORT:
        # This kernel has no IPv6, and refused before it changed anything.
        refusal = _join(bridge, number, port, no_ipv6_address=False)
    return refusal


def _join(
    bridge: int, number: int, port: BridgePort, *, no_ipv6_address: bool
) -> NetlinkError | None:
    host = RouteRequests()
    answers = route_talk.once(
        [
            host.link("set", index=number, master=bridge, no_ipv6_address=no_ipv6_address),
            host.fdb("replace", ifindex=number, lladdr=port.mac, state=_STATIC, flags=_ON_MASTER),
            *_know(host, bridge, port),
            host.link("set", index=number, slave=AS_PORT, state="up"),
        ]
    )
    return next((answer for answer in answers if answer is not None), None)


def _know(host: Any, bridge: int, port: BridgePort) -> list[Any]:
    return [
        host.neigh("replace", dst=address, lladdr=port.mac, ifindex=bridge, state=PERMANENT)
        for address in (port.ipv4, port.ipv6)
        if address
    ]


async def know(host: Any, bridge: int, ports: Collection[BridgePort]) -> list[Any]:
    """Add permanent neighbours of the host; return the error of each, or None. Idempotent."""
    return await pipelined(*(each for port in ports for each in _know(host, bridge, port)))


async def forget(host: Any, bridge: int, addresses: Collection[str]) -> list[Any]:
    """Remove neighbours of the host; return the error of each, or None."""
    return await pipelined(*(host.neigh("del", dst=each, ifindex=bridge) for each in addresses))


async def remove(
    host: Any, names: tuple[str, ...], bridge: int, ipv6_of: Callable[[str], str]
) -> None:
    """Remove links, and the host's neighbours on the bridge at their other ends; idempotent.

    Args:
        host: the socket of the lane.
        names: of the links; several cost as much as one.
        bridge: the kernel's index of the bridge; 0 without one.
        ipv6_of: returns the IPv6 address of the task with an IPv4 address; empty if it has none.

    Raises:
        NetworkFailure: the kernel refused.
    """
    if len(names) == 1:
        errors = await pipelined(host.link("del", ifname=names[0]))
    else:
        marked = await pipelined(
            *(host.link("set", index=0, ifname=name, group=_DOOMED_GROUP) for name in names)
        )
        if all(error is not None for error in marked):
            errors = marked
        else:
            errors = [*marked, *await pipelined(host.link("del", group=_DOOMED_GROUP))]
    for error in errors:
        if refused(error, errno.ENODEV):
            raise failure(f"removing {', '.join(names)}", error)
    if not bridge:
        return
    # The bridge's entries are removed with the link, but not the host's neighbour entry.
    ipv4s = [address for address in map(address_of_link, names) if address]
    known = [*ipv4s, *filter(None, map(ipv6_of, ipv4s))]
    for error in await forget(host, bridge, known):
        if refused(error, errno.ENOENT, errno.ENODEV):
            raise failure("removing the neighbours of the host", error)
