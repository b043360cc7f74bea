"""The driver ``routed``: a link per task with a route of its own, and no bridge.

A task has its address as /32. Everything else is behind the gateway, which is the host: the first
address of the pool, on the host's loopback. Its packets leave the host with the task's own address,
so the site has to route the pool to the host, by static routes or by a protocol that announces them.
Addresses that no task has are unreachable, and do not loop between host and router.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.errors import NetworkFailure
from agent.network.addresses import link_prefixes, mac_of
from agent.network.bridge.bridge_port_rules import Layout
from agent.network.bridge.links import TASK_INTERFACE
from agent.network.bridge.task_end import TASK_INDEX, blackholes, way_out_by_ipv6
from agent.network.drivers import host_ends
from agent.network.drivers.contract import Subnet, WatchedLink
from agent.network.drivers.host_ends import HostEnd
from agent.network.drivers.leases import lease_behind, refuse_without_ipv6
from agent.network.drivers.link_rules import LinkRules
from agent.network.drivers.overlaps import refuse_overlap
from agent.network.host.agent_address import ADDRESS
from agent.network.host_routes import not_of_links
from agent.network.kernel import nft
from agent.network.kernel.netlink import (
    LINK_SCOPE,
    NO_IPV6_ADDRESS,
    PERMANENT,
    failure,
    pipelined,
    refused,
    socket_inside,
)
from agent.network.settings import DRIVER_SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pyroute2.netlink.exceptions import NetlinkError

    from agent.network.address_pool import AddressPool, Ipv6Lease
    from agent.network.bridge.bridge_ports import Place
    from agent.network.bridge.links import SandboxLink
    from agent.network.drivers.opening import DriverParts
    from agent.network.sandbox_record import SandboxRecord

T = TypeVar("T")

_LOOPBACK: Final = 1
_UNREACHABLE_METRIC: Final = 0xFFFF_0000
"""Less wanted than any other route to the pool."""


async def open_routed(parts: DriverParts) -> RoutedDriver:
    """Return the driver; raises ``NetworkFailure`` if the pool overlaps another network."""
    await retire_bridge(parts)
    refuse_overlap(parts.pool, "", not_of_links(await parts.links.routes(), parts.pool))
    if parts.pool.ipv6_network is not None:
        await refuse_without_ipv6(parts)
        by_ipv6 = await parts.links.routes(ipv6=True)
        refuse_overlap(parts.pool, "", not_of_links(by_ipv6, parts.pool), ipv6=True)
    settings = parts.settings
    mtu = settings.mtu or await parts.links.default_mtu() - settings.tunnel_bytes
    return RoutedDriver(parts, mtu=mtu)


async def retire_bridge(parts: DriverParts) -> None:
    """Remove what the driver ``bridge`` left on the host, which no task uses any more; idempotent."""
    loop = asyncio.get_running_loop()
    await parts.links.delete(parts.settings.bridge)
    await loop.run_in_executor(parts.files, nft.remove, "bridge", parts.settings.table)


def layout_of(pool: AddressPool, ipv4s: Iterable[str], gateways: Iterable[str]) -> Layout:
    """Return the input for the rules: the pool, and tasks with addresses of an earlier one. Pure."""
    pools = {str(pool.network), *(f"{ipv4}/32" for ipv4 in ipv4s if ipv4 not in pool)}
    links = tuple(f"{prefix}*" for each in sorted(pools) for prefix in link_prefixes(each))
    ipv6 = frozenset() if pool.ipv6_network is None else frozenset({str(pool.ipv6_network)})
    return Layout(
        pools=frozenset(pools),
        gateways=frozenset(gateways),
        task_links=links,
        ipv6_pools=ipv6,
        ipv6_gateways=frozenset({pool.ipv6_gateway}) if ipv6 else frozenset(),
        agent_side_pool=str(pool.network) if pool.is_ipv6_only else "",
    )


class RoutedDriver:
    """Implements ``TaskDriver`` by routes. The drivers with a parent are made of it, too."""

    name = "routed"
    table_inside = ""

    def __init__(self, parts: DriverParts, *, mtu: int) -> None:
        """Take the parts; nothing is changed before ``ensure``."""
        self.rules = LinkRules(parts.settings.table, parts.settings.blocked_addresses)
        self._lane = parts.lane
        self._links = parts.links
        self._pool = parts.pool
        self._files = parts.files
        self._mtu = mtu

    @property
    def subnet(self) -> Subnet:
        """An address of its own, and the host as gateway."""
        return Subnet(32, self._pool.gateway)

    @property
    def mtu(self) -> int:
        """MTU in bytes of new tasks' interfaces."""
        return self._mtu

    @property
    def watched(self) -> WatchedLink:
        """The loopback, which has the gateway's address."""
        return WatchedLink("lo", _LOOPBACK, "", 0)

    def mac_of(self, ipv4: str) -> str:
        """Return the derived MAC."""
        return mac_of(ipv4)

    def ipv6_of(self, ipv4: str) -> Ipv6Lease | None:
        """Return the address alone: everything else is behind the gateway."""
        return lease_behind(self._pool, ipv4)

    def layout(self, records: Iterable[SandboxRecord]) -> Layout:
        """Return the pools and the gateways, of this pool and of earlier ones."""
        known = list(records)
        return layout_of(self._pool, [each.ipv4 for each in known], self._gateways(known))

    def _gateways(self, records: Iterable[SandboxRecord]) -> set[str]:
        return {self._pool.gateway, *(record.gateway for record in records)}

    async def ensure(self, records: Collection[SandboxRecord]) -> list[str]:
        """Add the gateways, and the route for addresses that nobody has."""
        missing = await self._missing(records)

        async def work(host: Any) -> None:
            errors = await pipelined(
                *(
                    host.addr("add", index=_LOOPBACK, address=gateway, prefixlen=32)
                    for gateway in sorted(self._gateways(records))
                ),
                host.route("replace", **self._unreachable()),
                *self._ensure_ipv6(host),
            )
            for error in errors:
                if refused(error, errno.EEXIST):
                    raise failure("adding the gateway of tasks", error)

        if missing:
            await self._lane.call(work)
        return missing

    def _ensure_ipv6(self, host: Any) -> list[Any]:
        if self._pool.ipv6_network is None:
            return []
        gateway = self._pool.ipv6_gateway
        return [
            host.addr("add", index=_LOOPBACK, address=gateway, prefixlen=128),
            host.route("replace", **self._unreachable_by_ipv6()),
        ]

    async def differences(self, records: Collection[SandboxRecord]) -> list[str]:
        """Return which gateway or route is missing."""
        return await self._missing(records)

    async def _missing(self, records: Collection[SandboxRecord]) -> list[str]:
        routes = await self._links.routes()
        present = {str(route.network) for route in routes if route.interface == "lo"}
        gateways = sorted(f"{gateway}/32" for gateway in self._gateways(records))
        found = [
            f"the gateway {gateway} was gone" for gateway in gateways if gateway not in present
        ]
        if not any(r.network == self._pool.network and not r.interface for r in routes):
            found.append(f"the route for unused addresses of {self._pool.network} was gone")
        return found + (await self._missing_of_ipv6() if self._pool.ipv6_network else [])

    async def _missing_of_ipv6(self) -> list[str]:
        routes = await self._links.routes(ipv6=True)
        gateway, network = f"{self._pool.ipv6_gateway}/128", self._pool.ipv6_network
        found = []
        if not any(str(r.network) == gateway and r.interface == "lo" for r in routes):
            found.append(f"the gateway {gateway} was gone")
        if not any(r.network == network and not r.interface for r in routes):
            found.append(f"the route for unused addresses of {network} was gone")
        return found

    def _unreachable(self) -> dict[str, Any]:
        return {
            "dst": str(self._pool.network), "type": "unreachable", "priority": _UNREACHABLE_METRIC
        }  # fmt: skip

    def _unreachable_by_ipv6(self) -> dict[str, Any]:
        return {
            "dst": str(self._pool.ipv6_network), "type": "unreachable",
            "priority": _UNREACHABLE_METRIC, "family": socket.AF_INET6,
        }  # fmt: skip

    async def attach(self, netns: int, link: SandboxLink) -> None:
        """Create the pair of links, its addresses and routes on both sides."""
        refuse_eni(link)
        await self._within(netns, partial(self._make, link))

    async def _within(self, netns: int, make: Callable[[Any, Any], Any]) -> None:
        """Run ``make(host, task)`` in the lane, with a socket in the namespace."""

        async def work(host: Any) -> None:
            async with socket_inside(netns) as task:
                await make(host, task)

        await self._lane.call(work)

    async def _make(self, link: SandboxLink, host: Any, task: Any) -> None:
        end = self._end_of(link)
        await make_pair(host, task, link, TASK_INTERFACE, TASK_INDEX)
        everywhere = f"{ADDRESS}/32" if link.ipv6_only else "0.0.0.0/0"
        errors = await pipelined(
            task.link("set", index=TASK_INDEX, state="up"),
            task.addr("add", index=TASK_INDEX, address=link.ipv4, prefixlen=link.prefix_len),
            task.neigh(
                "replace", dst=link.gateway, lladdr=end.host_mac, ifindex=TASK_INDEX,
                state=PERMANENT,
            ),
            task.route(
                "replace", dst=f"{link.gateway}/32", oif=TASK_INDEX, scope=LINK_SCOPE
            ),
            task.route("replace", dst=everywhere, gateway=link.gateway, oif=TASK_INDEX),
            *way_out_by_ipv6(task, link, end.host_mac),
            *blackholes(task, link.blocked),
        )  # fmt: skip
        raise_first(link, "configuring the interface", [*errors, await host_ends.set_up(host, end)])

    def _end_of(self, of: SandboxRecord | SandboxLink) -> HostEnd:
        ipv4, gateway, ipv6 = of.ipv4, of.gateway, of.ipv6
        end = HostEnd(of.host_interface, mac_of(ipv4), ipv4, mac_of(gateway), gateway)
        if ipv6 is None:
            return end
        return end._replace(ipv6=ipv6.address, ipv6_source=ipv6.gateway)

    async def present(self) -> frozenset[str]:
        """Return the names of the links of tasks that are on no bridge."""
        return await self._block(host_ends.present)

    async def places(self, records: Collection[SandboxRecord]) -> dict[str, Place]:
        """Return the state of each link."""
        names = [record.host_interface for record in records]
        return await self._block(host_ends.places, names)

    async def put_back(self, records: Collection[SandboxRecord]) -> None:
        """Set up the host ends of existing links again."""

        async def work(host: Any) -> None:
            for record in records:
                try:
                    error = await host_ends.set_up(host, self._end_of(record))
                except OSError:
                    continue  # it is gone meanwhile
                if refused(error, errno.ENODEV):
                    raise failure(f"setting up {record.host_interface}", error)

        await self._lane.call(work)

    async def unknown(self, records: Collection[SandboxRecord]) -> list[SandboxRecord]:
        """Return the tasks to which the host has no neighbour entry or no route."""
        by_end = {self._end_of(record): record for record in records}
        ends = await self._block(host_ends.unknown, list(by_end))
        return [by_end[end] for end in ends]

    async def make_known(self, records: Collection[SandboxRecord]) -> None:
        """Restore neighbours and routes."""

        async def work(host: Any) -> None:
            for record in records:
                try:
                    number = socket.if_nametoindex(record.host_interface)
                except OSError:
                    continue
                for error in await pipelined(*host_ends.ways(host, number, self._end_of(record))):
                    if refused(error, errno.ENODEV, errno.ENETDOWN):
                        raise failure(f"restoring the way to {record.ipv4}", error)

        await self._lane.call(work)

    async def detach(self, link: str) -> None:
        """Remove a pair of links; routes and neighbours of it go with it."""
        await self._links.delete(link)

    async def remove(self) -> None:
        """Remove the gateway and the route for addresses that nobody has."""

        async def work(host: Any) -> None:
            errors = await pipelined(
                host.addr("del", index=_LOOPBACK, address=self._pool.gateway, prefixlen=32),
                host.route("del", **self._unreachable()),
                *self._remove_ipv6(host),
            )
            for error in errors:
                if refused(error, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT):
                    raise failure("removing the gateway of tasks", error)

        await self._lane.call(work)

    def _remove_ipv6(self, host: Any) -> list[Any]:
        if self._pool.ipv6_network is None:
            return []
        gateway = self._pool.ipv6_gateway
        return [
            host.addr("del", index=_LOOPBACK, address=gateway, prefixlen=128),
            host.route("del", **self._unreachable_by_ipv6()),
        ]

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)


