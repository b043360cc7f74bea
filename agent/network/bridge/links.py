"""The bridge and the sandbox links, as netlink requests.

Every operation describes a desired state and is idempotent: existing objects are compared or
replaced, and missing ones count as removed. Two datagrams create a sandbox's link: one is sent inside
the namespace, one on the host, by threads that may block.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from functools import partial
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure
from agent.network.bridge import bridge_port_setup
from agent.network.bridge.bridge_port_rules import BridgePort
from agent.network.bridge.bridge_shape import addresses_of, shape_bridge
from agent.network.bridge.egress_links import leading_outside
from agent.network.bridge.task_end import link_failure, make_task_end
from agent.network.host_routes import Route
from agent.network.kernel.netlink import failure, pipelined, refused
from agent.network.settings import BRIDGE_SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from agent.network.address_pool import Ipv6Lease
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.sandbox_record import SandboxRecord

TASK_INTERFACE = "eth0"
AGENT_INTERFACE = "ecs-eth0"
"""Of a task whose ``eth0`` leads past this host: by it, the task reaches the agent. As on Amazon ECS."""
_SKIP_STATS = 1 << 3
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_SOMEWHERE = "192.0.2.1"
"""An address that only the default route reaches; nothing is sent there."""
_NOWHERE = (6, 7, 8)
"""``RTN_BLACKHOLE``, ``RTN_UNREACHABLE``, ``RTN_PROHIBIT``."""
_DEFAULT_MTU = 1500


class HostLink(NamedTuple):
    """One link of the host."""

    name: str
    number: int
    """The kernel's index of the link."""
    kind: str
    master: int
    mtu: int
    is_up: bool


class SandboxLink(NamedTuple):
    """Properties of a sandbox's link."""

    host_interface: str
    mac: str
    ipv4: str
    prefix_len: int
    gateway: str
    mtu: int
    blocked: tuple[str, ...] = ()
    agent_only: bool = False
    """The link leads to the agent's address alone; the rest goes through an ENI."""
    ipv6: Ipv6Lease | None = None
    """Address and way out by IPv6; None without it."""
    ipv6_only: bool = False
    """The IPv4 address leads to the agent's address alone."""

    @property
    def interface(self) -> str:
        """Name of the link in the namespace."""
        return AGENT_INTERFACE if self.agent_only else TASK_INTERFACE


def bridge_port_of(spec: SandboxLink | SandboxRecord) -> BridgePort:
    """Return the port, for the rules, of a sandbox's link. Pure."""
    ipv6 = spec.ipv6.address if spec.ipv6 is not None else ""
    return BridgePort(spec.host_interface, spec.mac, spec.ipv4, ipv6)


