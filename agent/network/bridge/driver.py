"""The driver ``bridge``: a veth per task on a bridge of ours, whose rules decide what passes each port."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Interface, ip_interface
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.network import addresses
from agent.network.background import uninterrupted
from agent.network.bridge import bridge_ports
from agent.network.bridge.bridge_port_rules import BridgePortRules, Layout
from agent.network.bridge.links import bridge_port_of
from agent.network.drivers.contract import Subnet, WatchedLink
from agent.network.drivers.leases import lease_behind, refuse_without_ipv6
from agent.network.drivers.overlaps import refuse_overlap
from agent.network.host_routes import not_of_links

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from concurrent.futures import Executor

    from agent.network.address_pool import AddressPool, Ipv6Lease
    from agent.network.bridge.bridge_ports import Place
    from agent.network.bridge.links import HostLinks, SandboxLink
    from agent.network.drivers.opening import DriverParts
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.settings import NetworkSettings

T = TypeVar("T")


class BridgeConfig(NamedTuple):
    """The input for the bridge and the rules."""

    bridge_addresses: frozenset[str]
    """Of both families, with their prefix lengths."""
    pools: frozenset[str]
    ipv6_pools: frozenset[str] = frozenset()


def shape_of(pool: AddressPool, records: Iterable[SandboxRecord]) -> BridgeConfig:
    """Return the shape for the current pool, and for tasks with addresses of an earlier one."""
    known = list(records)
    gateways = {f"{pool.gateway}/{pool.prefix_len}"}
    gateways.update(f"{record.gateway}/{record.prefix_len}" for record in known)
    pools = {str(IPv4Interface(gateway).network) for gateway in gateways}
    ipv6 = pool.ipv6_network
    if ipv6 is None:
        return BridgeConfig(frozenset(gateways), frozenset(pools))
    # Tasks with IPv6 have it from this pool: another one is refused while there are such tasks.
    by_ipv6 = f"{pool.ipv6_gateway}/{ipv6.prefixlen}"
    return BridgeConfig(frozenset({*gateways, by_ipv6}), frozenset(pools), frozenset({str(ipv6)}))


def layout_of(shape: BridgeConfig, bridge: str) -> Layout:
    """Return the input for the rules for ports. Pure."""
    own = [ip_interface(address) for address in shape.bridge_addresses]
    return Layout(
        pools=shape.pools,
        gateways=frozenset(str(each.ip) for each in own if each.version == 4),
        task_links=(bridge,),
        ipv6_pools=shape.ipv6_pools,
        ipv6_gateways=frozenset(str(each.ip) for each in own if each.version == 6),
    )


async def open_bridge(parts: DriverParts) -> BridgeDriver:
    """Return the driver; raises ``NetworkFailure`` if the pool overlaps another network."""
    settings = parts.settings
    routes = await parts.links.routes()
    if any(r.interface == "lo" and str(r.network) == f"{parts.pool.gateway}/32" for r in routes):
        from agent.network.drivers.routed import RoutedDriver  # noqa: PLC0415 - only after a change

        left = RoutedDriver(parts, mtu=0)
        await left.remove()
        await asyncio.get_running_loop().run_in_executor(parts.files, left.rules.remove)
        routes = await parts.links.routes()
    refuse_overlap(parts.pool, settings.bridge, routes)
    if parts.pool.ipv6_network is not None:
        await refuse_without_ipv6(parts)
        by_ipv6 = await parts.links.routes(ipv6=True)
        refuse_overlap(parts.pool, settings.bridge, not_of_links(by_ipv6, parts.pool), ipv6=True)
    mtu = settings.mtu or await parts.links.default_mtu() - settings.tunnel_bytes
    return BridgeDriver(settings, links=parts.links, pool=parts.pool, files=parts.files, mtu=mtu)


class BridgeDriver:
    """Implements ``TaskDriver`` by a bridge of ours."""

    name = "bridge"
    table_inside = ""

    def __init__(
        self,
        settings: NetworkSettings,
        *,
        links: HostLinks,
        pool: AddressPool,
        files: Executor,
        mtu: int,
    ) -> None:
        """Take the parts; nothing is changed before ``ensure``."""
        self.rules = BridgePortRules(settings.table, settings.blocked_addresses)
        self._bridge = settings.bridge
        self._links = links
        self._pool = pool
        self._masquerades = settings.ipv6_masquerade and pool.ipv6_network is not None
        self._files = files
        self._mtu = mtu

    @property
    def subnet(self) -> Subnet:
        """The pool; its first address is the bridge's."""
        return Subnet(self._pool.prefix_len, self._pool.gateway)

    @property
    def mtu(self) -> int:
        """MTU in bytes of new tasks' interfaces."""
        return self._mtu

    @property
    def watched(self) -> WatchedLink:
        """The bridge."""
        index = self._links.bridge_index
        return WatchedLink(self._bridge, index, addresses.mac_of(self._pool.gateway), index)

    def mac_of(self, ipv4: str) -> str:
        """Return the derived MAC."""
        return addresses.mac_of(ipv4)

    def layout(self, records: Iterable[SandboxRecord]) -> Layout:
        """Return the pools and the bridge's addresses."""
        return layout_of(shape_of(self._pool, records), self._bridge)._replace(
            ipv6_masquerade=self._masquerades,
            agent_side_pool=str(self._pool.network) if self._pool.is_ipv6_only else "",
        )

    def ipv6_of(self, ipv4: str) -> Ipv6Lease | None:
        """Return the address alone: everything else is behind the bridge's."""
        return lease_behind(self._pool, ipv4)

    async def ensure(self, records: Collection[SandboxRecord]) -> list[str]:
        """Create or correct the bridge."""
        wanted = shape_of(self._pool, records).bridge_addresses
        mac = addresses.mac_of(self._pool.gateway)
        return await self._links.ensure_bridge(wanted, mac, self._mtu)

    async def differences(self, records: Collection[SandboxRecord]) -> list[str]:
        """Return what is wrong with the bridge."""
        wanted = shape_of(self._pool, records).bridge_addresses
        mac = addresses.mac_of(self._pool.gateway)
        return await self._links.bridge_differences(wanted, mac)

    async def attach(self, netns: int, link: SandboxLink) -> None:
        """Create the pair of links, on the bridge and up."""
        # The descriptor must stay open until the thread has done with it.
        await uninterrupted(self._block(self._links.attach, netns, link))

    async def present(self) -> frozenset[str]:
        """Return the names of the links on the bridge."""
        return await self._block(bridge_ports.on_bridge, self._bridge)

    async def places(self, records: Collection[SandboxRecord]) -> dict[str, Place]:
        """Return the state of each port."""
        ports = [bridge_port_of(record) for record in records]
        return await self._block(bridge_ports.places, ports, self._bridge)

    async def put_back(self, records: Collection[SandboxRecord]) -> None:
        """Put existing links on the bridge, up, and closed to frames for others."""
        await self._block(self._links.join, [bridge_port_of(record) for record in records])

    async def unknown(self, records: Collection[SandboxRecord]) -> list[SandboxRecord]:
        """Return the tasks that are not permanent neighbours of the host on the bridge."""
        by_port = {bridge_port_of(record): record for record in records}
        ports = await self._block(bridge_ports.unknown_neighbours, list(by_port), self._bridge)
        return [by_port[port] for port in ports]

    async def make_known(self, records: Collection[SandboxRecord]) -> None:
        """Restore the host's neighbours, which a bridge loses with its state, address or MAC."""
        await self._links.set_neighbours([bridge_port_of(record) for record in records])

    async def detach(self, link: str) -> None:
        """Remove a pair of links with its neighbour."""
        await self._links.delete(link)

    async def remove(self) -> None:
        """Remove the bridge."""
        await self._links.delete(self._bridge)

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)
