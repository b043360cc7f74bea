"""The drivers ``macvlan`` and ``ipvlan``: tasks as neighbours of the hosts on a link of this host.

A task's ``eth0`` is a child of the parent link, with an address of the parent's network. The kernel
lets nothing pass between a parent's own addresses and its children, so each task has a second link,
``ecs-eth0``, for this host only: to the agent's server, and for the host's own connections to the
task, which come from ``169.254.170.2``. Through it, a task reaches nothing else of the host.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.errors import NetworkFailure
from agent.network.address_pool import Ipv6Lease
from agent.network.addresses import mac_of, mac_of_ipv6
from agent.network.bridge.bridge_ports import Place
from agent.network.bridge.links import AGENT_INTERFACE, TASK_INTERFACE
from agent.network.bridge.task_end import TASK_INDEX, blackholes, way_out_by_ipv6
from agent.network.drivers import host_ends, parent, sandbox_rules
from agent.network.drivers.contract import Subnet, WatchedLink
from agent.network.drivers.host_ends import HostEnd
from agent.network.drivers.leases import refuse_without_ipv6
from agent.network.drivers.overlaps import refuse_overlap
from agent.network.drivers.routed import (
    RoutedDriver,
    layout_of,
    make_pair,
    raise_first,
    refuse_eni,
    retire_bridge,
)
from agent.network.host.agent_address import ADDRESS
from agent.network.host_routes import not_of_links
from agent.network.kernel.netlink import (
    LINK_SCOPE,
    NO_IPV6_ADDRESS,
    PERMANENT,
    failure,
    pipelined,
    refused,
)
from agent.network.settings import DRIVER_SETTING, PARENT_SETTING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.network.bridge.bridge_port_rules import Layout
    from agent.network.bridge.links import SandboxLink
    from agent.network.drivers.opening import DriverParts
    from agent.network.drivers.parent import Parent
    from agent.network.sandbox_record import SandboxRecord

_HOST_INDEX: Final = 101
_HOST_MAC: Final = mac_of(ADDRESS)
_PROBE: Final = "ecs-probe0"


class Kind(NamedTuple):
    """What kind of child a task gets."""

    name: str
    """As in ``ECS_TASK_NETWORK_DRIVER``."""
    kernel: str
    """Name of the kernel's driver."""
    mode: dict[str, Any]
    """The kernel's attribute for the mode."""
    has_own_mac: bool
    is_on_link: bool
    """Whether tasks share a layer 2 with the parent; else everything is behind the interface."""


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("macvlan", "macvlan", {"macvlan_mode": "bridge"}, has_own_mac=True, is_on_link=True),
        Kind("ipvlan", "ipvlan", {"ipvlan_mode": 0}, has_own_mac=False, is_on_link=True),
        Kind("ipvlan-l3", "ipvlan", {"ipvlan_mode": 1}, has_own_mac=False, is_on_link=False),
    )
}


async def open_children(parts: DriverParts) -> ChildDriver:
    """Return the driver; leaves nothing behind.

    Raises:
        NetworkFailure: the parent is missing or does not fit the pool, the pool overlaps another
            network, or the kernel refuses such a child.
    """
    settings, kind = parts.settings, KINDS[parts.settings.driver]
    found = await parent.read(parts.lane, settings.parent) if settings.parent else None
    if found is None:
        raise parent.missing(settings.parent)
    await retire_bridge(parts)
    refuse_overlap(parts.pool, found.name, not_of_links(await parts.links.routes(), parts.pool))
    subnet = Subnet(32, "")
    if parts.pool.is_ipv6_only:
        subnet = Subnet(32, parts.pool.gateway)
    elif kind.is_on_link:
        subnet = parent.subnet_on(found, parts.pool, settings.gateway)
    else:
        parent.refuse_used(parts.pool, [each.partition("/")[0] for each in found.addresses])
    ipv6_subnet = await _ipv6_subnet(parts, kind, found)
    await _probe(parts, kind, found)
    return ChildDriver(parts, kind=kind, found=found, subnet=subnet, ipv6_subnet=ipv6_subnet)


