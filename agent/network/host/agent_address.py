"""169.254.170.2, where containers and the host's own processes find the agent's server.

It is an address of this host, on the loopback link, so that nothing sent there ever leaves the host, and no
address of 127.0.0.0/8 has to become reachable from outside. Port 80 of it leads to the port on which the
agent's server listens (``firewall``), so that a program that listens on port 80 of every address goes on to
work. Linux answers for an address on every link, so packets to it are dropped unless they come from this
host, the engine's default bridge or the tasks' bridge; those of bridges may only go to the server.

The introspection port is closed in the same way: open for this host and the engine's default bridge.
Other ports of the agent and of a control endpoint on this host are closed to the bridges alone.

Source of address and ports: Amazon ECS agent 1.105.1, ``ecs-init/exec/iptables``, which opens the loopback
to every link instead, and then filters.
Tests: ``tests/unit/network/host/test_shared.py``,
``tests/integration/network/test_agent_address.py``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from agent.config.addresses import TASK_ADDRESS
from agent.network.kernel import nft
from agent.network.kernel.netlink import LINK_SCOPE, failure

if TYPE_CHECKING:
    from agent.network.kernel.netlink import NetlinkLane

ADDRESS: Final = TASK_ADDRESS
PORT: Final = 80
LOOPBACK: Final = "lo"
CLOSED: Final = "tasks to ports of control and agent"
"""Comment of the rules that close ports to tasks."""
LOOPBACK_INDEX: Final = 1
"""The kernel's index of the loopback, in every namespace."""
_LOCAL: Final = 2
"""``RTN_LOCAL``: packets to the address are for this host."""
_HOST_SCOPE: Final = 254
"""``RT_SCOPE_HOST``: the address is never the source of packets to others."""

Expressions = list[dict[str, Any]]


class Doors(NamedTuple):
    """Who may reach the agent's own ports, besides this host."""

    server_port: int
    """Of the agent's server at ``ADDRESS``."""
    engine_bridge: str
    """Link of the engine's default bridge; empty if it has none."""
    task_bridge: str
    """Link of the tasks' bridge; empty if tasks have links of their own."""
    introspection_port: int = 0
    """Port that is closed to other hosts and to tasks with an address of their own; 0 for none."""
    closed_ports: tuple[int, ...] = ()
    """TCP ports of this host, at any address of it, that containers on the bridges must not reach."""


def to_server(doors: Doors) -> Expressions:
    """Return the expressions of the rule that leads to the server's port. Pure."""
    return [
        nft.match(nft.field("ip", "daddr"), ADDRESS),
        nft.match(nft.field("tcp", "dport"), PORT),
        {"dnat": {"family": "ip", "addr": ADDRESS, "port": doors.server_port}},
    ]


def to_closed_ports(doors: Doors) -> Expressions:
    """Return the expressions that drop packets to closed ports. Pure; there must be such ports."""
    closed = {"set": sorted(doors.closed_ports)}
    return [nft.match(nft.field("tcp", "dport"), closed), *nft.COUNTED_DROP]


def guard(doors: Doors) -> list[nft.Rule]:
    """Return the rules for packets to this host, in their order. Pure."""
    to_agent = nft.match(nft.field("ip", "daddr"), ADDRESS)
    bridges = sorted({doors.engine_bridge, doors.task_bridge} - {""})
    rules: list[nft.Rule] = [
        ("this host", [nft.match(nft.meta("iifname"), LOOPBACK), {"accept": None}]),
    ]
    if bridges:
        from_bridge = nft.match(nft.meta("iifname"), {"set": bridges})
        # By UDP, the same port answers questions for names of tasks (``agent.dns``), if anything does.
        protocols = nft.match(nft.meta("l4proto"), {"set": ["tcp", "udp"]})
        server = nft.match(nft.field("th", "dport"), doors.server_port)
        accepted = [to_agent, from_bridge, protocols, server, {"accept": None}]
        rules.append(("containers to the agent's server", accepted))
    rules.append(("others to the agent's address", [to_agent, *nft.COUNTED_DROP]))
    if bridges and doors.closed_ports:
        from_bridge = nft.match(nft.meta("iifname"), {"set": bridges})
        rules.append((CLOSED, [from_bridge, *to_closed_ports(doors)]))
    if not doors.introspection_port:
        return rules
    introspection = nft.match(nft.field("tcp", "dport"), doors.introspection_port)
    if doors.engine_bridge:
        from_engine = nft.match(nft.meta("iifname"), doors.engine_bridge)
        rules.append(
            ("containers to introspection", [from_engine, introspection, {"accept": None}])
        )
    return [*rules, ("others to introspection", [introspection, *nft.COUNTED_DROP])]


class AgentAddress:
    """The address of one host. Safe for concurrent use by tasks of one event loop."""

    def __init__(self, lane: NetlinkLane) -> None:
        """Nothing is touched before ``ensure``."""
        self._lane = lane

    async def ensure(self) -> bool:
        """Add the address where it is missing, and return whether it was. Repeatable.

        Raises:
            NetworkFailure: the kernel refused.
        """

        async def work(host: Any) -> bool:
            try:
                (found,) = await host.route("get", dst=ADDRESS)
                if found.get("type") == _LOCAL:
                    return False
            except NetlinkError:
                pass  # there is no way at all
            try:
                await host.addr(
                    "add", index=LOOPBACK_INDEX, address=ADDRESS, prefixlen=32, scope=_HOST_SCOPE
                )
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise failure(f"adding the address {ADDRESS}", error) from error
            await _remove_route(host)
            return True

        return await self._lane.call(work)

    async def is_present(self) -> bool:
        """Return whether this host has the address; changes nothing."""

        async def work(host: Any) -> bool:
            try:
                (found,) = await host.route("get", dst=ADDRESS)
            except NetlinkError:
                return False  # there is no way at all
            return bool(found.get("type") == _LOCAL)

        return await self._lane.call(work)

    async def remove(self) -> None:
        """Remove the address; an absent one is success.

        Raises:
            NetworkFailure: the kernel refused.
        """

        async def work(host: Any) -> None:
            try:
                await host.addr("del", index=LOOPBACK_INDEX, address=ADDRESS, prefixlen=32)
            except NetlinkError as error:
                if error.code != errno.EADDRNOTAVAIL:
                    raise failure(f"removing the address {ADDRESS}", error) from error
            await _remove_route(host)

        await self._lane.call(work)


async def _remove_route(host: Any) -> None:
    """Remove the route by which earlier versions of the agent led to their server."""
    try:
        await host.route("del", dst=f"{ADDRESS}/32", oif=LOOPBACK_INDEX, scope=LINK_SCOPE)
    except NetlinkError as error:
        if error.code not in (errno.ESRCH, errno.ENOENT):
            raise failure(f"removing the route to {ADDRESS}", error) from error
