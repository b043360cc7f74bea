"""Gives the bridge its addresses and routes, as netlink requests."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Final

from agent.network.kernel.netlink import (
    LINK_SCOPE,
    NO_DAD,
    NO_IPV6_ADDRESS,
    failure,
    pipelined,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Interface, IPv6Interface

    from agent.network.bridge.links import HostLink

_BY_KERNEL: Final = 2
"""``RTPROT_KERNEL``: with this, routes look like those that the kernel adds for addresses."""
_METRIC_BY_KERNEL: Final = 256
"""``IP6_RT_PRIO_ADDRCONF``: of the routes that the kernel adds for IPv6 addresses."""


async def shape_bridge(
    host: Any, bridge: HostLink, present: set[str], wanted: frozenset[str]
) -> list[str]:
    """Set the addresses and routes of the bridge and bring it up; return what was wrong with it."""
    if not bridge.is_up:
        silence = host.link("set", index=bridge.number, af_spec=NO_IPV6_ADDRESS)
        (refusal,) = await pipelined(silence)
        if refused(refusal, errno.EAFNOSUPPORT):  # of a kernel without IPv6, where it is not needed
            raise failure(f"configuring the bridge {bridge.name}", refusal)
    wrong = [f"without {address}" for address in sorted(wanted - present)]
    wrong += [f"with {address}" for address in sorted(present - wanted)]
    requests = [_add(host, bridge.number, ip_interface(each)) for each in sorted(wanted - present)]
    for address in sorted(present - wanted):
        ip, _, length = address.partition("/")
        requests.append(host.addr("del", index=bridge.number, address=ip, prefixlen=int(length)))
    if not bridge.is_up:
        # First, because a link that goes up loses the routes of its IPv6 addresses.
        requests.insert(0, host.link("set", index=bridge.number, state="up"))
        wrong.append("down")
    for error in await pipelined(*requests):
        if refused(error, errno.EEXIST, errno.EADDRNOTAVAIL):
            raise failure(f"configuring the bridge {bridge.name}", error)
    return wrong + await _shape_routes(host, bridge, wanted, told=not wrong)


async def _shape_routes(
    host: Any, bridge: HostLink, wanted: frozenset[str], *, told: bool
) -> list[str]:
    """Add missing routes that the kernel itself adds to a link for its addresses."""
    interfaces = [ip_interface(address) for address in sorted(wanted)]
    errors = await pipelined(
        *(
            host.route("add", **_route_of_kernel(interface), oif=bridge.number)
            for interface in interfaces
        )
    )
    wrong = []
    for interface, error in zip(interfaces, errors, strict=True):
        if refused(error, errno.EEXIST):
            raise failure(f"adding the route to {interface.network}", error)
        if error is None and told:
            wrong.append(f"without its route to {interface.network}")
    return wrong


def _add(host: Any, number: int, interface: IPv4Interface | IPv6Interface) -> Any:
    """Return the request for an address of the host, which is ready to be used at once."""
    flags = {"flags": NO_DAD} if interface.version == 6 else {}
    return host.addr(
        "add", index=number, address=str(interface.ip), prefixlen=interface.network.prefixlen,
        **flags,
    )  # fmt: skip


def _route_of_kernel(interface: IPv4Interface | IPv6Interface) -> dict[str, Any]:
    """Return the properties of the route that the kernel adds for an address."""
    target = {"dst": str(interface.network), "proto": _BY_KERNEL}
    if interface.version == 6:
        return {**target, "family": socket.AF_INET6, "priority": _METRIC_BY_KERNEL}
    return {**target, "prefsrc": str(interface.ip), "scope": LINK_SCOPE}


def addresses_of(messages: Iterable[Any]) -> set[str]:
    """Return the addresses in a dump, without those that the kernel itself gives to each link."""
    found = {ip_interface(f"{m.get('IFA_ADDRESS')}/{m['prefixlen']}") for m in messages}
    return {str(each) for each in found if each.version == 4 or not each.is_link_local}