async def make_pair(host: Any, task: Any, link: SandboxLink, name: str, number: int) -> None:
    """Create a veth pair from inside the namespace; replaces what is left of an earlier one.

    The task's end has the MAC derived from its address, whatever other MAC the task has.
    """
    for last_try in (False, True):
        added, silenced = await pipelined(
            task.link(
                "add", ifname=name, kind="veth", index=number, mtu=link.mtu,
                address=mac_of(link.ipv4),
                peer={"ifname": link.host_interface, "mtu": link.mtu, "net_ns_pid": os.getpid()},
            ),
            task.link("set", index=number, af_spec=NO_IPV6_ADDRESS),
        )  # fmt: skip
        if added is None:
            break
        if last_try or added.code != errno.EEXIST:
            raise failure(f"creating the link {link.host_interface} of {link.ipv4}", added)
        # One end may have been renamed or moved; removing either end removes the pair.
        await pipelined(host.link("del", ifname=link.host_interface), task.link("del", ifname=name))
    if refused(silenced, errno.EAFNOSUPPORT):
        raise failure(f"configuring the link of {link.ipv4}", silenced)


def refuse_eni(link: SandboxLink) -> None:
    """Refuse a task whose interface is an ENI: only the bridge has links to the agent alone.

    Raises:
        NetworkFailure: it is one; the text names the setting.
    """
    if link.agent_only:
        raise NetworkFailure(f"a task with an ENI needs {DRIVER_SETTING}=bridge on its host")


def raise_first(link: SandboxLink, what: str, errors: Iterable[NetlinkError | None]) -> None:
    """Raise the first error of a task's link as ``NetworkFailure``."""
    worst = next((error for error in errors if error is not None), None)
    if worst is not None:
        raise failure(f"{what} {link.host_interface} of {link.ipv4}", worst)