class HostLinks:
    """Bridge and links of one agent. Safe for concurrent use by tasks of one event loop."""

    def __init__(
        self, lane: NetlinkLane, bridge: str, ipv6_of: Callable[[str], str] = lambda _ipv4: ""
    ) -> None:
        """Take the parts; nothing is changed.

        Args:
            lane: the thread for netlink.
            bridge: name of the tasks' bridge.
            ipv6_of: returns the IPv6 address of the task with an IPv4 address; empty if it has none.
        """
        self._lane = lane
        self._bridge = bridge
        self._ipv6_of = ipv6_of
        self._bridge_index = 0
        self._doomed: dict[str, asyncio.Future[None]] = {}
        self._sweep: asyncio.Task[None] | None = None

    @property
    def bridge_index(self) -> int:
        """The kernel's last known index of the bridge; 0 before ``ensure_bridge``."""
        return self._bridge_index

    async def links(self) -> dict[str, HostLink]:
        """Return all links of the host by name."""

        async def work(host: Any) -> dict[str, HostLink]:
            messages = await self._lane.dump(host.link, ext_mask=_SKIP_STATS)
            return {link.name: link for link in map(_link, messages)}

        return await self._lane.call(work)

    async def names(self) -> frozenset[str]:
        """Return only the names of all links of the host, at a twentieth of ``links``' cost."""

        async def work(host: Any) -> frozenset[str]:
            del host
            return frozenset(name for _, name in socket.if_nameindex())

        return await self._lane.call(work)

    async def routes(self, *, ipv6: bool = False) -> list[Route]:
        """Return the host's routes in all tables except ``local``, and its addresses, of one family."""
        family = socket.AF_INET6 if ipv6 else socket.AF_INET

        async def work(host: Any) -> list[Route]:
            links = await self._lane.dump(host.link, ext_mask=_SKIP_STATS)
            names = {message["index"]: message.get("ifname") for message in links}
            routes = await self._lane.dump(host.route, family=family)
            addresses = await self._lane.dump(host.addr, family=family)
            return [
                *[_route(message, names) for message in routes if message.get("table") != 255],
                *[_address(message, names) for message in addresses],
            ]

        return await self._lane.call(work)

    async def leading_outside(self) -> frozenset[str]:
        """Return the names of the links through which packets leave this host."""

        async def work(host: Any) -> frozenset[str]:
            messages = await self._lane.dump(host.link, ext_mask=_SKIP_STATS)
            addresses = await self._lane.dump(host.addr, family=socket.AF_INET)
            default = 0
            with contextlib.suppress(NetlinkError):
                (route,) = await host.route("get", dst=_SOMEWHERE)
                default = route.get("oif") or 0
            return leading_outside(
                map(_link, messages),
                addressed={message["index"] for message in addresses},
                default=default,
            )

        return await self._lane.call(work)

    async def default_mtu(self) -> int:
        """Return the MTU of the link with the host's default route, or 1500 without one.

        A route by IPv6 counts only on a host without one by IPv4.
        """
        links = await self.links()
        for ipv6 in (False, True):
            for route in await self.routes(ipv6=ipv6):
                if route.network.prefixlen == 0 and route.interface in links:
                    return links[route.interface].mtu
        return _DEFAULT_MTU

    async def ensure_bridge(self, addresses: Iterable[str], mac: str, mtu: int) -> list[str]:
        """Create the bridge, or correct the existing one; return what was wrong with it.

        Args:
            addresses: with their prefix lengths; all others are removed from the bridge.
            mac: set explicitly, so that it does not follow the lowest MAC of the ports.
            mtu: MTU of the bridge; ports may have other ones.

        Raises:
            NetworkFailure: the name belongs to a link that is not a bridge.
        """
        wanted = frozenset(str(ip_interface(address)) for address in addresses)

        async def work(host: Any) -> tuple[int, list[str]]:
            is_new = True
            try:
                await host.link(
                    "add", ifname=self._bridge, kind="bridge", address=mac, mtu=mtu,
                    br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0,
                )  # fmt: skip
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise failure(f"creating the bridge {self._bridge}", error) from error
                is_new = False
            (message,) = await host.link("get", ifname=self._bridge)
            bridge = _link(message)
            if bridge.kind != "bridge":
                raise NetworkFailure(
                    f"{BRIDGE_SETTING}={self._bridge} is a link of kind {bridge.kind or 'device'}; "
                    "choose an unused name"
                )
            present = addresses_of(await self._lane.dump(host.addr, index=bridge.number))
            wrong = await shape_bridge(host, bridge, present, wanted)
            if message.get("address") != mac:
                wrong.append("with another MAC address")
                (refusal,) = await pipelined(host.link("set", index=bridge.number, address=mac))
                if refusal is not None:
                    raise failure(f"setting the MAC address of {self._bridge}", refusal)
            return bridge.number, ["gone"] if is_new else wrong

        self._bridge_index, wrong = await self._lane.call(work)
        return [f"bridge {self._bridge} was {' and '.join(wrong)}"] if wrong else []

    async def bridge_differences(self, addresses: Iterable[str], mac: str) -> list[str]:
        """Return what ``ensure_bridge`` would correct, in its words; changes nothing."""
        wanted = frozenset(str(ip_interface(address)) for address in addresses)

        async def work(host: Any) -> list[str]:
            try:
                (message,) = await host.link("get", ifname=self._bridge)
            except NetlinkError:
                return ["gone"]
            bridge = _link(message)
            present = addresses_of(await self._lane.dump(host.addr, index=bridge.number))
            wrong = [f"without {address}" for address in sorted(wanted - present)]
            wrong += [f"with {address}" for address in sorted(present - wanted)]
            wrong += [] if bridge.is_up else ["down"]
            if not wrong:
                families = {ip_interface(address).version for address in wanted}
                routes = [
                    message
                    for version in families
                    for message in await self._lane.dump(
                        host.route, family=_FAMILIES[version], oif=bridge.number
                    )
                ]
                reached = {f"{m.get('dst')}/{m['dst_len']}" for m in routes}
                networks = {str(ip_interface(address).network) for address in wanted}
                wrong += [f"without its route to {each}" for each in sorted(networks - reached)]
            return wrong + ([] if message.get("address") == mac else ["with another MAC address"])

        wrong = await self._lane.call(work)
        return [f"bridge {self._bridge} was {' and '.join(wrong)}"] if wrong else []

    def attach(self, netns: int, spec: SandboxLink) -> None:
        """Create the interface of a namespace: link, address, routes, on the bridge and up.

        A host link with the same name is a leftover and is replaced. Blocks, for any number of threads.

        Args:
            netns: descriptor of the namespace; stays open.
            spec: properties of the link.

        Raises:
            NetworkFailure: the kernel refused.
        """
        make_task_end(netns, spec)
        error = bridge_port_setup.join_bridge(self._bridge_index, bridge_port_of(spec))
        if error is not None:
            raise link_failure("putting on the bridge", spec, error)

    def join(self, ports: Iterable[BridgePort]) -> None:
        """Put links (back) on the bridge and up, see ``bridge_port_setup``; missing links are skipped. Blocks.

        Raises:
            NetworkFailure: the kernel refused.
        """
        for port in ports:
            error = bridge_port_setup.join_bridge(self._bridge_index, port)
            if refused(error, errno.ENODEV):
                raise failure(f"putting {port.link} on the bridge", error)

    async def set_neighbours(
        self, present: Collection[BridgePort], absent: Collection[str] = ()
    ) -> None:
        """Add permanent neighbours of the host on the bridge, and remove others; idempotent."""

        async def work(host: Any) -> None:
            bridge = self._bridge_index
            errors = await bridge_port_setup.know(host, bridge, present)
            errors += await bridge_port_setup.forget(host, bridge, absent)
            for error in errors:
                if refused(error, errno.ENOENT, errno.ENODEV):
                    raise failure("setting the neighbours of the host", error)

        await self._lane.call(work)

    async def delete(self, name: str) -> None:
        """Remove a link; not an error if it does not exist.

        Concurrent calls share one removal, which costs as much as that of a single link.
        """
        waiting = self._doomed.get(name)
        if waiting is None:
            waiting = asyncio.get_running_loop().create_future()
            self._doomed[name] = waiting
        if self._sweep is None or self._sweep.done():
            self._sweep = asyncio.create_task(self._sweep_doomed(), name="sweep-links")
        await asyncio.shield(waiting)

    async def _sweep_doomed(self) -> None:
        while self._doomed:
            doomed, self._doomed = self._doomed, {}
            try:
                await self._lane.call(
                    partial(
                        bridge_port_setup.remove,
                        names=tuple(doomed),
                        bridge=self._bridge_index,
                        ipv6_of=self._ipv6_of,
                    )
                )
            except NetworkFailure as error:
                for waiting in doomed.values():
                    if not waiting.done():
                        waiting.set_exception(NetworkFailure(str(error)))
                        waiting.exception()  # the caller may be gone: avoid a warning
            else:
                for waiting in doomed.values():
                    if not waiting.done():
                        waiting.set_result(None)
            finally:
                for waiting in doomed.values():
                    waiting.cancel()


def _link(message: Any) -> HostLink:
    info = message.get("linkinfo")
    return HostLink(
        name=message.get("ifname"),
        number=message["index"],
        kind=(info.get("kind") or "") if info else "",
        master=message.get("master") or 0,
        mtu=message.get("mtu") or _DEFAULT_MTU,
        is_up=bool(message["flags"] & 1),
    )


def _route(message: Any, names: Mapping[int, str]) -> Route:
    everything = "::" if message["family"] == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - a route
    destination = message.get("dst") or everything
    # By IPv6, such a route has the loopback as its link.
    leads_nowhere = message.get("type") in _NOWHERE
    return Route(
        network=ip_network(f"{destination}/{message['dst_len']}", strict=False),
        interface="" if leads_nowhere else names.get(message.get("oif") or 0, ""),
        via_gateway=message.get("gateway") is not None,
    )


def _address(message: Any, names: Mapping[int, str]) -> Route:
    interface = ip_interface(f"{message.get('IFA_ADDRESS')}/{message['prefixlen']}")
    return Route(interface.network, names.get(message["index"], ""), via_gateway=False)
