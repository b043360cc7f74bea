"""Moves an ENI into a namespace and back, and configures it there, as netlink requests.

Each function compares what is there with what should be, so that it can be repeated after any
failure and ends in the same state. They run in the thread for netlink with sockets of their own:
the kernel allows one dump at a time per socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure
from agent.model.eni import IPV6_PREFIX_LEN, TaskEni
from agent.network.bridge.links import AGENT_INTERFACE, TASK_INTERFACE
from agent.network.kernel.netlink import (
    LINK_SCOPE,
    NO_DAD,
    dumped,
    failure,
    pipelined,
    refused,
    socket_inside,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

_IPV4_DEFAULT: Final = "0.0.0.0/0"
_IPV6_DEFAULT: Final = "::/0"
_UP: Final = 1
_SKIP_STATS: Final = 1 << 3


class EniAbsent(NetworkFailure):
    """The device is not on the host: not yet, or no longer."""


class Found(NamedTuple):
    """A link with the MAC that was looked for."""

    number: int
    """The kernel's index of it."""
    name: str
    kind: str
    is_up: bool
    mtu: int


@contextlib.asynccontextmanager
async def sockets(netns: int) -> AsyncIterator[tuple[Any, Any]]:
    """Open a socket of the host and one in a namespace; close both at the end."""
    async with socket_inside(netns) as task:
        host = AsyncIPRoute(ext_ack=True)
        try:
            await host.setup_endpoint()
            yield host, task
        finally:
            host.close()


async def place(
    host: Any, task: Any, netns: int, eni: TaskEni, *, blocked: Iterable[str] = (), mtu: int = 0
) -> None:
    """Bring the interface into a namespace as ``eth0``, with its addresses and routes, and up.

    Args:
        host: socket of the host.
        task: socket in the namespace.
        netns: descriptor of the namespace; stays open.
        eni: the interface.
        blocked: prefixes that the task cannot reach.
        mtu: of the interface; 0 for the one that its driver chose, which on EC2 allows jumbo frames.

    Raises:
        EniAbsent: the device, or the trunk of a branch interface, is not on the host.
        NetworkFailure: the kernel refused, or the device is the host's own.
    """
    try:
        link = await _inside(task, eni)
        if link is None:
            await (_make_branch if eni.is_branch else _move_in)(host, netns, eni)
            link = await _inside(task, eni)
        if link is None:
            raise EniAbsent(f"{_called(eni)} vanished while it was moved")
        if link.name != TASK_INTERFACE:
            await task.link("set", index=link.number, state="down")
            await task.link("set", index=link.number, ifname=TASK_INTERFACE)
        await _address(task, link.number, eni)
        await task.link(
            "set",
            index=link.number,
            state="up",
            **({"mtu": mtu} if mtu and mtu != link.mtu else {}),
        )
        await _route(task, link.number, eni, blocked)
    except NetlinkError as error:
        raise failure(f"setting up {_called(eni)}", error) from error


async def take_back(host: Any, task: Any, host_netns: int, eni: TaskEni) -> bool:
    """Return the interface to the host, down and without addresses; False if it is not there.

    A branch interface, which is only a VLAN, is removed instead. On the host it gets a name made of
    its MAC, so that several that return at once do not collide.

    Raises:
        NetworkFailure: the kernel refused; call again.
    """
    try:
        link = await _inside(task, eni)
        if link is None:
            return False
        if eni.is_branch:
            await task.link("del", index=link.number)
            return True
        await task.link("set", index=link.number, state="down")
        await task.link(
            "set", index=link.number, net_ns_fd=host_netns, ifname=name_on_host(eni.mac)
        )
    except NetlinkError as error:
        raise failure(f"returning {_called(eni)} to the host", error) from error
    return True


async def serves(task: Any, eni: TaskEni) -> bool:
    """Return whether a namespace has the interface, up and with all its addresses.

    Raises:
        NetworkFailure: the kernel refused.
    """
    try:
        link = await _inside(task, eni)
        if link is None or link.name != TASK_INTERFACE or not link.is_up:
            return False
        present = {address for address, _ in await _addresses(task, link.number)}
        routes = await dumped(task.route, family=socket.AF_INET)
    except NetlinkError as error:
        raise failure(f"reading {_called(eni)}", error) from error
    gateways = [
        r.get("gateway") for r in routes if not r["dst_len"] and r.get("oif") == link.number
    ]
    return {*eni.ipv4, *eni.ipv6} <= present and (
        not eni.ipv4_gateway or eni.ipv4_gateway in gateways
    )


def name_on_host(mac: str) -> str:
    """Return the name of an interface that came back; 15 characters, as many as the kernel allows."""
    return "eni" + mac.replace(":", "")


async def _move_in(host: Any, netns: int, eni: TaskEni) -> None:
    found = [link for link in await _with_mac(host, eni.mac) if link.kind != "vlan"]
    if not found:
        raise EniAbsent(f"{_called(eni)} is not on the host: no link has its MAC address")
    # A VLAN or bridge on top of a device has the same address, and usually a longer name.
    link = min(found, key=lambda each: (len(each.name), each.name))
    routes = await dumped(host.route, family=socket.AF_INET)
    if any(not route["dst_len"] and route.get("oif") == link.number for route in routes):
        raise NetworkFailure(
            f"{_called(eni)} is {link.name}, which has the host's default route: it is not moved"
        )
    await host.link("set", index=link.number, net_ns_fd=netns, ifname=TASK_INTERFACE)


