"""How the host's end of a task's link is on the bridge, as netlink requests.

Where a task is reached is known beforehand, and nothing is learned from what anybody sends: the bridge
has one fixed entry for its MAC, and sends it neither foreign unicasts nor multicasts, only the broadcasts
of ARP. A locked port takes no frame from another MAC, also where ``port_rules`` cannot be. The host has
a fixed neighbour for its address, so that no ARP of others counts. So both tables are as large as there
are tasks, whatever these send.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.network.netlink import pipelined

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.network.port_rules import Port

FLAGS: Final = {
    "IFLA_BRPORT_LEARNING": 0,
    "IFLA_BRPORT_UNICAST_FLOOD": 0,
    "IFLA_BRPORT_MCAST_FLOOD": 0,
    "IFLA_BRPORT_BCAST_FLOOD": 1,
    "IFLA_BRPORT_LOCKED": 1,
}
"""Of a port of ours; a kernel passes over those that it does not know. From ``linux/if_link.h``."""
_AS_PORT: Final = {
    "attrs": [
        ["IFLA_INFO_SLAVE_KIND", "bridge"],
        # What was learned before, by whomever, is forgotten with that.
        [
            "IFLA_INFO_SLAVE_DATA",
            {"attrs": [*map(list, FLAGS.items()), ["IFLA_BRPORT_FLUSH", True]]},
        ],
    ]
}
_NO_IPV6_ADDRESS: Final = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}
_PERMANENT: Final = 0x80
_STATIC: Final = 0x40
"""``NUD_PERMANENT`` of a neighbour; ``NUD_NOARP`` of an entry of a bridge that does not age."""
_ON_MASTER: Final = 0x04
"""``NTF_MASTER``: an entry of the bridge that the link is on."""


async def join_bridge(host: Any, bridge: int, port: Port) -> NetlinkError | None:
    """Put a link on the bridge and up; return the first refusal. Repeatable, one round trip.

    It comes up last: nothing is let through before it is as wanted.
    """
    try:
        number = socket.if_nametoindex(port.link)
    except OSError as error:
        return NetlinkError(error.errno or errno.ENODEV)
    refusal = await _join(host, bridge, number, port, af_spec=_NO_IPV6_ADDRESS)
    if refusal is not None and refusal.code == errno.EAFNOSUPPORT:
        # This kernel has no IPv6, and refused before it did anything else.
        refusal = await _join(host, bridge, number, port)
    return refusal


async def _join(
    host: Any, bridge: int, number: int, port: Port, **also: Any
) -> NetlinkError | None:
    answers = await pipelined(
        host.link("set", index=number, master=bridge, **also),
        host.fdb("replace", ifindex=number, lladdr=port.mac, state=_STATIC, flags=_ON_MASTER),
        _know(host, bridge, port),
        host.link("set", index=number, linkinfo=_AS_PORT, state="up"),
    )
    return next((answer for answer in answers if answer is not None), None)


def _know(host: Any, bridge: int, port: Port) -> Any:
    return host.neigh("replace", dst=port.ipv4, lladdr=port.mac, ifindex=bridge, state=_PERMANENT)


async def know(host: Any, bridge: int, ports: Collection[Port]) -> list[Any]:
    """Give the host its fixed neighbours; return the refusal of each, or None. Repeatable."""
    return await pipelined(*(_know(host, bridge, port) for port in ports))


async def forget(host: Any, bridge: int, addresses: Collection[str]) -> list[Any]:
    """Remove neighbours of the host; return the refusal of each, or None."""
    return await pipelined(*(host.neigh("del", dst=ipv4, ifindex=bridge) for ipv4 in addresses))
