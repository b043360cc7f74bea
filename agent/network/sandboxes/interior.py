"""Reads a sandbox's namespace from the kernel: the task's interface, its address and route.

Read-only, with a socket in the namespace that is open only for the duration of the call.

Tests: ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from agent.network.bridge.links import TASK_INTERFACE
from agent.network.kernel.netlink import dumped, failure, socket_inside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.network.address_pool import Ipv6Lease
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.sandbox_record import SandboxRecord


class Interior(NamedTuple):
    """The interface of a task as found in its namespace."""

    mac: str
    mtu: int
    is_up: bool
    addresses: frozenset[str]
    """With their prefix lengths, of both families."""
    gateway: str
    """Gateway of the default route by IPv4; empty if there is none."""
    ipv6_gateway: str = ""
    """The same by IPv6; also empty without an address of that."""

    def serves(self, record: SandboxRecord) -> bool:
        """Return whether the task has the network in its row."""
        return (
            self.is_up
            and self.mac == record.mac
            and (record.ipv6_only or self._serves_ipv4(record))
            and (record.ipv6 is None or self._serves_ipv6(record.ipv6))
        )

    def _serves_ipv4(self, record: SandboxRecord) -> bool:
        own = f"{record.ipv4}/{record.prefix_len}"
        return own in self.addresses and self.gateway == record.gateway

    def _serves_ipv6(self, ipv6: Ipv6Lease) -> bool:
        own = f"{ipv6.address}/{ipv6.prefix_len}"
        return own in self.addresses and self.ipv6_gateway == ipv6.gateway


async def read(lane: NetlinkLane, netns: int, interface: str = TASK_INTERFACE) -> Interior | None:
    """Return the interface in a namespace; None if it is missing.

    Args:
        lane: the thread for netlink.
        netns: descriptor of the namespace; stays open.
        interface: name of the link to read.

    Raises:
        NetworkFailure: the namespace cannot be entered, or the kernel refused.
    """

    async def work(_host: Any) -> Interior | None:
        try:
            async with socket_inside(netns) as task:
                return await _interior(task, interface)
        except NetlinkError as error:
            raise failure("reading the network of a sandbox", error) from error

    return await lane.call(work)


async def _interior(task: Any, interface: str) -> Interior | None:
    links = await dumped(task.link)
    link = next((m for m in links if m.get("ifname") == interface), None)
    if link is None:
        return None
    addresses = [m for m in await dumped(task.addr) if m["index"] == link["index"]]
    routes = await dumped(task.route, family=socket.AF_INET)
    has_ipv6 = any(message["family"] == socket.AF_INET6 for message in addresses)
    by_ipv6 = await dumped(task.route, family=socket.AF_INET6) if has_ipv6 else []
    return Interior(
        mac=link.get("address") or "",
        mtu=link.get("mtu") or 0,
        is_up=bool(link["flags"] & 1),
        addresses=frozenset(f"{m.get('IFA_ADDRESS')}/{m['prefixlen']}" for m in addresses),
        gateway=_gateway(routes, link["index"]),
        ipv6_gateway=_gateway(by_ipv6, link["index"]),
    )


def _gateway(routes: Iterable[Any], link: int) -> str:
    """Return the gateway of the default route through a link; empty if there is none."""
    through = (m for m in routes if m["dst_len"] == 0 and m.get("oif") == link)
    return str(next((m.get("gateway") for m in through if m.get("gateway")), ""))