async def _ipv6_subnet(parts: DriverParts, kind: Kind, found: Parent) -> Subnet:
    """Return what tasks are told by IPv6; of no use without a pool of it.

    Raises:
        NetworkFailure: the parent does not fit the pool, or the pool overlaps another network.
    """
    if parts.pool.ipv6_network is None:
        return Subnet(128, "")
    await refuse_without_ipv6(parts)
    routes = not_of_links(await parts.links.routes(ipv6=True), parts.pool)
    refuse_overlap(parts.pool, found.name, routes, ipv6=True)
    if kind.is_on_link:
        return parent.ipv6_subnet_on(found, parts.pool, parts.settings.ipv6_gateway)
    parent.refuse_used_ipv6(parts.pool, [each.partition("/")[0] for each in found.ipv6_addresses])
    return Subnet(128, "")


async def _probe(parts: DriverParts, kind: Kind, found: Parent) -> None:
    """Create a child and remove it, to learn whether the kernel can and the parent may."""

    async def work(host: Any) -> None:
        await pipelined(host.link("del", ifname=_PROBE))
        (refusal,) = await pipelined(
            host.link("add", ifname=_PROBE, kind=kind.kernel, link=found.number, **kind.mode)
        )
        await pipelined(host.link("del", ifname=_PROBE))
        if refusal is None:
            return
        text = f"{DRIVER_SETTING}={kind.name}: {PARENT_SETTING}={found.name} "
        if refusal.code == errno.EOPNOTSUPP:
            raise NetworkFailure(
                f"{DRIVER_SETTING}={kind.name}: this kernel has no {kind.kernel}; load the module "
                f"{kind.kernel}, install the kernel's extra modules, or choose another driver"
            )
        if refusal.code == errno.EBUSY:
            raise NetworkFailure(
                f"{text}is on a bridge, or has children of another kind; name a link of its own"
            )
        raise NetworkFailure(f"{text}cannot have such children") from failure("the trial", refusal)

    await parts.lane.call(work)


