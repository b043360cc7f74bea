"""Reads a sandbox's namespace from the kernel: the task's interface, its address and route.

Read-only, with a socket in the namespace that is open only for the duration of the call.

Tests: ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.network.bridge.links import TASK_INTERFACE
from agent.network.kernel.namespaces import netlink_socket_in
from agent.network.kernel.netlink import failure

if TYPE_CHECKING:
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.sandbox_record import SandboxRecord


class Interior(NamedTuple):
    """The interface of a task as found in its namespace."""

    mac: str
    mtu: int
    is_up: bool
    addresses: frozenset[str]
    """IPv4 addresses in ``a.b.c.d/len`` form."""
    gateway: str
    """Gateway of the default route; empty if there is none."""

    def serves(self, record: SandboxRecord) -> bool:
        """Return whether the task has the network in its row."""
        return (
            self.is_up
            and self.mac == record.mac
            and f"{record.ipv4}/{record.prefix_len}" in self.addresses
            and self.gateway == record.gateway
        )


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
        inner = await netlink_socket_in(netns)
        task = AsyncIPRoute(fileno=inner.detach(), ext_ack=True)
        try:
            await task.setup_endpoint()
            return await _interior(task, interface)
        except NetlinkError as error:
            raise failure("reading the network of a sandbox", error) from error
        finally:
            task.close()  # an open socket would keep the namespace alive

    return await lane.call(work)


async def _interior(task: Any, interface: str) -> Interior | None:
    links = [message async for message in await task.link("dump")]
    link = next((m for m in links if m.get("ifname") == interface), None)
    if link is None:
        return None
    addresses = [m async for m in await task.addr("dump", family=socket.AF_INET)]
    routes = [m async for m in await task.route("dump", family=socket.AF_INET)]
    gateways = [
        m.get("gateway")
        for m in routes
        if m["dst_len"] == 0 and m.get("oif") == link["index"] and m.get("gateway")
    ]
    return Interior(
        mac=link.get("address") or "",
        mtu=link.get("mtu") or 0,
        is_up=bool(link["flags"] & 1),
        addresses=frozenset(
            f"{m.get('IFA_ADDRESS')}/{m['prefixlen']}"
            for m in addresses
            if m["index"] == link["index"]
        ),
        gateway=gateways[0] if gateways else "",
    )
