"""The link of this host that tasks share with it, and what a pool on its network means. Pure but ``read``."""

from __future__ import annotations

import socket
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure
from agent.network.drivers.contract import Subnet
from agent.network.settings import (
    GATEWAY_SETTING,
    IPV6_GATEWAY_SETTING,
    IPV6_POOL_SETTING,
    PARENT_SETTING,
    POOL_SETTING,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.network.address_pool import AddressPool
    from agent.network.kernel.netlink import NetlinkLane

_UP = 1


class Parent(NamedTuple):
    """A link of the host, as the kernel shows it."""

    name: str
    number: int
    """The kernel's index of the link."""
    mac: str
    mtu: int
    is_up: bool
    addresses: frozenset[str]
    """IPv4 addresses in ``a.b.c.d/len`` form."""
    gateway: str
    """Of the host's default route through this link; empty if there is none."""
    ipv6_addresses: frozenset[str] = frozenset()
    """Likewise of IPv6, without link-local ones."""
    ipv6_gateway: str = ""
    """Likewise; often a link-local address."""


async def read(lane: NetlinkLane, name: str) -> Parent | None:
    """Return the link with this name; None if there is none.

    Raises:
        NetworkFailure: the kernel did not answer.
    """

    async def work(host: Any) -> Parent | None:
        try:
            (link,) = await host.link("get", ifname=name)
        except NetlinkError:
            return None
        number = link["index"]
        addresses, gateway = await _of_family(lane, host, number, socket.AF_INET)
        ipv6_addresses, ipv6_gateway = await _of_family(lane, host, number, socket.AF_INET6)
        return Parent(
            name=name,
            number=number,
            mac=link.get("address") or "",
            mtu=link.get("mtu") or 1500,
            is_up=bool(link["flags"] & _UP),
            addresses=addresses,
            gateway=gateway,
            ipv6_addresses=ipv6_addresses,
            ipv6_gateway=ipv6_gateway,
        )

    return await lane.call(work)


async def _of_family(
    lane: NetlinkLane, host: Any, number: int, family: int
) -> tuple[frozenset[str], str]:
    """Return the addresses of a link, and the gateway of the default route through it."""
    addresses = await lane.dump(host.addr, family=family, index=number)
    routes = await lane.dump(host.route, family=family, oif=number)
    gateways = [
        m.get("gateway")
        for m in routes
        if m["dst_len"] == 0 and m.get("oif") == number and m.get("gateway")
    ]
    found = {
        ip_interface(f"{m.get('IFA_ADDRESS')}/{m['prefixlen']}")
        for m in addresses
        if m["index"] == number
    }
    own = frozenset(str(each) for each in found if each.version == 4 or not each.is_link_local)
    return own, gateways[0] if gateways else ""


def missing(name: str) -> NetworkFailure:
    """Return the failure of a parent that does not exist."""
    if not name:
        return NetworkFailure(
            f"{PARENT_SETTING} is not set; name the link on whose network tasks are"
        )
    return NetworkFailure(f"{PARENT_SETTING}={name}: this host has no such link")


def subnet_on(parent: Parent, pool: AddressPool, gateway: str) -> Subnet:
    """Return what tasks are told that have addresses of the parent's network.

    Args:
        parent: the link.
        pool: must be part of one of its networks, without the addresses of host and gateway.
        gateway: of the tasks, if it is not that of the host's default route.

    Raises:
        NetworkFailure: the pool does not fit; the text names the setting and the fix.
    """
    interfaces = [IPv4Interface(address) for address in sorted(parent.addresses)]
    around = [each for each in interfaces if pool.network.subnet_of(each.network)]
    if not around:
        networks = ", ".join(str(each.network) for each in interfaces) or "no IPv4 network"
        raise NetworkFailure(
            f"{POOL_SETTING}={pool.network} is not part of a network of {parent.name} ({networks}); "
            "choose a range there that no other host and no DHCP server uses"
        )
    network = around[0].network
    gateway = gateway or parent.gateway
    if not gateway or ip_address(gateway) not in network:
        shown = gateway or "none found"
        raise NetworkFailure(
            f"no gateway of tasks in {network} (it is {shown}); set {GATEWAY_SETTING} to the router "
            f"on the network of {parent.name}"
        )
    refuse_used(pool, [gateway, *(str(each.ip) for each in interfaces)])
    return Subnet(network.prefixlen, gateway)


def ipv6_subnet_on(parent: Parent, pool: AddressPool, gateway: str) -> Subnet:
    """Return the same as ``subnet_on`` for IPv6. The gateway may be a link-local address.

    Raises:
        NetworkFailure: the pool does not fit; the text names the setting and the fix.
    """
    network = pool.ipv6_network
    assert network is not None  # noqa: S101 - the caller looked
    interfaces = [IPv6Interface(address) for address in sorted(parent.ipv6_addresses)]
    around = [each for each in interfaces if network.subnet_of(each.network)]
    if not around:
        networks = ", ".join(str(each.network) for each in interfaces) or "no IPv6 network"
        raise NetworkFailure(
            f"{IPV6_POOL_SETTING}={network} is not part of a network of {parent.name} ({networks}); "
            "choose a range there from which no other host takes its address"
        )
    gateway = gateway or parent.ipv6_gateway
    is_near = (
        gateway
        and ":" in gateway
        and (IPv6Address(gateway).is_link_local or IPv6Address(gateway) in around[0].network)
    )
    if not is_near:
        raise NetworkFailure(
            f"no gateway of tasks in {around[0].network} (it is {gateway or 'none found'}); set "
            f"{IPV6_GATEWAY_SETTING} to the router on the network of {parent.name}"
        )
    refuse_used_ipv6(pool, [gateway, *(str(each.ip) for each in interfaces)])
    return Subnet(around[0].network.prefixlen, gateway)


def refuse_used_ipv6(pool: AddressPool, used: Collection[str]) -> None:
    """Refuse a pool that has one of these IPv6 addresses; raises ``NetworkFailure``."""
    for address in used:
        if pool.ipv6_network is not None and IPv6Address(address) in pool.ipv6_network:
            raise NetworkFailure(
                f"{IPV6_POOL_SETTING}={pool.ipv6_network} contains {address}, which is in use; choose "
                "another range"
            )


def refuse_used(pool: AddressPool, used: Collection[str]) -> None:
    """Refuse a pool that has one of these addresses; raises ``NetworkFailure``."""
    for ipv4 in used:
        if IPv4Address(ipv4) in pool.network:
            raise NetworkFailure(
                f"{POOL_SETTING}={pool.network} contains {ipv4}, which is in use; choose another range"
            )