class ChildDriver(RoutedDriver):
    """Implements ``TaskDriver`` by children of a parent link."""

    table_inside = sandbox_rules.TABLE

    def __init__(
        self, parts: DriverParts, *, kind: Kind, found: Parent, subnet: Subnet, ipv6_subnet: Subnet
    ) -> None:
        """Take the parts; nothing is changed before ``ensure``."""
        super().__init__(parts, mtu=min(parts.settings.mtu or found.mtu, found.mtu))
        self.name = kind.name
        self._kind = kind
        self._parent = found
        self._subnet = subnet
        self._ipv6_subnet = ipv6_subnet
        self._orphans: set[str] = set()
        """Host ends of tasks whose interface went with an earlier parent."""

    @property
    def subnet(self) -> Subnet:
        """The parent's network and its router."""
        return self._subnet

    @property
    def watched(self) -> WatchedLink:
        """The parent, whose MAC is not ours to decide; no host end is on it."""
        return WatchedLink(self._parent.name, self._parent.number, "", 0)

    def ipv6_of(self, ipv4: str) -> Ipv6Lease | None:
        """Return an address in the parent's network, with its router."""
        address = self._pool.ipv6_of(ipv4)
        return Ipv6Lease(address, *self._ipv6_subnet) if address else None

    def layout(self, records: Iterable[SandboxRecord]) -> Layout:
        """Return the pools; the host has no address in them, and forwards nothing."""
        layout = layout_of(self._pool, [each.ipv4 for each in records], ())
        return layout._replace(is_routed=False, ipv6_gateways=frozenset())

    def mac_of(self, ipv4: str) -> str:
        """Return the derived MAC, or that of the parent if tasks share it."""
        if not self._kind.has_own_mac:
            return self._parent.mac
        return mac_of_ipv6(self._pool.ipv6_of(ipv4)) if self._pool.is_ipv6_only else mac_of(ipv4)

    def _end_of(self, of: SandboxRecord | SandboxLink) -> HostEnd:
        # The gateway is another host.
        return HostEnd(of.host_interface, mac_of(of.ipv4), of.ipv4, _HOST_MAC, ADDRESS)

    async def ensure(self, records: Collection[SandboxRecord]) -> list[str]:
        """Look whether the parent is still there, and the same. Nothing of it is changed."""
        found = await parent.read(self._lane, self._parent.name)
        if found is None:
            self._orphans.update(record.host_interface for record in records)
            raise parent.missing(self._parent.name)
        is_other = found.number != self._parent.number
        self._parent = found
        if not is_other:
            return []
        self._orphans.update(record.host_interface for record in records)
        return [f"the link {found.name} was replaced"]

    async def places(self, records: Collection[SandboxRecord]) -> dict[str, Place]:
        """Return the state of each link; those whose parent was replaced are gone."""
        found = await super().places(records)
        return {name: Place.GONE if name in self._orphans else at for name, at in found.items()}

    async def remove(self) -> None:
        """Remove nothing: the parent belongs to others, and children end with their namespaces."""

    async def differences(self, records: Collection[SandboxRecord]) -> list[str]:
        """Return whether the parent is missing or another one."""
        del records
        found = await parent.read(self._lane, self._parent.name)
        if found is None:
            return [f"the link {self._parent.name} was gone"]
        is_same = found.number == self._parent.number
        return [] if is_same else [f"the link {found.name} was replaced"]

    async def attach(self, netns: int, link: SandboxLink) -> None:
        """Create the child and the link to this host, with the rules for what leaves the child."""
        refuse_eni(link)
        await self._within(netns, partial(self._make_child, netns, link))
        await self._block(
            partial(sandbox_rules.put, has_own_mac=self._kind.has_own_mac),
            netns, link, TASK_INTERFACE,
        )  # fmt: skip
        await self._within(netns, partial(self._connect, link))
        self._orphans.discard(link.host_interface)

    async def _make_child(self, netns: int, link: SandboxLink, host: Any, task: Any) -> None:
        own_mac = {"address": link.mac} if self._kind.has_own_mac else {}
        for last_try in (False, True):
            (refusal,) = await pipelined(
                host.link(
                    "add", ifname=TASK_INTERFACE, index=TASK_INDEX, kind=self._kind.kernel,
                    link=self._parent.number, mtu=link.mtu, net_ns_fd=netns,
                    **self._kind.mode, **own_mac,
                )
            )  # fmt: skip
            if refusal is None:
                break
            if last_try or refusal.code not in (errno.EEXIST, errno.EBUSY):
                raise_first(link, f"creating a child of {self._parent.name} for", [refusal])
            await pipelined(task.link("del", ifname=TASK_INTERFACE))
        (silenced,) = await pipelined(task.link("set", index=TASK_INDEX, af_spec=NO_IPV6_ADDRESS))
        if refused(silenced, errno.EAFNOSUPPORT):
            raise_first(link, "configuring the child for", [silenced])
        await make_pair(host, task, link, AGENT_INTERFACE, _HOST_INDEX)

    async def _connect(self, link: SandboxLink, host: Any, task: Any) -> None:
        end = self._end_of(link)
        errors = await pipelined(
            *_address(task, link),
            task.link("set", index=_HOST_INDEX, state="up"),
            task.link("set", index=TASK_INDEX, state="up"),
            task.neigh(
                "replace", dst=ADDRESS, lladdr=_HOST_MAC, ifindex=_HOST_INDEX,
                state=PERMANENT,
            ),
            task.route(
                "replace", dst=f"{ADDRESS}/32", oif=_HOST_INDEX, prefsrc=link.ipv4,
                scope=LINK_SCOPE,
            ),
            *_way_out(task, link),
            *way_out_by_ipv6(task, link),
            *blackholes(task, link.blocked),
        )  # fmt: skip
        raise_first(link, "configuring the interface", [*errors, await host_ends.set_up(host, end)])


def _address(task: Any, link: SandboxLink) -> list[Any]:
    """Return the request for the IPv4 address: of the child, or if it is for the agent, of the other link."""
    if link.ipv6_only:
        return [task.addr("add", index=_HOST_INDEX, address=link.ipv4, prefixlen=32)]
    return [task.addr("add", index=TASK_INDEX, address=link.ipv4, prefixlen=link.prefix_len)]


def _way_out(task: Any, link: SandboxLink) -> list[Any]:
    if link.ipv6_only:
        return []
    way_out = {"gateway": link.gateway} if link.gateway else {"scope": LINK_SCOPE}
    return [task.route("replace", dst="0.0.0.0/0", oif=TASK_INDEX, **way_out)]