async def _make_branch(host: Any, netns: int, eni: TaskEni) -> None:
    trunks = [link for link in await _with_mac(host, eni.trunk_mac) if link.kind != "vlan"]
    if not trunks:
        raise EniAbsent(f"the trunk {eni.trunk_mac} of {_called(eni)} is not on the host")
    trunk = min(trunks, key=lambda each: (len(each.name), each.name))
    if not trunk.is_up:
        await host.link("set", index=trunk.number, state="up")
    (refusal,) = await pipelined(
        # Made in the namespace, so that its name never exists on the host.
        host.link(
            "add", ifname=TASK_INTERFACE, kind="vlan", link=trunk.number, vlan_id=eni.vlan_id,
            address=eni.mac, net_ns_fd=netns,
        )
    )  # fmt: skip
    if refused(refusal, errno.EEXIST):
        raise failure(f"creating VLAN {eni.vlan_id} on {trunk.name}", refusal)
    if refusal is not None:
        await _move_branch(host, netns, eni, trunk)


async def _move_branch(host: Any, netns: int, eni: TaskEni, trunk: Found) -> None:
    """Take a VLAN that exists already, such as one that another agent left on the host."""
    left = [link for link in await _with_mac(host, eni.mac) if link.kind == "vlan"]
    if not left:
        raise NetworkFailure(
            f"VLAN {eni.vlan_id} of {trunk.name}, for {_called(eni)}, exists in another namespace"
        )
    await host.link("set", index=left[0].number, net_ns_fd=netns, ifname=TASK_INTERFACE)


async def _address(task: Any, index: int, eni: TaskEni) -> None:
    """Give the interface its addresses and no others; those of the link itself stay."""
    surplus, missing = changes(await _addresses(task, index), eni)
    errors = await pipelined(
        *(task.addr("del", index=index, address=a, prefixlen=length) for a, length in surplus),
        *(
            task.addr(
                "add", index=index, address=a, prefixlen=length,
                **({"flags": NO_DAD} if ":" in a else {}),
            )
            for a, length in missing
        ),
    )  # fmt: skip
    for error in errors:
        if refused(error, errno.EEXIST, errno.EADDRNOTAVAIL):
            raise error


def changes(
    present: Sequence[tuple[str, int]], eni: TaskEni
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return which addresses, with their prefix lengths, to remove and to add, in order. Pure.

    Of IPv4 addresses in one network, the first is the one that packets are sent from. So those that
    are there in another order than in the ENI are removed, too, the last one first: the kernel
    removes the others of a network with the first.
    """
    ipv4 = [(address, eni.ipv4_prefix_len) for address in eni.ipv4]
    ipv6 = [(address, IPV6_PREFIX_LEN) for address in eni.ipv6]
    there = [each for each in present if ":" not in each[0]]
    kept = 0
    for one, other in zip(there, ipv4, strict=False):
        if one != other:
            break
        kept += 1
    surplus = [*reversed(there[kept:]), *(e for e in present if ":" in e[0] and e not in ipv6)]
    return surplus, [*ipv4[kept:], *(each for each in ipv6 if each not in present)]


async def _route(task: Any, index: int, eni: TaskEni, blocked: Iterable[str]) -> None:
    requests = []
    prefixes = [prefix for prefix in blocked if eni.ipv6 or ":" not in prefix]
    for prefix in prefixes:
        family = socket.AF_INET6 if ":" in prefix else socket.AF_INET
        requests.append(task.route("replace", dst=prefix, type="blackhole", family=family))
    for gateway, dst, family in (
        (eni.ipv4_gateway, _IPV4_DEFAULT, socket.AF_INET),
        (eni.ipv6_gateway, _IPV6_DEFAULT, socket.AF_INET6),
    ):
        if gateway:
            requests.append(
                task.route("replace", dst=dst, gateway=gateway, oif=index, family=family)
            )
    for error in await pipelined(*requests):
        if error is not None:
            raise error


async def _inside(task: Any, eni: TaskEni) -> Found | None:
    found = [link for link in await _with_mac(task, eni.mac) if link.name != AGENT_INTERFACE]
    return found[0] if found else None


async def _with_mac(ipr: Any, mac: str) -> list[Found]:
    return [
        Found(
            number=message["index"],
            name=message.get("ifname"),
            kind=_kind(message),
            is_up=bool(message["flags"] & _UP),
            mtu=message.get("mtu") or 0,
        )
        for message in await dumped(ipr.link, ext_mask=_SKIP_STATS)
        if (message.get("address") or "").lower() == mac
    ]


def _kind(message: Any) -> str:
    info = message.get("linkinfo")
    return (info.get("kind") or "") if info else ""


async def _addresses(task: Any, index: int) -> list[tuple[str, int]]:
    messages = await dumped(task.addr, index=index)
    return [
        # On a link with a peer address, IFA_LOCAL is its own.
        (str(m.get("IFA_LOCAL") or m.get("IFA_ADDRESS")), m["prefixlen"])
        for m in messages
        if m["index"] == index and m["scope"] != LINK_SCOPE
    ]


def _called(eni: TaskEni) -> str:
    kind = "branch interface" if eni.is_branch else "interface"
    return f"{kind} {eni.eni_id} ({eni.mac})"


def open_own_netns() -> int:
    """Return a descriptor of this process's namespace. Blocks on ``/proc``."""
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
